"""An adapter as another program meets it: a process that has torch, diffusers and peft, and nothing of genwright, loads base and
adapter, and its network must say what ours says.

It is asked what ours was asked while it drew images, call by call. So where every answer is the same, the images are. That can be
done where the network is a class of diffusers; of our own networks no other program has the class, which is said instead.

A model that is a whole pipeline there, with `load_lora_weights`, is loaded by that call and asked with texts besides, which its
published text encoder reads: what it draws must be what ours draws, but for the order in which schedulers add up.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from components.core.errors import RunError
from components.core.family import Family
from components.core.records import AdapterReload, Checkpoint
from components.training.adapter.files import Files, load_adapter
from components.training.adapter.merging import IMAGE_TOLERANCE, STEPS, images
from components.training.adapter.targets import network_name
from components.training.checkpoint import restore
from components.training.foreign.write import write_pipeline

NOTHING: Mapping[str, Path] = MappingProxyType({})
PROGRAM = Path(__file__).with_name("program.py")
LIMIT_S = 900.0  # of a process that imports for a minute where a machine is busy
# Of outputs, absolute where these are below 1. There is 0, and what would be added up in another order must not end a training.
ADAPTED_TOLERANCE = 1e-5
MERGED_TOLERANCE = 1e-4  # of the outputs of a whole network whose layers round otherwise
TEXTS, UNWANTED = ["a picture of one thing", ""], ["", "a picture of another"]


def reload_kept(
    base: Checkpoint, weights: Path, kept: Checkpoint, files: tuple[Path, ...], *, beside: Mapping[str, Path] = NOTHING
) -> AdapterReload:
    """What such a process makes of a checkpoint's adapter. `weights`: the base's; `files`: the checkpoint's, its weights first;
    `beside`: what of the base's published files reads texts, by their paths there.

    Raises RunError as `reload_elsewhere`.
    """
    merged, *adapter = files
    contents = {path.name: path.read_bytes() for path in adapter}
    digest = base.weights.sha256
    return reload_elsewhere(restore(base, weights), restore(kept, merged), contents, base_sha256=digest, beside=beside)


def reload_elsewhere(
    base: Family, kept: Family, files: Files, *, base_sha256: str, beside: Mapping[str, Path] = NOTHING
) -> AdapterReload:
    """What such a process makes of the files of an adapter beside its base, on the CPU. `kept`: the model with the adapter merged
    in, which is served.

    Raises RunError where the process does not load them, or its network says something else than ours, or than the kept one.
    """
    where = network_name(base)
    network = base.get_submodule(where)
    name = type(network).__name__
    if not _of_diffusers(network):
        return AdapterReload(network=name)
    with TemporaryDirectory(prefix="genwright-") as made:
        folder = Path(made)
        if base.lora_part:
            write_pipeline(base, folder / "pipeline", beside=beside)
        else:
            network.save_pretrained(folder / "network")  # type: ignore[operator] # before anything is laid beside it
        (folder / "adapter").mkdir()
        for file, content in files.items():
            (folder / "adapter" / file).write_bytes(content)
        adapted = load_adapter(base, files, base_sha256=base_sha256)
        _write_calls(folder, adapted, kept, where)
        said = _run(folder)
        text = _texts_apart(folder, adapted) if base.lora_part else None
    by, apart = tuple(said["by"]), said["apart"]
    _check(apart["adapted"], ADAPTED_TOLERANCE, "the trained model", by)
    _check(apart["merged"], MERGED_TOLERANCE, "the model that is kept", by)
    if text is not None and not text <= IMAGE_TOLERANCE:
        what = f"the adapter, loaded by {' and '.join(by)} without genwright, draws other images of a text"
        raise RunError(f"{what}: they differ by {text:.2g}", allowed=f"{IMAGE_TOLERANCE:g}")
    apart = {"difference": apart["adapted"], "merged_difference": apart["merged"], "text_difference": text}
    return AdapterReload(network=name, loaded_by=by, **apart)


def _check(apart: float, tolerance: float, model: str, by: tuple[str, ...]) -> None:
    if not apart <= tolerance:
        what = f"the adapter, loaded by {' and '.join(by)} without genwright, is not {model}"
        raise RunError(f"{what}: they differ by {apart:.2g} of outputs", allowed=f"{tolerance:g}")


def _of_diffusers(network: nn.Module) -> bool:
    """Whether diffusers has the class, and makes the very same layers of its config."""
    import diffusers

    name = type(network).__name__
    if getattr(diffusers, name, None) is not type(network):
        return False
    plain = type(network).from_config(network.config)  # type: ignore[attr-defined]
    return _layers(plain) == _layers(network)


def _layers(network: nn.Module) -> dict[str, type[nn.Module]]:
    return {name: type(module) for name, module in network.named_modules()}


@contextmanager
def _one_thread() -> Iterator[None]:
    """The same order of sums on every machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
def _write_calls(folder: Path, adapted: Family, kept: Family, where: str) -> None:
    """Each call of the adapted network while images are drawn, with its output, and what the kept network says of the same."""
    tensors: dict[str, Tensor] = {}
    calls: list[dict[str, Any]] = []
    network, plain = adapted.get_submodule(where), kept.get_submodule(where)

    def noted(value: Any, name: str) -> Any:
        if not isinstance(value, Tensor):
            return value
        tensors[name] = value.detach().clone().contiguous()
        return {"tensor": name}

    def note(_network: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], said: Any) -> None:
        number = len(calls)
        given = [noted(value, f"args.{number}.{at}") for at, value in enumerate(args)]
        named = {name: noted(value, f"kwargs.{number}.{name}") for name, value in kwargs.items()}
        tensors[f"adapted.{number}"] = said[0].detach().clone().contiguous()
        tensors[f"merged.{number}"] = plain(*args, **kwargs)[0].detach().clone().contiguous()
        calls.append({"args": given, "kwargs": named})

    for family in (adapted, kept):
        family.requires_grad_(requires_grad=False)  # torch multiplies by a weight that learns in another order
    noting = network.register_forward_hook(note, with_kwargs=True)
    with _one_thread():
        images(adapted)
    noting.remove()
    assert calls, "its network draws"
    if adapted.lora_part:
        tensors["noise"] = _noise(adapted)
    save_file(tensors, folder / "tensors.safetensors")
    told: dict[str, Any] = {"network": type(network).__name__, "calls": calls, "beside": ["adapted", "merged"]}
    if adapted.lora_part:
        told["texts"] = {"part": adapted.lora_part, "prompt": TEXTS, "negative_prompt": UNWANTED, "call": _call(adapted)}
    (folder / "asked.json").write_text(json.dumps(told))


def _call(family: Family) -> dict[str, Any]:
    """How its pipeline is called."""
    asked, (_, height, width) = family.spec.condition, family.spec.shape
    told = {"num_inference_steps": STEPS, "guidance_scale": family.config.guidance, "height": height, "width": width}  # type: ignore[attr-defined]
    # That of Stable Diffusion reads as much as its encoder does; others would cut or fill up to a number of their own.
    return told | ({"max_sequence_length": asked.length} if family.lora_part == "transformer" and asked else {})  # type: ignore[union-attr]


def _noise(family: Family) -> Tensor:
    """Of codes, an item a text."""
    return torch.randn((len(TEXTS), *family.noise_inputs()[-1].shape[-3:]), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _texts_apart(folder: Path, adapted: Family) -> float:
    """How far the images that the pipeline drew of texts differ from ours of what it read of them, on average. A written pipeline
    draws by DDIM."""
    drawn = load_file(folder / "drawn.safetensors")
    adapted.config = adapted.config.model_copy(update={"solver": "ddim"})
    with _one_thread():
        ours: Tensor = adapted.sampler(steps=STEPS).eval()(_noise(adapted), drawn["rows"])
    return float((ours - (drawn["images"] * 2 - 1)).abs().mean())


def _run(folder: Path) -> dict[str, Any]:
    """What the program says. Raises RunError in the last line that it leaves where it fails."""
    command = [sys.executable, "-I", "-W", "ignore", str(PROGRAM), str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        said: dict[str, Any] = json.loads((folder / "said.json").read_text()) if done.returncode == 0 else {}
    except subprocess.TimeoutExpired:
        raise RunError(f"the adapter was not loaded by peft and diffusers within {LIMIT_S:.0f} s", do="run it again") from None
    if not said:
        why = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise RunError(f"peft and diffusers cannot load the adapter without genwright: {why[-1]}")
    assert not said["ours"], f"imported by {PROGRAM.name}: {said['ours']}"
    return said

"""What another program does with an adapter: a process of its own loads base and adapter as peft's documentation says, and
answers what the network makes of the inputs in a folder. It imports nothing of genwright, and elsewhere.py runs it by its path:

    python -I program.py FOLDER

FOLDER/network is the base as diffusers' `save_pretrained` writes it, FOLDER/adapter the adapter's files, FOLDER/asked.json each
call of the network, FOLDER/tensors.safetensors the tensors that the calls name and the outputs that are compared with.

Of a model whose pipeline in diffusers has `load_lora_weights`, FOLDER/pipeline in the place of FOLDER/network is that pipeline:
it loads the adapter by this call, and is asked with texts, too. FOLDER/drawn.safetensors is what it made of them.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import diffusers
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file


def main() -> None:
    folder = Path(sys.argv[1])
    asked = json.loads((folder / "asked.json").read_text())
    tensors = {name: each.clone() for name, each in load_file(folder / "tensors.safetensors").items()}
    torch.set_num_threads(1)  # the same order of sums as in what it is compared with
    if asked.get("texts"):
        network = _asked_by_text(folder, asked["texts"], tensors)
    else:
        network = getattr(diffusers, asked["network"]).from_pretrained(folder / "network", use_safetensors=True)
        network = _own(PeftModel.from_pretrained(network, folder / "adapter"))
    apart: dict[str, list[torch.Tensor]] = {name: [] for name in asked["beside"]}
    for number, call in enumerate(asked["calls"]):
        with torch.no_grad():
            said = network(*(_given(each, tensors) for each in call["args"]), **_named(call["kwargs"], tensors))[0]
        for name, each in apart.items():
            other = tensors[f"{name}.{number}"]
            each.append((said - other).abs().max() / other.abs().max().clamp(min=1))
    ours = [name for name in sys.modules if name.partition(".")[0] in ("components", "flows", "genwright")]
    worst = {name: float(torch.stack(each).max()) for name, each in apart.items()}
    by = [f"{name} {version(name)}" for name in ("peft", "diffusers")]
    (folder / "said.json").write_text(json.dumps({"apart": worst, "by": by, "ours": ours}))


def _asked_by_text(folder: Path, texts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> Any:
    """The network of a pipeline that has drawn what it was asked for, the adapter loaded."""
    pipeline = diffusers.DiffusionPipeline.from_pretrained(folder / "pipeline", use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_lora_weights(folder / "adapter")
    network = _own(getattr(pipeline, texts["part"]))
    seen: list[torch.Tensor] = []  # rows of what is unwanted, then of what is wanted, in each call
    noting = network.register_forward_pre_hook(
        lambda _network, _args, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    told = texts["call"] | {"latents": tensors["noise"], "output_type": "pt"}
    images = pipeline(texts["prompt"], negative_prompt=texts["negative_prompt"], **told).images
    noting.remove()
    unwanted, wanted = seen[0].chunk(2)
    drawn = {"rows": torch.stack([wanted, unwanted], dim=1), "images": images}
    save_file({name: each.contiguous() for name, each in drawn.items()}, folder / "drawn.safetensors")
    return network


def _own(network: Any) -> Any:
    """The weights in PyTorch's own memory: where a file is mapped, sums have another order."""
    for weight in network.parameters():
        weight.data = weight.data.clone()
    return network.eval().requires_grad_(False)


def _given(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    return tensors[value["tensor"]] if isinstance(value, dict) else value


def _named(values: dict[str, Any], tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: _given(value, tensors) for name, value in values.items()}


if __name__ == "__main__":
    main()

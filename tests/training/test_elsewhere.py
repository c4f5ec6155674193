"""What a process without genwright makes of an adapter: peft and diffusers load it, and its network says what ours says."""

import json
from pathlib import Path
from typing import Any

import made_elsewhere
import pytest
import torch

from components.core.brief import LoraBrief
from components.core.errors import RunError
from components.core.records import AdapterReload
from components.training.adapter import elsewhere
from components.training.adapter.elsewhere import reload_elsewhere
from components.training.adapter.files import CONFIG, adapter_files
from components.training.adapter.merging import lora_config, lora_layers, merged
from components.training.checkpoint import load_weights, restore
from components.training.start import build
from components.training.start.lora import Lora

GIVEN = {**made_elsewhere.NETWORK, "block_out_channels": [32, 32]}
U_NETS = {
    "edm": ("diffusion/edm", {"attention": True}, {"alpha": 16, "rank": 8}),
    "plain": ("diffusion/edm", {}, {}),
    "dora": ("diffusion/edm", {}, {"dora": True}),
    "rslora": ("diffusion/edm", {}, {"rslora": True, "targets": ["conv1", "time_emb_proj"]}),
    "ddpm": ("diffusion/ddpm", {"widths": [1, 2], "attention": True}, {"alpha": 0.5, "dropout": 0.5}),
    "given": ("diffusion/ddpm", {"network": GIVEN}, {}),
    "latent": ("diffusion/latent", {}, {}),
    "ect": ("diffusion/ect", {"width": 64, "attention": True}, {}),
}


@pytest.fixture
def left(a_base: Any, tuned: Any) -> Any:
    """What a LoRA training whose matrices are not zero leaves: its base, its merged model, its files, and its base's digest."""

    def make(name: str, config: dict[str, Any] | None = None, *, conditional: bool = False, **settings: Any) -> Any:
        start = a_base(name, conditional=conditional, **(config or {}))
        lora = LoraBrief(**{"rank": 2, "alpha": 4, **settings})
        adapted = build(tuned(Lora(base=start.base, weights=start.weights, lora=lora))).eval()
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for _, layer in lora_layers(adapted):
                for each in layer.lora_B.parameters():
                    each.add_(0.1 * torch.randn(each.shape, generator=rng))
        digest, plain = start.base.weights.sha256, merged(adapted)
        files = adapter_files(
            adapted, lora_config(plain, lora, base_sha256=digest), load_weights(start.base.weights, start.weights)
        )
        return restore(start.base, start.weights), plain, files, digest

    return make


@pytest.mark.parametrize(
    "case", [pytest.param(name, marks=pytest.mark.slow if name == "edm" else pytest.mark.nightly) for name in U_NETS]
)
def test_peft_and_diffusers_alone_say_the_same_to_the_last_bit(left: Any, case: str) -> None:
    name, config, settings = U_NETS[case]
    base, kept, files, digest = left(name, config, conditional=case in ("rslora", "ect"), **settings)
    found = reload_elsewhere(base, kept, files, base_sha256=digest)
    assert found.network == "UNet2DModel"
    assert [name.partition(" ")[0] for name in found.loaded_by] == ["peft", "diffusers"]
    assert found.difference == 0
    assert found.merged_difference is not None
    assert found.merged_difference < 1e-5


@pytest.mark.nightly
def test_what_they_load_otherwise_ends_the_training(left: Any) -> None:
    """Without alpha, and cut short: as users of other tools met it, in silence."""
    base, kept, files, digest = left("diffusion/edm", alpha=32)
    without = json.loads(files[CONFIG]) | {"lora_alpha": 2}
    with pytest.raises(
        RunError, match=r"loaded by peft \S+ and diffusers \S+ without genwright, is not the model that is kept: "
    ):
        reload_elsewhere(base, kept, {**files, CONFIG: json.dumps(without).encode()}, base_sha256=digest)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Another program in the place of the one that imports peft."""

    def write(text: str) -> None:
        (tmp_path / "program.py").write_text(text)
        monkeypatch.setattr(elsewhere, "PROGRAM", tmp_path / "program.py")

    return write


ANSWERS = """
import json, sys
from pathlib import Path
folder = Path(sys.argv[1])
asked = json.loads((folder / "asked.json").read_text())
assert [path.name for path in sorted(folder.iterdir())] == ["adapter", "asked.json", "network", "tensors.safetensors"]
assert (asked["network"], asked["beside"]) == ("UNet2DModel", ["adapted", "merged"]), asked
assert [call["kwargs"]["return_dict"] for call in asked["calls"]] == [False] * len(asked["calls"]), asked
said = {"apart": {"adapted": %s, "merged": %s}, "by": ["peft 1", "diffusers 2"], "ours": []}
(folder / "said.json").write_text(json.dumps(said))
"""


def test_what_the_process_says_is_the_record(left: Any, program: Any) -> None:
    program(ANSWERS % (0.0, 3e-7))
    base, kept, files, digest = left("diffusion/edm")
    found = reload_elsewhere(base, kept, files, base_sha256=digest)
    assert found == AdapterReload(
        network="UNet2DModel", loaded_by=("peft 1", "diffusers 2"), difference=0.0, merged_difference=3e-7
    )
    assert found.text == (
        "loaded by peft 1 and diffusers 2 in a process without genwright: "
        "difference 0 to the trained model, 3e-07 to what is served"
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (ANSWERS % (2e-5, 2e-5), r"is not the trained model: they differ by 2e-05 of outputs; allowed: 1e-05$"),
        (ANSWERS % (0.0, 0.5), r"is not the model that is kept: they differ by 0.5 of outputs; allowed: 0.0001$"),
        (ANSWERS % (0.0, "float('nan')"), r"is not the model that is kept: they differ by nan of outputs"),
        ("raise SystemExit(3)", r"cannot load the adapter without genwright: exit code 3$"),
        ("raise KeyError('conv1.lora_A')", r"cannot load the adapter without genwright: KeyError: 'conv1.lora_A'$"),
    ],
)
def test_another_answer_or_none_is_one_line(left: Any, program: Any, text: str, words: str) -> None:
    program(text)
    base, kept, files, digest = left("diffusion/edm")
    with pytest.raises(RunError, match=words) as caught:
        reload_elsewhere(base, kept, files, base_sha256=digest)
    assert "\n" not in str(caught.value)


def test_a_process_that_does_not_end_is_ended(left: Any, program: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program("import time; time.sleep(60)")
    monkeypatch.setattr(elsewhere, "LIMIT_S", 0.2)
    base, kept, files, digest = left("diffusion/edm")
    with pytest.raises(RunError, match=r"was not loaded by peft and diffusers within 0 s; run it again$"):
        reload_elsewhere(base, kept, files, base_sha256=digest)


@pytest.mark.parametrize("name", ["gan/sngan", "vae/gaussian"])
def test_of_a_network_of_ours_it_says_that_no_other_program_has_it(left: Any, program: Any, name: str) -> None:
    program("raise SystemExit(1)")
    base, kept, files, digest = left(name)
    found = reload_elsewhere(base, kept, files, base_sha256=digest)
    assert (found.loaded_by, found.difference) == ((), None)
    assert "is a class of genwright, which no other program has: read back by peft's loader alone" in found.text


def test_layers_that_diffusers_would_not_make_are_not_its_network(left: Any, program: Any) -> None:
    program("raise SystemExit(1)")
    base, kept, files, digest = left("diffusion/edm")
    base.denoiser.net.conv_act = torch.nn.ReLU()
    assert reload_elsewhere(base, kept, files, base_sha256=digest).difference is None

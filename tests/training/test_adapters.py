"""LoRA of every variant: it begins as its base, nothing but what is said learns, and what is kept is the merged model and files
that peft reads."""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor, nn

from components.core.brief import LoraBrief
from components.core.errors import BriefError, RunError, TrainingFailed
from components.core.layers import effective_weight, plain_layers, rank_bound
from components.core.records import Reading
from components.families import cards, find_card
from components.families.gan import style_networks
from components.training.adapter import merging
from components.training.adapter.files import BUFFERS, CONFIG, MATRICES, adapter_files, check_reloads, load_adapter
from components.training.adapter.merging import adapt, check_merged, images, lora_config, lora_layers, merged
from components.training.adapter.targets import chosen_targets, network_name
from components.training.average import Average
from components.training.checkpoint import load_weights, restore, restore_best
from components.training.folder import kept_files
from components.training.start import build
from components.training.start.lora import Lora
from components.training.start.scratch import Scratch
from components.training.trainer import Trainer

MEMBERS = sorted("/".join(key) for key in cards())
ADAPTED = [name for name in MEMBERS if "lora" in find_card(*name.split("/")).starts]
FAST = {"diffusion/edm"}
SLOW = {"autoregressive/vq-pixelcnn", "vae/gaussian", "flow/glow", "gan/sngan"}
TIERS = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow if name in SLOW else pytest.mark.nightly)
    for name in ADAPTED
]


def lora_of(start: Any, **settings: Any) -> Lora:
    return Lora(base=start.base, weights=start.weights, lora=LoraBrief(**{"rank": 2, "alpha": 4, **settings}))


def train(plan: Any, digits: Any, tracker: Any) -> Trainer:
    trainer = Trainer(build(plan), plan, split=digits, quality=lambda images: Reading(distance=1.0), tracker=tracker)
    trainer.run()
    return trainer


def test_a_card_names_lora_where_the_family_has_layers_for_it(make_plan: Any) -> None:
    assert ADAPTED
    can = {name for name in MEMBERS if Scratch().build(make_plan(name)).adaptable()}
    assert can == set(ADAPTED) == set(MEMBERS), "every network has linear or convolutional layers"


NOT_DRAWN_WITH = ("discriminator.", "encoder.", "autoencoder.", "dual.")  # or at rest beneath what is adapted
RESTING = {  # layers that hold a matrix and have no adapter beside it
    "Embedding", "LabelEmbedding",  # tables: peft adapts them in files of another form
    "GridTransformer", "Generator", "Synthesis",  # places and constants, which multiply nothing
    "Masked", "Masked2d", "MaskedConv2d", "Shifted",  # used in part, or shifted
    "ConvTranspose2d", "Conv2d of groups",
    "InvertibleConv", "ZeroConv", "Prior",  # a flow's: a determinant is taken of the first, the others are scaled
}  # fmt: skip


def test_what_has_no_adapter_beside_it_is_known(make_plan: Any) -> None:
    """docs/finetune.md says which layers rest; nothing else that is drawn with does."""
    found = set()
    for name in MEMBERS:
        family = Scratch().build(make_plan(name, conditional="class" in find_card(*name.split("/")).conditioning))
        adapted = set(family.adaptable())
        for layer, module in family.named_modules():
            matrices = [each for each in module.parameters(recurse=False) if each.dim() > 1 and min(each.shape[:2]) > 1]
            if matrices and layer not in adapted and not layer.startswith(NOT_DRAWN_WITH):
                found.add(type(module).__name__ + (" of groups" if getattr(module, "groups", 1) > 1 else ""))
    assert found
    assert found <= RESTING


@pytest.mark.parametrize("name", TIERS)
def test_only_the_adapter_learns_and_what_is_kept_is_the_merged_model(
    a_base: Any, tuned: Any, digits: Any, tracker: Any, name: str
) -> None:
    """Each reading merges, measures that nothing changed, writes the adapter and loads it back: that raises where it fails."""
    conditional = "class" in find_card(*name.split("/")).conditioning
    start = a_base(name, conditional=conditional)
    plan = tuned(lora_of(start), seed=8, config={"lr_peak": 0.05})
    base, made = restore(start.base, start.weights), build(plan)
    assert torch.equal(images(made.eval()), images(base)), "before a step it draws the very images of its base"
    beside = {id(each) for each in made.beside_adapter()}
    learning = [key for key, each in made.named_parameters() if each.requires_grad and id(each) not in beside]
    assert learning
    assert all(".lora_" in key for key in learning)

    trainer = train(plan, digits, tracker)
    assert trainer.kept is not None
    known, kept = base.state_dict(), restore_best(plan, trainer.kept)
    assert kept.state_dict().keys() == known.keys(), "plain layers again"
    aside = {key for key, each in made.named_parameters() if id(each) in beside} | {key for key, _ in base.named_buffers()}
    changed = {key for key, value in kept.state_dict().items() if not torch.equal(value, known[key])} - aside
    assert changed
    assert changed <= {f"{layer}.weight" for layer in base.adaptable()}
    assert float((images(kept) - images(base)).abs().mean()) > 0, "it learnt something"
    assert [path.exists() for path in kept_files(Path(plan.folder), trainer.kept)] == [True] * (1 + len(trainer.kept.adapter))
    assert {file.name for file in trainer.kept.adapter} - {BUFFERS} == {CONFIG, MATRICES}


def test_the_base_is_in_neither_the_optimizer_nor_the_average_nor_the_saved_state(
    a_base: Any, tuned: Any, digits: Any, tracker: Any
) -> None:
    start = a_base("diffusion/edm")
    plan = tuned(lora_of(start))
    trainer = Trainer(build(plan), plan, split=digits, quality=lambda images: Reading(distance=1.0), tracker=tracker)
    learner = trainer.learner
    matrices = sum(each.numel() for key, each in trainer.family.named_parameters() if ".lora_" in key)
    assert sum(each.numel() for group in learner.optimizers["model"].param_groups for each in group["params"]) == matrices
    own = {id(each) for each in trainer.family.parameters()}
    assert sum(each.numel() for each in trainer.average.family.parameters() if id(each) not in own) == matrices
    trainer.stop("to look at")
    with pytest.raises(TrainingFailed):
        trainer.run()
    with safe_open(trainer.state_path, framework="pt") as file:
        names = [key for key in file.keys() if "base_layer" in key]  # noqa: SIM118 - not a mapping
    assert not names


@pytest.mark.parametrize(
    "name", [pytest.param("diffusion/edm", marks=pytest.mark.slow), pytest.param("gan/sngan", marks=pytest.mark.nightly)]
)
def test_a_lora_training_that_was_killed_ends_with_the_same_bits(forks: Any, a_base: Any, tuned: Any, name: str) -> None:
    """The matrices, their average, the optimizer and dropout's numbers; and the adapter's files."""
    start = lora_of(a_base(name), dropout=0.2)
    whole = forks.train(tuned(start, folder="whole"))
    plan = tuned(start, folder="killed")
    assert forks.train(plan, at="step", n=4)["exit"] == -signal.SIGKILL
    rest = forks.train(plan)
    assert rest["seen"]["step"] == 3, "it goes on from its last save"
    assert rest["checkpoint"]["weights"] == whole["checkpoint"]["weights"]
    assert rest["checkpoint"]["adapter"] == whole["checkpoint"]["adapter"]
    assert rest["readings"][-1] == whole["readings"][-1]
    assert len(set(whole["readings"])) == len(whole["readings"]), "all of it learns"


def test_a_collapse_goes_back_to_the_matrices_that_were_kept(a_base: Any, tuned: Any, digits: Any, tracker: Any) -> None:
    start = a_base("diffusion/edm")
    plan = tuned(lora_of(start, dora=True))
    trainer = train(plan, digits, tracker)
    assert trainer.kept is not None
    back = plan.start.go_back(trainer.kept, trainer.best_path(trainer.kept), trainer.family)
    assert {key for key, each in trainer.family.named_parameters() if each.requires_grad} <= back.keys()
    trainer.learner.start_again_from(back)
    again, kept = merged(trainer.average.family).state_dict(), restore_best(plan, trainer.kept).state_dict()
    assert all(torch.allclose(value, again[name], atol=1e-6) for name, value in kept.items())


@pytest.fixture
def adapted(a_base: Any, tuned: Any) -> Any:
    """An adapted EDM whose matrices are not zero, its config, its base's weights, and their digest."""

    def make(name: str = "diffusion/edm", *, network: dict[str, Any] | None = None, **settings: Any) -> Any:
        start = lora_of(a_base(name, **network or {}), **settings)
        family, base = build(tuned(start)).eval(), load_weights(start.base.weights, start.weights)
        rng = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for key, each in family.named_parameters():
                if ".lora_" in key:
                    each.add_(0.1 * torch.randn(each.shape, generator=rng))
        config = lora_config(merged(family), start.lora, base_sha256=start.base.weights.sha256)
        return family, config, base, start.base.weights.sha256

    return make


@pytest.mark.parametrize("settings", [{}, {"rslora": True}, {"dora": True}, {"alpha": 0.5, "dropout": 0.5}])
@pytest.mark.parametrize("name", ["diffusion/edm", "gan/style"])
def test_what_is_merged_and_what_is_written_draw_the_same(adapted: Any, name: str, settings: dict[str, Any]) -> None:
    """Of StyleGAN2 also the weights that demodulation divides by are the adapted ones."""
    family, config, base, digest = adapted(name, **settings)
    family.requires_grad_(False)
    layer, apart = check_merged(family, merged(family))
    assert max(layer, apart) < 1e-5
    files = adapter_files(family, config, base)
    assert files == adapter_files(family, config, base), "the same bytes each time"
    check_reloads(family, files, base, base_sha256=digest)
    again = load_adapter(from_weights(family, base), files, base_sha256=digest)
    assert float((images(again) - images(family)).abs().max()) == 0
    told = json.loads(files[CONFIG])
    assert (told["r"], told["lora_alpha"], told["peft_type"]) == (2, settings.get("alpha", 4), "LORA")
    assert told["base_model_name_or_path"] == f"sha256:{digest}"
    assert told["target_modules"] == sorted(told["target_modules"])


@pytest.mark.parametrize("name", TIERS)
def test_every_variant_merges_to_the_same_images_and_its_files_read_back(adapted: Any, name: str) -> None:
    """With matrices far from zero. Where a value is drawn from categories a last bit may choose another."""
    family, config, base, digest = adapted(name)
    family.requires_grad_(False)
    layer, apart = check_merged(family, merged(family))
    assert layer < 1e-5
    assert family.discrete or apart < 1e-5
    moved = float((images(family) - images(from_weights(family, base))).abs().mean())
    assert family.discrete or moved > 100 * apart, "the adapter does something"
    files = adapter_files(family, config, base)
    check_reloads(family, files, base, base_sha256=digest)
    again = load_adapter(from_weights(family, base), files, base_sha256=digest)
    assert torch.equal(images(again), images(family))


def test_demodulation_divides_by_the_adapted_weights(adapted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With those of the base it would draw other images than the merged model does, and no check would let it pass."""
    family, *_ = adapted("gan/style")
    plain = merged(family)
    weights = {name: layer for name, layer in lora_layers(family) if name.endswith("conv.plain")}
    for name, layer in weights.items():
        torch.testing.assert_close(effective_weight(layer), plain.get_parameter(f"{name}.weight"))
        effective_weight(layer).sum().backward()
        assert layer.lora_B[merging.NAME].weight.grad is not None
    assert weights

    def of_base(layer: Any) -> Tensor:
        weight: Tensor = getattr(layer, "base_layer", layer).weight
        return weight

    monkeypatch.setattr(style_networks, "effective_weight", of_base)
    with pytest.raises(RunError, match=r"they change images in \[-1, 1\] by"):
        check_merged(family, plain)


WITH_ATTENTION = {"width": 32, "widths": (1, 2), "attention": True}


def test_attention_draws_the_same_bits_when_it_is_read_back(adapted: Any) -> None:
    """What is kept is an average, which rests. Beside one that learnt, images of a training were 5e-4 apart: torch's matmul looks
    at requires_grad, and attention's inputs are not contiguous."""
    family, config, base, digest = adapted(network=WITH_ATTENTION, rank=8)
    average = Average(family, decay=0.9).family
    again = load_adapter(from_weights(family, base), adapter_files(average, config, base), base_sha256=digest)
    assert not any(each.requires_grad for of in (again, average) for each in of.parameters())
    assert torch.equal(images(again), images(average))


def from_weights(family: Any, base: dict[str, Tensor]) -> Any:
    plain = type(family)(family.config, family.spec)
    plain.load_state_dict(base)
    return plain.eval()


def test_a_merge_that_has_no_effect_is_not_kept(adapted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As users of other tools met it, before an export."""
    family, *_ = adapted()
    layer = type(next(lora_layers(family))[1])
    monkeypatch.setattr(layer, "merge", lambda self, safe_merge=False: None)
    with pytest.raises(RunError, match=r"the merged weights are not those of the adapter: they change the layer \S+ by"):
        check_merged(family, merged(family))


def test_an_adapter_that_one_way_of_drawing_passes_by_is_not_kept(adapted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    family, *_ = adapted()
    plain = merged(family)
    for other in plain.parameters():
        other.mul_(1.01)
    monkeypatch.setattr(merging, "LAYER_TOLERANCE", 10.0)
    with pytest.raises(RunError, match=r"they change images in \[-1, 1\] by"):
        check_merged(family, plain)


def test_without_alpha_what_is_read_is_another_model(adapted: Any) -> None:
    """The trap that the config in two places guards against: 78 % of an effect was lost so elsewhere."""
    family, config, base, digest = adapted(alpha=32)
    files = adapter_files(family, config, base)
    forgotten = files | {CONFIG: json.dumps(json.loads(files[CONFIG]) | {"lora_alpha": 2}).encode()}
    with pytest.raises(RunError, match=r"is not the one that was trained: the scale of \S+ and \d+ more layers differs$"):
        check_reloads(family, forgotten, base, base_sha256=digest)


def renamed(files: dict[str, bytes], change: Any) -> dict[str, bytes]:
    matrices: dict[str, Tensor] = load(files[MATRICES])
    return files | {MATRICES: save(change(matrices))}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda files: renamed(files, lambda all_: dict([*all_.items()][1:])), r"is missing in the file, and 0 more"),
        (
            lambda files: renamed(files, lambda all_: all_ | {"base_model.model.more.lora_A.weight": torch.ones(2, 2)}),
            r"not of this",
        ),
        (
            lambda files: renamed(files, lambda all_: {key: value[:1] for key, value in all_.items()}),
            r"does not fit diffusion/edm",
        ),
        (lambda files: files | {MATRICES: files[MATRICES][:-40]}, r"does not fit diffusion/edm"),
        (lambda files: files | {MATRICES: b"\x80\x04pickle"}, r"does not fit diffusion/edm"),
        (lambda files: files | {CONFIG: b"[]"}, r"adapter_config.json: cannot be read"),
        (lambda files: files | {CONFIG: b'{"peft_type": "LOHA"}'}, r"adapter_config.json: cannot be read"),
        (lambda files: {CONFIG: files[CONFIG]}, r"does not fit diffusion/edm"),
    ],
)
def test_files_that_do_not_match_are_an_error(adapted: Any, a_base: Any, damage: Any, words: str) -> None:
    family, config, base, digest = adapted()
    files = adapter_files(family, config, base)
    with pytest.raises(RunError, match=words) as caught:
        check_reloads(family, damage(files), base, base_sha256=digest)
    assert "\n" not in str(caught.value)
    with pytest.raises(RunError, match=r"this adapter is of the base sha256:\w+, and sha256:other is given"):
        load_adapter(merged(family), files, base_sha256="other")


def test_an_adapter_whose_weights_are_others_is_an_error(adapted: Any) -> None:
    """What a file says is all that is read; one that was written from other numbers is found out."""
    family, config, base, digest = adapted()
    files = renamed(adapter_files(family, config, base), lambda all_: {key: value + 1e-6 for key, value in all_.items()})
    with pytest.raises(RunError, match=r"is not the one that was trained: \S+lora_A\S+ and \d+ more weights differ"):
        check_reloads(family, files, base, base_sha256=digest)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"targets": ["nonesuch"]},
            r"pretrained.lora.targets: no layer of diffusion/edm is 'nonesuch'; allowed: conv, conv1, conv2, conv_in",
        ),
        (
            {"targets": ["conv_out"], "rank": 4},
            r"rank: 4 is more than the layer \S+conv_out of diffusion/edm can have; allowed: 1 to 1",
        ),
        ({"rank": 1024}, r"pretrained.lora.rank: 1024 for diffusion/edm; allowed: 1 to \d+$"),
    ],
)
def test_layers_and_ranks_that_cannot_be_are_refused(a_base: Any, tuned: Any, settings: dict[str, Any], words: str) -> None:
    with pytest.raises(BriefError, match=words) as caught:
        build(tuned(lora_of(a_base("diffusion/edm"), **settings)))
    assert "\n" not in str(caught.value)


def test_a_layer_of_zeros_has_no_dora(make_plan: Any) -> None:
    family = Scratch().build(make_plan("diffusion/edm"))
    nn.init.zeros_(family.get_parameter("denoiser.net.conv_in.weight"))
    with pytest.raises(BriefError, match=r"pretrained.lora.dora: true, and weights of the layer denoiser.net.conv_in"):
        adapt(family, LoraBrief(rank=1, dora=True), base_sha256="b", seed=0)


def test_a_family_without_layers_for_it_says_so(make_plan: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    family = Scratch().build(make_plan("diffusion/edm"))
    monkeypatch.setattr(type(family), "adaptable", lambda self: ())
    with pytest.raises(BriefError, match=r"LoRA is not for diffusion/edm: .*; write override: \{mode: finetune\}"):
        adapt(family, LoraBrief(rank=1), base_sha256="b", seed=0)


def test_targets_are_ends_of_names(a_base: Any, tuned: Any) -> None:
    family = build(tuned(lora_of(a_base("diffusion/edm"), targets=["conv1", "time_emb_proj"])))
    names = [name for name, _ in lora_layers(family)]
    assert {name.rpartition(".")[2] for name in names} == {"conv1", "time_emb_proj"}
    assert network_name(family) == network_name(merged(family)) == "denoiser.net"


def test_layers_that_compute_otherwise_are_left_alone() -> None:
    class Own(nn.Linear):
        pass

    layers = {
        "plain": nn.Linear(3, 4),
        "own": Own(3, 4),
        "grouped": nn.Conv2d(4, 4, 3, groups=2),
        "wide": nn.Conv2d(4, 4, 3, dilation=2),
        "round": nn.Conv2d(4, 4, 3, padding_mode="circular"),
        "back": nn.ConvTranspose2d(4, 4, 3),
        "strided": nn.Conv1d(4, 6, 3, 2),
    }
    assert plain_layers(nn.ModuleDict({"a": nn.ModuleDict(layers), "ab": nn.Linear(1, 1)}), within="a") == (
        "a.plain",
        "a.strided",
    )
    assert [rank_bound(layers[name]) for name in ("plain", "strided")] == [3, 6]


STRANGER = """
import copy, sys, torch
from diffusers import UNet2DModel
from peft import PeftModel
from safetensors.torch import load_file
folder = sys.argv[1]
torch.set_num_threads(1)
network = UNet2DModel.from_pretrained(folder + "/network").eval()
aside = [each for each in network.parameters() if each.data_ptr() % 16]
asked = load_file(folder + "/asked.safetensors")
with torch.no_grad():
    plain = network(asked["x"], asked["time"]).sample
    model = PeftModel.from_pretrained(network, folder)
    copied = copy.deepcopy(model)
    two = [each(asked["x"], asked["time"]).sample for each in (copied, model)]
    one = [torch.cat([each(x[None], t).sample for x, t in zip(asked["x"], asked["time"])]) for each in (copied, model)]
assert not any(name.startswith(("components", "flows")) for name in sys.modules)
said = two[0] - asked["adapted"], one[0] - asked["adapted alone"], two[1] - asked["adapted"], one[1] - asked["adapted alone"]
print(*(float(each.abs().max()) for each in (*said, two[0] - asked["merged"], plain - two[0])), len(aside))
"""


@pytest.mark.nightly
def test_a_process_without_genwright_draws_the_same_with_peft_and_diffusers(adapted: Any, tmp_path: Path) -> None:
    """Where the network is a class of diffusers: its base's weights in that library's own format, and the files as they are.

    The difference is 0 where the weights lie in PyTorch's own memory. diffusers leaves those of a base where its file has them:
    of one image MKL then sums up in another order (docs/decisions/0032-adapters.md). Here the header's length makes that certain.
    """
    family, config, base, _ = adapted(alpha=16, network=WITH_ATTENTION)
    family.requires_grad_(False)
    plain = merged(family)
    for name, content in adapter_files(family, config, base).items():
        (tmp_path / name).write_bytes(content)
    network = merged(family).get_submodule("denoiser.net")
    network.load_state_dict({key.removeprefix("denoiser.net."): base[key] for key in base if key.startswith("denoiser.net.")})
    network.save_pretrained(tmp_path / "network")  # type: ignore[operator]
    lay_aside(tmp_path / "network" / "diffusion_pytorch_model.safetensors")
    x, time = torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 300.0])
    net, threads = family.get_submodule("denoiser.net"), torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.no_grad():
        said = {
            "adapted": net(x, time).sample,
            "adapted alone": torch.cat([net(each[None], t).sample for each, t in zip(x, time, strict=True)]),
            "merged": plain.get_submodule("denoiser.net")(x, time).sample,
        }
    torch.set_num_threads(threads)
    save_file({"x": x, "time": time, **{key: value.contiguous() for key, value in said.items()}}, tmp_path / "asked.safetensors")
    told = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STRANGER, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert told.returncode == 0, told.stderr[-2000:]
    together, alone, mapped, mapped_alone, merged_apart, effect, aside = map(float, told.stdout.split())
    assert (together, alone) == (0, 0)
    assert aside > 0, "they lie where the file has them"
    assert max(mapped, mapped_alone) < 1e-5, "the same numbers, added in another order"
    assert merged_apart < 1e-5
    assert effect > 0.01, "the adapter does something"
    assert load_file(tmp_path / MATRICES)


def lay_aside(path: Path) -> None:
    """Write a file anew so that its weights begin 8 bytes beyond a multiple of 16, as by chance half of all files do."""
    weights = load_file(path)
    for spaces in (0, 8):
        save_file(weights, path, metadata={"format": "pt", "note": "x" * spaces})
        if (8 + int.from_bytes(path.read_bytes()[:8], "little")) % 16:
            return
    raise AssertionError("a header is padded to 8 bytes")


def test_ends_of_names_catch_no_other_layer(make_plan: Any) -> None:
    """peft would take r3gan's grouped layers for ends of names of its plain ones."""
    family = Scratch().build(make_plan("gan/r3gan"))
    targets = chosen_targets(family, LoraBrief(rank=1))
    adapt(family, LoraBrief(rank=1), base_sha256="b", seed=0)
    assert tuple(name for name, _ in lora_layers(family)) == targets

"""Several adapters of one base, added with weights: the sum, what is measured for drawing, and the adapter that is the sum."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from components.core.brief import LoraBrief
from components.core.errors import RunError
from components.core.files import sha256_of
from components.core.records import Artifact
from components.families import cards
from components.training.adapter.combining import combined_adapter, is_one_model, weighted_sum
from components.training.adapter.files import BUFFERS, CONFIG, MATRICES, adapter_files, load_adapter
from components.training.adapter.merging import images, lora_config, merged
from components.training.checkpoint import load_weights, restore
from components.training.start import build
from components.training.start.combine import Addend, Combine
from components.training.start.lora import Lora
from components.training.stream import BatchStream, first_epoch

CARDS = {"/".join(key): entry[0] for key, entry in cards().items()}
ADAPTED = sorted(name for name, card in CARDS.items() if "lora" in card.starts)
FAST = {"diffusion/edm"}
SLOW = {"gan/dcgan", "vae/gaussian"}  # batch normalisation; a mixture of codes
TIERS = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow if name in SLOW else pytest.mark.nightly)
    for name in ADAPTED
]


@pytest.fixture
def an_adapter(tuned: Any, tmp_path: Path) -> Any:
    """An adapter of a base as its release leaves it, from matrices that are drawn; `moved`: buffers that a training measured."""

    def make(start: Any, seed: int, weight: float, *, moved: bool = False, **settings: Any) -> Addend:
        rng = torch.Generator().manual_seed(seed)
        lora = Lora(base=start.base, weights=start.weights, lora=LoraBrief(**{"rank": 2, "alpha": 4, **settings}))
        family = build(tuned(lora)).eval()
        with torch.no_grad():
            for key, each in family.named_parameters():
                if ".lora_" in key:
                    each.add_(0.1 * torch.randn(each.shape, generator=rng))
            for _, each in family.named_buffers() if moved else ():
                if each.is_floating_point():
                    each.mul_(1 + 0.2 * torch.rand(each.shape, generator=rng))
        plain, folder = merged(family), tmp_path / f"adapter-{seed}"
        folder.mkdir()
        digest = start.base.weights.sha256
        base = load_weights(start.base.weights, start.weights)
        save_file({name: value.contiguous() for name, value in plain.kept().items()}, folder / "weights.safetensors")
        for name, content in adapter_files(family, lora_config(plain, lora.lora, base_sha256=digest), base).items():
            (folder / name).write_bytes(content)
        weights, *others = (
            artifact(path) for path in sorted(folder.iterdir(), key=lambda path: path.name != "weights.safetensors")
        )
        checkpoint = start.base.model_copy(update={"weights": weights, "adapter": tuple(others)})
        return Addend(checkpoint=checkpoint, weight=weight, files=tuple(folder / each.name for each in (weights, *others)))

    return make


def artifact(path: Path) -> Artifact:
    return Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)


def combine(start: Any, *added: Addend) -> Combine:
    return Combine(base=start.base, weights=start.weights, adapters=added)


def at(added: Addend, weight: float) -> Addend:
    return added.model_copy(update={"weight": weight})


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("name", TIERS)
def test_one_at_1_is_its_release_none_is_the_base_and_two_are_the_sum(
    a_base: Any, tuned: Any, an_adapter: Any, digits: Any, name: str
) -> None:
    """To the last bit; and the adapter that is written, laid beside the base by peft's loader, is the sum."""
    start = a_base(name, conditional="class" in CARDS[name].conditioning)
    one, two = an_adapter(start, 1, 0.7, moved=True), an_adapter(start, 2, -0.4, moved=True, rank=1)
    base = load_weights(start.base.weights, start.weights)
    models = [load_weights(each.checkpoint.weights, each.files[0]) for each in (one, two)]

    plan = tuned(combine(start, at(one, 1.0), at(two, 0.0)))
    alone = plan.start.made(plan, digits)
    assert same(alone.weights, models[0])
    plan = tuned(combine(start, at(one, 0.0)))
    nothing = plan.start.made(plan, digits)
    assert same(nothing.weights, base)
    assert nothing.files == {}, "an adapter of nothing"

    plan = tuned(combine(start, one, two))
    both = plan.start.made(plan, digits)
    family = build(plan)
    parameters = {key for key, _ in family.named_parameters()}
    for key in parameters & base.keys():
        wanted = base[key] + 0.7 * (models[0][key] - base[key]) - 0.4 * (models[1][key] - base[key])
        assert torch.allclose(both.weights[key], wanted, atol=1e-6), key
    assert {CONFIG, MATRICES} <= both.files.keys()
    family.load_state_dict(both.weights)
    beside = restore(start.base, start.weights)
    again = merged(load_adapter(beside, both.files, base_sha256=start.base.weights.sha256)).state_dict()
    whole = {key for key, each in family.named_parameters() if any(each is own for own in family.beside_adapter())}
    assert all(torch.allclose(value, again[key], atol=1e-5) for key, value in family.state_dict().items() if key not in whole)
    assert bool(images(family).isfinite().all())
    assert same(both.weights, plan.start.made(plan, digits).weights), "the same each time"


def test_what_is_no_weight_is_a_mean_that_leaves_variances_positive() -> None:
    base = {"w": torch.ones(2), "var": torch.tensor([1.0]), "seen": torch.tensor(3), "flag": torch.tensor(data=True)}
    one = {"w": torch.tensor([2.0, 1.0]), "var": torch.tensor([0.1]), "seen": torch.tensor(5), "flag": torch.tensor(data=False)}
    two = {"w": torch.tensor([1.0, 3.0]), "var": torch.tensor([0.2]), "seen": torch.tensor(7), "flag": torch.tensor(data=True)}

    def sum_of(*weights: float) -> dict[str, Tensor]:
        return weighted_sum(base, weights, (one, two), buffers={"var", "seen", "flag"})

    assert sum_of(2.0, 2.0)["w"].tolist() == [3.0, 5.0]
    assert sum_of(2.0, 2.0)["var"].item() == pytest.approx(0.15), "the mean of both, not 1 - 2 * 0.9 - 2 * 0.8"
    assert sum_of(0.5, 0.0)["var"].item() == pytest.approx(0.55)
    assert sum_of(-1.0, 0.5)["var"].item() == pytest.approx(0.6), "one that is taken away measured nothing of the sum"
    assert (sum_of(0.5, 0.6)["seen"].item(), sum_of(-1.0, 0.0)["seen"].item()) == (7, 3)
    assert [is_one_model(weights) for weights in ([1.0, 0.0], [0.0], [], [1.0, 1.0], [0.5], [-1.0])] == [True] * 3 + [False] * 3


@pytest.mark.parametrize(
    ("first", "second", "rank"),
    [
        ({"rank": 2, "alpha": 4}, {"rank": 3, "alpha": 1.5, "rslora": True}, 5),
        ({"rank": 2, "targets": ["conv1"]}, {"rank": 1, "targets": ["conv2", "conv_out"]}, 3),
    ],
    ids=["scales", "layers"],
)
def test_adapters_of_other_ranks_scales_and_layers_are_one_adapter(
    a_base: Any, tuned: Any, an_adapter: Any, digits: Any, first: dict[str, Any], second: dict[str, Any], rank: int
) -> None:
    start = a_base("diffusion/edm")
    plan = tuned(combine(start, an_adapter(start, 1, 0.5, **first), an_adapter(start, 2, 1.5, **second)))
    files = plan.start.made(plan, digits).files
    told = json.loads(files[CONFIG])
    assert (told["r"], told["lora_alpha"], told["base_model_name_or_path"]) == (rank, rank, f"sha256:{start.base.weights.sha256}")
    assert BUFFERS not in files


def test_a_sum_with_dora_has_no_adapter_and_is_the_sum_all_the_same(
    a_base: Any, tuned: Any, an_adapter: Any, digits: Any
) -> None:
    start = a_base("diffusion/edm")
    one, two = an_adapter(start, 1, 0.5, dora=True), an_adapter(start, 2, 0.5)
    plan = tuned(combine(start, one, two))
    kept = plan.start.made(plan, digits)
    assert kept.files == {}
    places = [(start.base, start.weights), *((each.checkpoint, each.files[0]) for each in (one, two))]
    base, first, second = (load_weights(of.weights, path) for of, path in places)
    assert all(torch.allclose(value, (first[key] + second[key]) / 2, atol=1e-6) for key, value in kept.weights.items())
    assert not torch.equal(first["denoiser.net.conv_in.weight"], base["denoiser.net.conv_in.weight"])


def test_files_that_are_not_the_sum_are_an_error(a_base: Any, tuned: Any, an_adapter: Any) -> None:
    start = a_base("diffusion/edm")
    added, other = an_adapter(start, 1, 0.5), an_adapter(start, 2, 0.5)
    base, plain = load_weights(start.base.weights, start.weights), build(tuned(combine(start, added)))
    wrong = {path.name: path.read_bytes() for path in other.files[1:]}
    with pytest.raises(RunError, match="the merged weights are not those of the adapter: they change the layer"):
        combined_adapter(plain, base, [(0.5, wrong)], base_sha256=start.base.weights.sha256)


def test_peft_combines_the_same(a_base: Any, tuned: Any, an_adapter: Any, digits: Any) -> None:
    """By its own `add_weighted_adapter`, of the files of both."""
    from peft import PeftModel

    start = a_base("diffusion/edm")
    one, two = an_adapter(start, 1, 0.5, rank=2, alpha=3), an_adapter(start, 2, -1.25, rank=1, rslora=True)
    plan = tuned(combine(start, one, two))
    ours = build(plan).get_submodule("denoiser.net")
    network = restore(start.base, start.weights).get_submodule("denoiser.net")
    theirs = PeftModel.from_pretrained(network, one.files[0].parent, adapter_name="one")
    theirs.load_adapter(two.files[0].parent, adapter_name="two")
    theirs.add_weighted_adapter(["one", "two"], [0.5, -1.25], "sum", combination_type="cat")
    theirs.set_adapter("sum")
    x, time = torch.randn((2, 1, 8, 8), generator=torch.Generator().manual_seed(0)), torch.tensor([1.0, 300.0])
    with torch.no_grad():
        wanted, said = ours(x, time).sample, theirs.eval()(x, time).sample
        plain = restore(start.base, start.weights).get_submodule("denoiser.net")(x, time).sample
    assert float((said - wanted).abs().max()) < 1e-4 * float(wanted.abs().max())
    assert float((plain - wanted).abs().max()) > 0.01, "they do something"


@pytest.mark.slow
def test_what_drawing_needs_is_measured_for_the_sum(a_base: Any, tuned: Any, an_adapter: Any, digits: Any) -> None:
    """The mixture of an autoencoder's codes: that of the summed encoder, on these items, and no mean of two."""
    start = a_base("autoencoder/plain")
    plan = tuned(combine(start, an_adapter(start, 1, 0.5, moved=True), an_adapter(start, 2, 0.5, moved=True)))
    kept, family = plan.start.made(plan, digits).weights, build(plan)
    stream = BatchStream(digits, batch_size=family.config.batch_size, seed=plan.seed)
    codes = torch.cat([family.encode(batch.x) for batch in first_epoch(stream)])
    mean = kept["density.share_KM"][0] @ kept["density.mean_RZ"]
    assert torch.allclose(mean, codes.mean(0), atol=0.1 * float(codes.std()))
    assert not torch.allclose(kept["density.mean_RZ"], family.state_dict()["density.mean_RZ"])

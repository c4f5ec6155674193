"""A fine-tuning that went wrong is refused by the gate that is there for it, through the real command line, and one that went
well passes the same gates."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from roads import LENIENT, digits, lay, paper

from components.core.errors import GenwrightError
from components.training import trainer

if TYPE_CHECKING:
    from roads import Command, Said

# What a tiny model can pass: nearer to the data than noise is, no copies.
STRICT = LENIENT | {"fd_noise_ratio_max": 0.9, "memorised_max": 0.03}
FEW = 100


@pytest.fixture
def produce(two: Any, trains_here: Any, cli: "Command") -> Callable[..., "Said"]:
    """`genwright produce` of a brief."""

    def run(brief: Any) -> "Said":
        path = two.write(brief, f"{brief.name}.yaml")
        with trains_here():
            return cli("produce", path, GENWRIGHT_HOME=two.home, GENWRIGHT_ACTOR="tester")

    return run


def refused(said: "Said", two: Any, model: str) -> str:
    """The last line of a production that a gate refused; nothing was promoted."""
    line = said.err.splitlines()[-1]
    assert said.code == 3, line
    assert f"{model} version 1 stays a candidate" in line
    with pytest.raises(GenwrightError):
        two.backends().versions.resolve(f"{model}@champion")
    return line


@pytest.mark.nightly
def test_a_fine_tuning_that_did_not_learn_is_refused_and_one_that_did_is_promoted(
    two: Any, produce: Callable[..., "Said"]
) -> None:
    """Of digits in black on white: after one step it draws what its base drew, in white on black."""
    budget = {"device": "cpu", "threads": 1}
    idle = produce(paper(two, name="idle", gates=STRICT, compute=budget | {"items_seen": 128}))
    line = refused(idle, two, "idle")
    assert "fd_noise_ratio_max fail (" in line
    learnt = produce(paper(two, name="learnt", gates=STRICT, compute=budget | {"items_seen": 16_000}))
    assert learnt.code == 0, learnt.err
    assert "promoted: it is champion" in learnt.out


@pytest.fixture
def small(two: Any) -> Callable[..., Any]:
    """Makes the brief of a U-Net's fine-tuning on FEW digits in black on white."""
    config = {"width": 32, "widths": [1, 1], "attention": False, "steps": 8}
    unet = {"family": "diffusion", "variant": "edm", "config": config}
    budget = {"device": "cpu", "threads": 1}
    two.produce_here(two.brief(name="unet", goal="quality", override=unet, compute=budget | {"items_seen": 40_000}))
    images, labels = digits()
    if not (two.folder / "data" / "few").exists():
        lay(two, "few", 255 - images[:FEW], labels[:FEW])

    def brief(name: str, items_seen: int) -> Any:
        return two.brief(
            name=name, data={"path": "data/few", "repo": str(two.folder)}, compute=budget | {"items_seen": items_seen},
            gates=STRICT, pretrained={"model": "models:/unet@champion", "in_domain": True},
            override={"mode": "finetune", "config": {"lr_peak": 0.002, "batch_size": 32}},
        )  # fmt: skip

    return brief


@pytest.mark.nightly
def test_a_fine_tuning_that_copies_its_pictures_is_refused_and_one_that_does_not_is_promoted(
    two: Any, small: Callable[..., Any], produce: Callable[..., "Said"], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a training that keeps its last weights, as other tools do, two thirds of the samples are copies; the gate does not rely
    on what chooses the weights."""
    honest = produce(small("honest", 4_000))
    assert honest.code == 0, honest.err
    assert "memorised_max" in honest.out
    monkeypatch.setattr(trainer, "is_by_heart", lambda *losses: False)
    line = refused(produce(small("copies", 64_000)), two, "copies")
    assert "memorised_max fail (Memorised: " in line
    assert "samples copy training items" in line

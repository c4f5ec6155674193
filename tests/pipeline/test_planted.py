"""Bad candidates, planted, through the real flow: each is refused by the gate that is there for it, and a better one promoted."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import planted_family
import pytest

from components import families

if TYPE_CHECKING:
    from roads import Command, Said

COLLAPSE, COPIES = {"fault": "collapse", "level": 5}, {"fault": "copies", "level": 0.1}
NOISE, IMBALANCE = {"fault": "noise", "level": 0.6}, {"fault": "imbalance", "level": 0.5}
SLOW, NIGHTLY = pytest.mark.slow, pytest.mark.nightly
BAD = [  # what is planted, a gate that must refuse it, and the cause that must be told
    pytest.param(
        COLLAPSE, "fd_noise_ratio_max", "show 0.60 of the classes that as much data does): choose", id="five classes", marks=SLOW
    ),
    pytest.param(
        COPIES, "memorised_max", "samples copy training items, as they are, shifted or recoloured: add", id="copies", marks=SLOW
    ),
    pytest.param(NOISE, "distance_ratio_max", "times as rough as the data): let it take more steps", id="noise", marks=SLOW),
    pytest.param({"fault": "blur"}, "coverage_min", "it lost modes, or detail, in training (", id="blur", marks=NIGHTLY),
    pytest.param(
        {"fault": "contrast", "level": 0.7},
        "distance_ratio_max",
        "times the contrast of the data: see",
        id="contrast",
        marks=NIGHTLY,
    ),
    pytest.param(
        IMBALANCE, "fd_noise_ratio_max", "samples are of another class than they were asked for (", id="one class", marks=SLOW
    ),
]


@pytest.fixture(scope="module")
def home(first: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return first.road.beside(tmp_path_factory.mktemp("planted") / "road")


@pytest.fixture
def produce(home: Any, trains_here: Any, cli: "Command", monkeypatch: pytest.MonkeyPatch) -> Callable[..., "Said"]:
    """`genwright produce` of the planted family on the digits, by the gates that a brief has by default."""
    known = (planted_family.CARD, "planted_family", "Planted")
    monkeypatch.setitem(families.cards(), ("planted", "gaussians"), known)

    def run(**config: Any) -> "Said":
        override = {"family": "planted", "variant": "gaussians", "config": config}
        path = home.write(home.brief(name="planted", conditioning="class", override=override, gates={}))
        with trains_here():
            return cli("produce", path, GENWRIGHT_HOME=home.home, GENWRIGHT_ACTOR="tester")

    return run


@pytest.fixture
def champion(produce: Callable[..., "Said"]) -> str:
    """A Gaussian of six directions a class; made once."""
    said = produce(rank=6)
    assert said.code == 0, said.err
    return "planted/1"


@pytest.mark.parametrize(("config", "gate", "cause"), BAD)
def test_a_bad_candidate_is_refused_with_its_gate_and_its_cause(
    home: Any, champion: str, produce: Callable[..., "Said"], config: dict[str, Any], gate: str, cause: str
) -> None:
    said = produce(rank=6, **config)
    line = said.err.splitlines()[-1]
    assert said.code == 3, said.out
    assert "stays a candidate" in line
    assert f"{gate} fail (" in line, line
    assert cause in line, line
    backends = home.backends()
    assert backends.versions.resolve("planted").version == 1
    assert backends.channels.read("planted")[0].version == 1


@pytest.mark.slow
def test_a_better_candidate_is_promoted(home: Any, champion: str, produce: Callable[..., "Said"]) -> None:
    said = produce(rank=25)
    assert said.code == 0, said.err
    assert "promoted: it is champion" in said.out
    assert home.backends().versions.resolve("planted").version > 1

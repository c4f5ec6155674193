"""A brief that names what nobody here brings is refused with one line, the file among it; what is dropped in is known."""

from pathlib import Path

import pytest

from components.core.errors import BriefError
from components.pipeline.backends import Backends
from components.pipeline.briefs import load_brief
from flows.settings import Settings

GOOD = "name: x\nmodality: image\ndata: {path: d, items: 500, side: 8}\n"


@pytest.fixture
def backends(tmp_path: Path) -> Backends:
    return Backends(Settings(home=tmp_path / "home"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            GOOD + "gates: {fid_max: 3}",
            "gates.fid_max: unknown key; allowed: distance_ratio_max, heldout_ratio_max, fd_noise_ratio_max,",
        ),
        (GOOD + "gates: {coverage_min: 2}", "gates.coverage_min: Input should be less than or equal to 1 (given: 2)"),
        (GOOD + "gates: {latency_p95_ms_max: serve}", "gates.latency_p95_ms_max"),
        (GOOD + "override: {family: gann}", "override.family: 'gann' given; allowed: autoencoder, vae, gan, flow, diffusion,"),
        (GOOD + "pretrained: {model: x, family: gann}", "pretrained.family: 'gann' given; allowed: autoencoder, vae, gan,"),
        (GOOD.replace("image", "smell"), "modality: 'smell' given; allowed: image, audio, video, text"),
    ],
)
def test_a_name_that_is_not_here_is_refused(tmp_path: Path, backends: Backends, text: str, line: str) -> None:
    path = tmp_path / "brief.yaml"
    path.write_text(text)
    with pytest.raises(BriefError) as caught:
        load_brief(path, backends)
    assert str(caught.value).startswith(f"{path}: {line}")
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_gate_is_set_and_turned_off(tmp_path: Path, backends: Backends) -> None:
    path = tmp_path / "brief.yaml"
    path.write_text(GOOD + "gates: {coverage_min: null, memorised_max: 0.2}")
    assert load_brief(path, backends).gates == {"coverage_min": None, "memorised_max": 0.2}

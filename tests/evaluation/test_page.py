import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from components.core.errors import GenwrightError, RunError
from components.core.grid import filling, grid_png
from components.core.labels import labelled_png
from components.core.metrics import number
from components.evaluation.gates import gate
from components.evaluation.page import write_page
from components.evaluation.score import score


def test_the_page_holds_gates_metrics_decision_and_lineage(pages, digits) -> None:
    text = pages["first"].read_text(encoding="utf-8")
    for wanted in (
        "coverage_min",
        "memorised_max",
        "FD-local",
        "KID",
        "Small data &amp; &lt;small&gt; budget.",
        "vae-for-quality",
    ):
        assert wanted in text
    for wanted in ("chart.small", "It may collapse.", "run-17", digits.dataset.md5, "genwright-classifier-v1", "No champion yet"):
        assert wanted in text
    assert text.count('class="badge') == 1 + 7  # the verdict of all, and of seven gates
    assert "<small>" not in text


def test_each_class_has_a_line_the_least_covered_first(pages, digits) -> None:
    text = pages["first"].read_text(encoding="utf-8")
    table = text[text.index("<h2>Classes</h2>") : text.index("<h2>Decision")]
    covered = [float(value) for value in re.findall(r'data-label="Covered">([\d.]+)', table)]
    assert len(covered) == table.count('data-label="Class"') == len(digits.dataset.classes)
    assert covered == sorted(covered)
    assert "Looks as asked" not in table, "nobody was asked for a class"


def test_a_champion_has_its_own_column_and_bars(pages) -> None:
    first, pair = (pages[name].read_text(encoding="utf-8") for name in ("first", "pair"))
    assert "Against the champion" in pair
    assert "distance_ratio_max" in pair
    assert pair.count("<svg") > 1.8 * first.count("<svg")


@pytest.mark.parametrize("name", ["first", "pair"])
def test_nothing_is_loaded_from_elsewhere(pages, name) -> None:
    text = pages[name].read_text(encoding="utf-8")
    assert not re.findall(r"https?://|//\w|@import|<script|<link|url\(", re.sub(r"base64,[\w+/=]+", "", text))
    assert all(source.startswith("data:image/png;base64,") for source in re.findall(r'src="([^"]*)"', text))


def test_the_pictures_show_the_samples_and_their_neighbours(pages, fitted) -> None:
    text = pages["first"].read_text(encoding="utf-8")
    samples, neighbours = (
        np.array(Image.open(io.BytesIO(base64.b64decode(png)))) for png in re.findall(r"base64,([\w+/=]+)", text)
    )
    first = fitted(4, seed=1).images[0, :, :, 0].repeat(9, axis=0).repeat(9, axis=1)
    assert (samples[:72, :72] == first).all()
    assert (neighbours[:72, :72] == first).all()
    assert neighbours.shape == (4 * 74 - 2, 12 * 74 - 2)  # two rows of samples, each with its row of neighbours


def test_the_same_page_has_the_same_bytes(pages) -> None:
    assert pages["first"].read_bytes() == pages["again"].read_bytes()


def test_a_page_that_cannot_be_written_is_one_line(pages, tmp_path, digits, extractor, fitted, decision) -> None:
    (tmp_path / "file").write_text("in the way")
    scorecard = score(
        fitted(4, seed=1), dataset=digits.dataset, samples=40, train=digits.train, reference=digits.test, extractor=extractor
    )
    with pytest.raises(GenwrightError) as caught:
        write_page(
            tmp_path / "file" / "page.html",
            model="digits",
            decision=decision,
            dataset=digits.dataset,
            scorecard=scorecard,
            report=gate(scorecard, champion=None),
            samples=digits.test.images[:3],
            neighbours=(digits.test.images[:3], digits.test.images[:3]),
        )
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("value", "text"), [(0.012345, "0.0123"), (12345.6, "12,346"), (0, "0"), (float("inf"), "inf")])
def test_figures_are_short(value, text) -> None:
    assert number(value) == text


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_a_grid_enlarges_without_smoothing_and_pads_its_last_row(channels) -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 6, channels), dtype=np.uint8)
    picture = np.array(Image.open(io.BytesIO(grid_png(images, 3, 2)))).reshape(2 * 8 + 2, 3 * 12 + 2 * 2, channels)
    assert (picture[:8:2, :12:2] == images[0]).all()
    assert (picture[1:8:2, 1:12:2] == images[0]).all()
    assert (picture[10::2, 14:26:2] == images[4]).all()
    rest = np.unique(picture[10:, 28:].reshape(-1, channels), axis=0)
    assert rest.tolist() == [[255] * channels if channels in (1, 3) else [255] * (channels - 1) + [0]], "white, or clear"


@pytest.mark.parametrize(("count", "columns"), [(64, 8), (60, 12), (30, 10), (12, 12), (7, 7), (13, 12), (3, 12), (1, 12)])
def test_a_grid_takes_as_many_columns_as_leave_no_rest(count, columns) -> None:
    assert filling(count, most=12) == columns


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_rows_and_columns_are_named_beside_the_images(channels) -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 8, 8, channels), dtype=np.uint8)
    plain = np.array(Image.open(io.BytesIO(labelled_png(images, rows=["", ""], columns=["", "", ""]))))
    named = np.array(Image.open(io.BytesIO(labelled_png(images, rows=["a long name", "b"], columns=["-3", "0", "+3"]))))
    assert (named[-plain.shape[0] :, -plain.shape[1] :] == plain).all()
    assert (named[: -plain.shape[0]].min(), named[:, : -plain.shape[1]].min()) == (40, 40), "there is ink in both margins"
    with pytest.raises(RunError, match="6 images in 2 named rows of 2"):
        labelled_png(images, rows=["a", "b"], columns=["c", "d"])


@pytest.mark.parametrize("shape", [(0, 4, 4, 1), (2, 4, 4, 5), (4, 4, 1)])
def test_a_grid_of_nothing_is_refused(shape) -> None:
    with pytest.raises(RunError, match="cannot be drawn"):
        grid_png(np.zeros(shape, np.uint8))

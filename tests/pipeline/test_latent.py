"""`genwright latent` on a produced model: pictures of the right size, JSON, and one line for what cannot be done."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

if TYPE_CHECKING:
    from roads import Command, First


@pytest.fixture
def home(first: "First", tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: "Command") -> Path:
    """A copy of what `latent` reads of the home that produced a champion."""
    home = tmp_path / "home"
    shutil.copytree(first.left / "store", home / "store")
    shutil.copy(first.left / "mlflow.db", home / "mlflow.db")
    monkeypatch.setenv("GENWRIGHT_HOME", str(home))
    Path("data").symlink_to(first.road.folder / "data")  # as in a clone of the repository
    return home


def size(path: str | Path) -> tuple[int, int]:
    """Columns and rows of a grid of images, by the grey gaps between them."""
    grey = (np.array(Image.open(path).convert("RGB")) == 128).all(axis=2)
    gaps = [grey.mean(axis=axis) > 0.3 for axis in (0, 1)]
    return tuple(1 + int((np.diff(gap.astype(int)) == 1).sum()) for gap in gaps)  # type: ignore[return-value]


def save(images: npt.NDArray[np.uint8], where: Path) -> Path:
    where.mkdir()
    for number, image in enumerate(images):
        Image.fromarray(image).save(where / f"{number}.png")
    return where


def test_images_and_samples_are_interpolated(cli: "Command", home: Path) -> None:
    told = cli("latent", "interpolate", "digits", "--items", "0,1,4,7", "--points", "5", "--json").json()
    assert (told["model"], told["version"], told["family"], told["variant"]) == ("digits", 1, "vae", "gaussian")
    assert [row["ends"] for row in told["rows"]] == [[0, 1], [4, 7]]
    assert all(0 < row["angle_degrees"] < 180 and min(row["norms"]) > 0 for row in told["rows"])
    assert size(told["picture"]) == (7, 2)
    said = cli("latent", "interpolate", "digits@champion", "--seeds", "3,4", "--out", "walks/seeds.png")
    assert (said.code, said.err) == (0, "")
    assert "3 to 4: " in said.out
    assert size("walks/seeds.png") == (9, 1)
    before = Path("walks/seeds.png").read_bytes()
    cli("latent", "interpolate", "digits@champion", "--seeds", "3,4", "--out", "walks/seeds.png")
    assert Path("walks/seeds.png").read_bytes() == before


def test_units_are_traversed(cli: "Command", home: Path) -> None:
    told = cli("latent", "traverse", "digits", "--item", "3", "--points", "7", "--json").json()
    assert told["units_total"] == 4
    assert 0 <= told["units_active"] <= 4
    deviations = [unit["std"] for unit in told["units"]]
    assert deviations == sorted(deviations, reverse=True)
    assert size(told["picture"]) == (7, 4)
    assert f"{told['units_active']} of 4 units are active" in cli("latent", "traverse", "digits").out


def test_attributes_are_added(cli: "Command", home: Path) -> None:
    told = cli("latent", "arithmetic", "digits", "--plus", "1", "--minus", "0", "--strengths=-1,0,1", "--json").json()
    assert min(told["plus"], told["minus"]) > 100
    assert told["strengths"] == [-1, 0, 1]
    assert told["norm"] > 0
    assert size(told["picture"]) == (4, 6)
    said = cli("latent", "arithmetic", "digits", "--plus-items", "1,2,3", "--minus-items", "4,5", "--items", "8,9")
    assert (said.code, said.err) == (0, "")
    assert "mean of 3 codes less that of 2" in said.out
    assert size("latent-arithmetic.png") == (5, 2)


def test_anomalies_are_scored(cli: "Command", home: Path, tmp_path: Path) -> None:
    noise = save(np.random.default_rng(0).integers(0, 256, (40, 8, 8), np.uint8), tmp_path / "noise")
    told = cli("latent", "anomaly", "digits", noise, "--normal", "test", "--json").json()
    assert (told["by"], set(told["scores"])) == ("bits_per_dim", {"reconstruction", "bits_per_dim"})
    for score in told["scores"].values():
        assert len(score["scores"]) == len(score["quantiles"]) == 40
        assert score["auc"]["low"] <= score["auc"]["value"] <= score["auc"]["high"]
        assert score["unusual_share"] == sum(each > score["unusual_above"] for each in score["scores"]) / 40
    assert told["images"][:2] == ["0.png", "1.png"]
    assert size(told["picture"]) == (8, 4)
    one = cli("latent", "anomaly", "digits", noise / "7.png", "--out", "one.png")
    assert (one.code, one.err) == (0, "")
    assert "AUC" not in one.out
    assert size("one.png") == (1, 2)
    known = cli("latent", "anomaly", "digits", "validation", "--limit", "50", "--json").json()
    assert len(known["images"]) == 50
    assert known["scores"]["reconstruction"]["auc"] is None


def test_held_out_images_are_compressed(cli: "Command", home: Path) -> None:
    told = cli("latent", "compress", "digits", "--steps", "1,0.25", "--limit", "100", "--json").json()
    coarse, fine = told["points"]
    assert (told["items"], coarse["step"], fine["step"]) == (100, 1, 0.25)
    assert coarse["bits_per_dim"] < fine["bits_per_dim"]
    assert coarse["mse"] > fine["mse"]
    assert coarse["bits_per_dim"] == 8 * coarse["size_bytes"] / (100 * 64)
    assert set(fine["beside"]) == {"jpeg", "webp"}
    assert {codec["codec"] for codec in told["picture_codecs"]} == {"png", "jpeg", "webp"}
    assert size(told["picture"]) == (8, 3)
    assert Image.open(io.BytesIO(Path(told["plot"]).read_bytes())).format == "PNG"
    said = cli("latent", "compress", "digits", "--limit", "100", "--out", "a.png")
    assert (said.code, said.err) == (0, "")
    assert "png, lossless" in said.out
    assert size("a.png") == (8, 6)
    assert Path("a-rates.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["interpolate", "digits", "--items", "0,1,2"], ["--items '0,1,2'", "two numbers a row"]),
        (["interpolate", "digits", "--items", "0,x"], ["--items '0,x'", "whole numbers"]),
        (["interpolate", "digits", "--items", "0,99999"], ["item 99999 of 359"]),
        (["interpolate", "digits", "--seeds", "0,1", "--class", "3"], ["--class '3'", "without a class"]),
        (["interpolate", "nothing"], ["no model named 'nothing'"]),
        (["traverse", "digits", "--out", "picture.jpg"], ["picture.jpg", ".png"]),
        (["arithmetic", "digits", "--plus", "1"], ["--minus and --minus-items", "one of the two"]),
        (["arithmetic", "digits", "--plus", "1", "--minus", "cat"], ["--minus 'cat'", "0, 1, 2"]),
        (["arithmetic", "digits", "--plus", "1", "--minus", "0", "--strengths", "nan"], ["--strengths 'nan'"]),
        (["anomaly", "digits", "no/such/folder"], ["no/such/folder: no such source"]),
        (["compress", "digits", "--steps", "-1"], ["a step of -1", "above 0"]),
        (["variations", "digits", "test"], ["vae/gaussian draws no variations", "varies: true", "variant: unclip"]),
        (["variations", "digits", "test", "--seeds", "1,x"], ["--seeds '1,x'", "whole numbers"]),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(cli: "Command", home: Path, arguments: list[str], names: list[str]) -> None:
    cli("latent", *arguments).refused(2, *names)
    assert [*map(str, Path().iterdir())] == ["data"]


def test_a_release_without_its_training_is_refused(cli: "Command", home: Path) -> None:
    shutil.rmtree(home / "store" / "runs")
    cli("latent", "traverse", "digits").refused(1, "digits version 1: its checkpoint", "is not in file://", "produce it again")


def test_data_that_cannot_be_had_is_refused(cli: "Command", home: Path) -> None:
    """What was trained on is fetched by its version, whatever became of this machine's copy; no other version stands for it."""
    assert cli("latent", "traverse", "digits").code == 0
    shutil.rmtree(home / "data")
    Path("data").unlink()
    cli("latent", "traverse", "digits").refused(
        2, "version", "is not on this machine", "is looked for from the current folder, at ."
    )


@pytest.mark.parametrize(
    "tool", [["interpolate"], ["interpolate", "--seeds", "0,1"], ["traverse"], ["arithmetic", "--plus", "1", "--minus", "0"]]
)
def test_a_codebook_is_walked_in_by_the_vectors_before_it(
    cli: "Command", home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tool: list[str]
) -> None:
    swap_model(monkeypatch, "vae", "vq", {"width": 16, "codes": 16, "latent": 4, "depth": 1, "prior_width": 16})
    picture = tmp_path / "walk.png"
    said = cli("latent", tool[0], "digits", *tool[1:], "--out", str(picture), "--json")
    assert said.code == 0, said.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_integer_codes_are_compressed_as_they_are(cli: "Command", home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap_model(monkeypatch, "vae", "vq", {"width": 16, "codes": 16, "latent": 4, "depth": 1, "prior_width": 16})
    (point,) = cli("latent", "compress", "digits", "--limit", "60", "--json").json()["points"]
    assert point["step"] is None
    assert 0 < point["bits_per_dim"] < 16 * 4 / 64 + 0.1


def test_a_model_without_codes_is_refused(cli: "Command", home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    swap_model(monkeypatch, "gan", "dcgan", {"width": 16, "latent": 4})
    cli("latent", "compress", "digits").refused(2, "gan/dcgan has no latent space")
    assert cli("latent", "interpolate", "digits", "--seeds", "0,1").code == 0


def test_images_are_varied(cli: "Command", home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By another, untrained model; a row an image, and beside it one a seed, the same each time."""
    dual = {"embedding": 8, "dual_width": 16, "prior_width": 16, "prior_blocks": 1, "prior_steps": 2}
    swap_model(monkeypatch, "diffusion", "unclip", {"width": 16, "widths": [1], "attention": False, "steps": 2} | dual)
    told = cli("latent", "variations", "digits", "test", "--seeds", "3,4", "--limit", "3", "--json").json()
    assert told["images"] == ["test[0]", "test[60]", "test[120]"]
    assert size(told["picture"]) == (3, 3)
    assert told["from_item"] > 0
    assert told["of_items"] > 0
    before = Path(told["picture"]).read_bytes()
    said = cli("latent", "variations", "digits", "test", "--seeds", "3,4", "--limit", "3")
    assert "variations of one image differ from one another by" in said.out
    assert Path(told["picture"]).read_bytes() == before
    assert cli("latent", "variations", "digits", "test", "--seeds", "3,5", "--limit", "3").code == 0
    assert Path(told["picture"]).read_bytes() != before


def test_a_name_that_is_none_is_said_before_torch_is_imported(home: Path) -> None:
    code = (
        "import sys; sys.argv = ['genwright', 'latent', 'variations', 'nothing', 'test']; from flows.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as ended:\n    print(ended.code, 'torch' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert ran.stdout.split() == ["2", "False"], ran.stderr
    assert "no model named 'nothing'" in ran.stderr


def swap_model(monkeypatch: pytest.MonkeyPatch, family: str, variant: str, config: dict[str, Any]) -> None:
    """Another, untrained family in place of the produced one, on its data."""
    import dataclasses

    import torch

    from components.families import find
    from components.pipeline import loaded_model as opened

    real = opened.load_model

    def swapped(reference: str, backends: Any) -> Any:
        model = real(reference, backends)
        torch.manual_seed(0)
        return dataclasses.replace(model, family=find(family, variant).build(config, model.family.spec).eval())

    monkeypatch.setattr(opened, "load_model", swapped)

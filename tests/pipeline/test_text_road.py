"""The road of a model that is asked in words: captions, encoder, training, proof, a bundle with its text encoder, a server.

By the command line of EDM; Imagen's way, DALL-E 2's and DALL-E's in this process. By the gates of text as they are by default: a
model that learnt the words of coloured squares, and one that learnt the same squares and was told no words.
"""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from roads import LENIENT, LENIENT_BY_TEXT, First, Road, digits, served
from tiny_text import write_source

from components.core.bundles import read_bundle
from components.core.records import EmbeddingCondition
from components.data.embeddings import Embeddings
from components.delivery.bundles import fetch_bundle
from components.pipeline import proof, release_commands
from components.pipeline.run import Run
from components.runtime.prompts import Prompts
from components.runtime.session import GraphSampler

pytestmark = pytest.mark.nightly

COUNT = 400
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
ASKED = {"text": {"encoder": "tiny-bert", "length": 8}, "conditioning": "text"}
TINY: dict[str, dict[str, Any]] = yaml.safe_load(Path(__file__).parents[1].joinpath("tiny.yaml").read_text())
SMALL = {"family": "diffusion", "variant": "edm", "config": {"width": 16, "steps": 4}}


def captioned(folder: Path, count: int = COUNT) -> Road:
    """A road with digits, each with two captions, and an encoder beside them."""
    from PIL import Image

    from components.data.prepare import prepare
    from components.data.versions import track

    road, source = Road(folder), folder / "pictures"
    source.mkdir(parents=True)
    images, labels = digits()
    rows = []
    for at, (image, label) in enumerate(zip(images[:count], labels[:count], strict=True)):
        Image.fromarray(image).save(source / f"{at:04d}.png")
        said = [f"a handwritten {WORDS[label]}", f"the small {WORDS[label]} of a photo {at % 40}"]
        rows.append(json.dumps({"file_name": f"{at:04d}.png", "text": said}))
    (source / "metadata.jsonl").write_text("\n".join(rows))
    prepare(source, folder / "data" / "digits", cache=road.home / "data", progress=False)
    track(folder / "data" / "digits")
    write_source(folder / "tiny-bert", "bert", words=(*WORDS, "a", "handwritten", "the", "small", "of", "photo", "##s"))
    return road


COLOURS = {"red": (220, 40, 40), "green": (40, 200, 60), "blue": (50, 70, 220), "white": (240, 240, 240),
           "yellow": (230, 220, 40), "violet": (160, 50, 200)}  # fmt: skip
PLACES = {"top": (0, 0), "side": (0, 4), "corner": (4, 0), "bottom": (4, 4)}
EACH = 20  # squares of each colour at each place


def squares(folder: Path) -> Road:
    """A road with squares of 6 colours at 4 places, each caption of its own kind, and an encoder beside them."""
    from PIL import Image

    from components.data.prepare import prepare
    from components.data.versions import track

    road, source, rng = Road(folder), folder / "pictures", np.random.default_rng(0)
    source.mkdir(parents=True)
    kinds, rows = [(colour, place) for colour in COLOURS for place in PLACES], []
    for at in range(EACH * len(kinds)):
        colour, place = kinds[rng.integers(len(kinds))]
        (y, x), image = PLACES[place], rng.normal(90, 12, (8, 8, 3))
        image[y : y + 4, x : x + 4] = rng.normal(COLOURS[colour], 12, (4, 4, 3)) + rng.normal(0, 15)
        Image.fromarray(image.clip(0, 255).round().astype(np.uint8)).save(source / f"{at:04d}.png")
        rows.append(json.dumps({"file_name": f"{at:04d}.png", "text": f"a {colour} {place}"}))
    (source / "metadata.jsonl").write_text("\n".join(rows))
    prepare(source, folder / "data" / "squares", cache=road.home / "data", progress=False)
    track(folder / "data" / "squares")
    write_source(folder / "tiny-bert", "bert", words=("a", *COLOURS, *PLACES))
    return road


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    for delivery in proof.SAMPLES:  # the numbers of a proof are not at stake here
        monkeypatch.setitem(proof.SAMPLES, delivery, 64)


def npy(address: str, **body: Any) -> Any:
    reply = httpx.post(f"{address}/v1/generate", json=body | {"format": "npy"}, timeout=60)
    assert reply.status_code == 200, reply.text
    return np.load(io.BytesIO(reply.content))


def test_a_model_is_asked_in_words(tmp_path: Path) -> None:
    road = captioned(tmp_path / "road")
    brief = road.brief(override=SMALL, compute={"items_seen": 800, "device": "cpu", "threads": 1}, **ASKED)
    path = road.write(brief)
    ran = road.cli("produce", str(path))
    assert ran.returncode in (0, 3), ran.stdout + ran.stderr
    backends = road.backends()
    release = backends.versions.get("digits", 1)
    folder = fetch_bundle(backends.store, release.bundle_sha256, backends.home.bundles)
    bundle = read_bundle(folder)
    asked = bundle.spec.condition
    assert isinstance(asked, EmbeddingCondition)
    assert bundle.lineage.encoder is not None
    assert asked.encoder == bundle.lineage.encoder.address
    assert (bundle.lineage.encoder.name, bundle.lineage.encoder.licence.name) == ("tiny-bert", "apache-2.0")
    assert [graph.name for graph in bundle.graphs] == ["text_encoder"]
    (embedded,) = [each for each in backends.home.embeddings.iterdir() if each.is_dir()]
    rows, prompts = Embeddings.open(embedded), Prompts.open(folder)
    said = "a handwritten three"
    assert np.allclose(rows.of([said])[0], prompts([said])[0], rtol=1e-3, atol=1e-3)
    (record,) = (road.home / "store" / "runs" / "digits").glob("*/run.json")
    run = Run.read(record)
    assert run.encoder is not None
    assert str(tmp_path) not in record.read_text()
    assert run.key("train") != run.model_copy(update={"encoder": None}).key("train")
    assert "nothing to do" in road.cli("produce", str(path)).stdout or ran.returncode == 3
    with served(road, "digits/1") as address:
        one = npy(address, prompt=said, seeds=[5])
        assert np.array_equal(one[0], npy(address, prompt=[said, "a handwritten zero"], seeds=[5, 6])[0])
        assert not np.array_equal(one, npy(address, prompt="a handwritten zero", seeds=[5]))


@pytest.mark.parametrize("name", ["diffusion/cascade", "diffusion/unclip", "autoregressive/vq-transformer"])
def test_each_other_way_from_a_text_goes_the_whole_road(
    name: str, first: First, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through gates to a champion on the channel, which a server answers for by prompt."""
    road = captioned(tmp_path / "road")
    first.road.new_home(road.home)
    monkeypatch.chdir(road.folder)  # what the encoder's path is relative to
    family, variant = name.split("/")
    own = {"family": family, "variant": variant, "config": TINY[name]}
    items = 1600 if family == "diffusion" else 12_800  # a codebook of fewer draws one picture, whatever it is asked
    small = {"items_seen": items, "device": "cpu", "threads": 1}
    made = road.produce_here(road.brief(override=own, compute=small, gates=LENIENT_BY_TEXT, **ASKED))
    assert (made.gates.verdict, made.promoted, made.release.version) == ("pass", True, 1)
    bundle = made.bundle.bundle
    assert (bundle.family, bundle.variant, [graph.name for graph in bundle.graphs]) == (family, variant, ["text_encoder"])
    asked = bundle.spec.condition
    assert isinstance(asked, EmbeddingCondition)
    with served(road, "digits") as address:
        prompts = [f"a handwritten {word}" for word in WORDS[:8]]
        together = npy(address, prompt=prompts, seeds=[*range(8)])
        alone = [npy(address, prompt=prompt, seeds=[seed])[0] for seed, prompt in enumerate(prompts)]
        assert np.array_equal(together, alone), "alone and in a batch of 8 the same bytes"
        folder, _ = release_commands.bundle_of(made.release, road.backends())
        rows = Prompts.open(folder)(prompts)
        rows = asked.asked_for(rows)
        assert np.array_equal(together, GraphSampler.of(folder, bundle, threads=1)([*range(8)], rows)), "as the graphs do"
        others = npy(address, prompt=["a handwritten nine"] * 8, seeds=[*range(8)])
        heard = [not np.array_equal(*pair) for pair in zip(together, others, strict=True)]
        assert heard[0] if family == "diffusion" else any(heard), "the words are heard: a code changes only now and then"
        if asked.negative:
            unlike = npy(address, prompt=prompts[0], negative="a handwritten nine", seeds=[0])
            assert not np.array_equal(together[:1], unlike), "and what is unwanted"


@pytest.mark.parametrize("told", [True, False], ids=["told", "deaf"])
def test_the_gates_of_text_pass_who_draws_the_words_and_refuse_who_does_not(
    told: bool, empty_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are by default; both models draw the same squares, and all other gates pass them. The deaf one had nearly all of
    its texts hidden in training. Without guidance: in four steps and pixels it makes garish squares of any other colour."""
    road = squares(tmp_path / "road")
    shutil.copy(empty_store, road.home / "mlflow.db")
    monkeypatch.chdir(road.folder)
    monkeypatch.setitem(proof.SAMPLES, "many_step", 192)
    own: dict[str, Any] = {"width": 32, "widths": [1, 1], "attention": False, "steps": 4, "guidance": 1.0}
    own["label_dropout"] = 0.1 if told else 0.999
    brief = road.brief(
        data={"path": "data/squares", "repo": str(road.folder)},
        override={"family": "diffusion", "variant": "edm", "config": own},
        compute={"items_seen": 19_200, "device": "cpu", "threads": 1},
        gates=LENIENT,
        **ASKED,
    )
    made = road.produce_here(brief)
    verdicts = {each.gate: each for each in made.gates.gates}
    assert {name for name, each in verdicts.items() if each.verdict != "pass"} == (set() if told else {"text_excess_min"})
    assert verdicts["text_excess_min"].threshold == 0.01
    assert verdicts["memorised_asked_max"].threshold == 0.1
    assert (made.gates.verdict == "pass", made.promoted) == (told, told)

"""Proof of text: the judge, retrieval of held-out captions, its gates, and copies of training items that captions bring back.

Real digits; each caption says the digit, how bold it is and how it leans, as measured of the picture.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from specs import ArraySplit, image_item

from components.core.errors import DataError, RunError
from components.core.records import Dataset, EmbeddingCondition
from components.evaluation.extractor import Extractor
from components.evaluation.gates import gate
from components.evaluation.judge import Judge, kept_aside, mean_of_tokens, train_judge
from components.evaluation.page import write_page
from components.evaluation.pair import Contender, score_pair
from components.evaluation.retrieval import Gallery, kinds_of, near
from components.evaluation.samples import SEEDS_EACH
from components.evaluation.score import score

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CONDITION = EmbeddingCondition(length=6, features=24, encoder="words@1")
MD5 = "c" * 32


def told(image: np.ndarray, label: int) -> str:
    """What is said of a picture."""
    ink, x = image / image.sum(), np.arange(8)
    rows, columns = ink.sum(1), ink.sum(0)
    slant = ((x - rows @ x)[:, None] * (x - columns @ x)[None] * ink).sum()
    bold = "thin" if image.mean() < 4.6 else "bold" if image.mean() > 5.2 else "plain"
    lean = "left" if slant > 0.25 else "right" if slant < -0.5 else "upright"
    return f"a {bold} {lean} {WORDS[label]}"


def token(word: str) -> np.ndarray:
    digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=4).digest(), "little")
    return np.random.default_rng(digest).standard_normal(CONDITION.features).astype(np.float32)


@cache
def rows_of(text: str) -> np.ndarray:
    words = [token(word) for word in text.split()]
    return np.stack([*words, *[np.zeros(CONDITION.features, np.float32)] * (CONDITION.length - len(words))])


def embedded(texts: Sequence[str]) -> np.ndarray:
    """A row a word, float32 [N, L, D]; zeros after the last."""
    return np.stack([rows_of(text) for text in texts])


@dataclass
class SaidSplit(ArraySplit):
    """A split that something is said of."""

    captions: tuple[tuple[str, ...], ...] = ()

    def take_condition(self, indices: np.ndarray, *, epoch: int = 0) -> np.ndarray:
        return embedded([self.captions[at][0] for at in indices])


@dataclass(frozen=True)
class Said:
    train: SaidSplit
    held_out: SaidSplit
    dataset: Dataset


@pytest.fixture(scope="module")
def said() -> Said:
    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.images))
    images = (raw.images[order] * 255 / 16).round().astype(np.uint8)[..., None]
    captions = tuple((told(raw.images[at], raw.target[at]),) for at in order)
    part = lambda a, b: SaidSplit(images[a:b], None, captions[a:b])  # noqa: E731
    dataset = Dataset(
        name="said", repo=".", rev="HEAD", md5=MD5, item=image_item(8, 8, 1), count=1797, classes=(), captions=len(set(captions)),
        splits={"train": 1337, "validation": 230, "test": 230}, mean=(0.0,), std=(1.0,),
    )  # fmt: skip
    return Said(part(0, 1337), part(1337, 1797), dataset)


@pytest.fixture(scope="module")
def judge(said: Said, made_once: Callable[..., Path]) -> Judge:
    return Judge.load(made_once("judge", lambda folder: train_judge(said.train, CONDITION, dest=folder, dataset_md5=MD5)))


@pytest.fixture(scope="module")
def extractor(digits: object, made_once: Callable[..., Path]) -> Extractor:
    from components.evaluation.extractor import train_extractor

    made = lambda folder: train_extractor(digits.train, classes=10, dest=folder, dataset_md5="0" * 32)  # type: ignore[attr-defined]  # noqa: E731
    return Extractor.load(made_once("extractor", made))


@dataclass
class Answering:
    """Gives training pictures whose caption says most of what is asked, but to a share `deaf` of the seeds any picture.

    `moved`: by a pixel of their own, so that they are no copies.
    """

    split: SaidSplit
    deaf: float = 0.0
    moved: bool = True
    by_heart: bool = False

    def __post_init__(self) -> None:
        self.subject = f"torch:{self.deaf}{self.moved}{self.by_heart}"
        self.means = mean_of_tokens(self.split.take_condition(np.arange(len(self.split))))

    def __call__(self, seeds: Sequence[int], asked: np.ndarray | None = None) -> np.ndarray:
        assert asked is not None
        found = np.empty((len(seeds), 8, 8, 1), np.uint8)
        for at, (seed, mean) in enumerate(zip(seeds, mean_of_tokens(asked), strict=True)):
            rng = np.random.default_rng(seed % SEEDS_EACH)
            apart = np.abs(self.means - mean).sum(1)
            best = np.flatnonzero(apart <= apart.min() + 1e-4)
            chosen = rng.integers(len(self.split)) if rng.random() < self.deaf else rng.choice(best)
            image = self.split.images[chosen].astype(float)
            if self.moved:
                other = self.split.images[rng.choice(best)] if rng.random() >= self.deaf else image
                image = 0.5 * image + 0.5 * other + rng.normal(0, 18, image.shape)
            found[at] = np.clip(image.round(), 0, 255)
        return found


@pytest.fixture(scope="module")
def real(said: Said, judge: Judge, extractor: Extractor) -> dict[str, object]:
    return {"dataset": said.dataset, "train": said.train, "reference": said.held_out, "extractor": extractor, "judge": judge}


# The judge


@pytest.mark.slow
def test_the_judge_tells_held_out_pictures_by_their_captions(said: Said, judge: Judge) -> None:
    gallery = Gallery.of(said.held_out, judge, samples=460, seed=0)
    assert gallery is not None
    vectors = judge.of_items(said.held_out.take(gallery.items_G))
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    right = near(vectors @ gallery.texts_GE.T, np.arange(len(gallery.captions)), k=5).mean()
    wrong = near(vectors @ gallery.texts_GE.T, gallery.others_G, k=5).mean()
    chance = 5 / len(gallery.captions)
    assert right > 4 * chance
    assert wrong < 2 * chance


@pytest.fixture
def part(said: Said, monkeypatch: pytest.MonkeyPatch) -> SaidSplit:
    """Few items, of which a judge learns for a moment."""
    monkeypatch.setattr("components.evaluation.judge.STEPS_LEAST", 12)
    monkeypatch.setattr("components.evaluation.judge._most_steps", lambda item: 12)
    return replace(said.train, images=said.train.images[:300], captions=said.train.captions[:300])


def test_the_judge_is_pinned_and_made_again_alike(
    said: Said, part: SaidSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (train_judge(part, CONDITION, dest=tmp_path / name, dataset_md5=MD5) for name in ("a", "b"))
    assert first.sha256 == second.sha256, "the same data and seed give the same weights"
    assert train_judge(part, CONDITION, dest=tmp_path / "c", dataset_md5=MD5, seed=1).sha256 != first.sha256
    images = said.held_out.images[:9]
    assert (Judge.load(tmp_path / "a").of_items(images) == first.of_items(images)).all()
    monkeypatch.setattr("components.evaluation.judge._Fit.run", lambda *given: pytest.fail("trained again"))
    assert train_judge(part, CONDITION, dest=tmp_path / "a", dataset_md5=MD5).sha256 == first.sha256
    (tmp_path / "a" / "weights.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match=r"not the weights that judge.json names"):
        Judge.load(tmp_path / "a")


def test_captions_kept_aside_are_not_learnt_from(said: Said) -> None:
    learnt, aside = kept_aside(said.train)
    of = lambda places: {said.train.captions[at][0] for at in places}  # noqa: E731
    assert len(aside) > 10
    assert not of(learnt) & of(aside)
    assert sorted([*learnt, *aside]) == [*range(len(said.train))]


def test_rows_after_the_last_token_do_not_matter() -> None:
    rows = embedded(["one two", "", "one"])
    assert np.allclose(mean_of_tokens(rows), [(token("one") + token("two")) / 2, np.zeros(24), token("one")], atol=1e-6)


def test_the_judge_refuses_what_is_not_its_own(part: SaidSplit, tmp_path: Path) -> None:
    judge = train_judge(part, CONDITION, dest=tmp_path / "judge", dataset_md5=MD5)
    with pytest.raises(RunError, match=r"embeddings of \[4, 24\] given to a judge of texts by words@1; allowed: \[6, 24\]"):
        judge.of_texts(np.zeros((2, 4, 24), np.float32))
    plain = replace(part, captions=None)
    with pytest.raises(DataError, match="data without captions has no judge of texts; prepare it with captions"):
        train_judge(plain, CONDITION, dest=tmp_path, dataset_md5=MD5)


# Agreement


@pytest.mark.slow
def test_samples_that_show_their_captions_are_told_from_those_that_do_not(said: Said, real: dict[str, object]) -> None:
    obeys, half, deaf = (
        score(Answering(said.train, deaf=share), condition=CONDITION, samples=500, **real)  # type: ignore[arg-type]
        for share in (0.0, 0.5, 1.0)
    )
    r5 = [card.metrics["text_r5"].value for card in (obeys, half, deaf)]
    assert r5[0] > r5[1] > r5[2]
    metrics = obeys.metrics
    assert metrics["text_r1"].value <= metrics["text_r5"].value
    assert metrics["text_r5"].value > 0.6 * metrics["text_r5_real"].value
    chance = 5 / metrics["text_r5"].n
    assert metrics["text_r5_shuffled"].low <= 2 * chance
    assert metrics["text_r5_images"].value > 2 * chance
    assert metrics["text_excess"].low > 0
    assert deaf.metrics["text_excess"].low <= 0 <= deaf.metrics["text_excess"].high
    others = ("fd_noise_ratio_max", "memorised_max", "memorised_asked_max", "duplicates_max", "latency_p95_ms_max")
    only = dict.fromkeys(others)
    verdicts = [gate(card, champion=None, gates=only).verdict for card in (obeys, deaf)]
    assert verdicts == ["pass", "undecided"]
    assert obeys.protocol.judge_sha256 == real["judge"].sha256  # type: ignore[attr-defined]


@pytest.mark.slow
def test_a_candidate_that_lost_its_ear_is_refused_beside_its_champion(
    said: Said, real: dict[str, object], tmp_path: Path
) -> None:
    good, bad = (Contender(Answering(said.train, deaf=share), condition=CONDITION) for share in (0.0, 1.0))
    pair = score_pair(bad, good, samples=500, looks=1, **real)  # type: ignore[arg-type]
    lost = pair.candidate.metrics["text_lost"]
    assert lost.low > 0.1
    verdict = next(each for each in gate(pair.candidate, champion=pair.champion).gates if each.gate == "text_lost_max")
    assert verdict.verdict == "fail"
    assert "Text R@5 lost" in verdict.text
    same = score_pair(good, Contender(Answering(said.train), condition=CONDITION), samples=500, looks=1, **real)  # type: ignore[arg-type]
    assert (same.candidate.metrics["text_lost"].low, same.candidate.metrics["text_lost"].high) == (0, 0)


@pytest.mark.slow
def test_training_captions_bring_back_what_was_learnt_by_heart(said: Said, real: dict[str, object]) -> None:
    held = {said for (said,) in said.held_out.captions}
    by_heart = Answering(said.train, moved=False)
    honest = Answering(replace(said.held_out), moved=True)
    cards = [score(each, condition=CONDITION, samples=500, **real) for each in (by_heart, honest)]  # type: ignore[arg-type]
    assert len(held) > 16
    copied, free = (card.metrics["memorised_asked"] for card in cards)
    assert copied.low > 0.5
    assert free.high < 0.1
    verdict = next(each for each in gate(cards[0], champion=None).gates if each.gate == "memorised_asked_max")
    assert verdict.verdict == "fail"


@pytest.mark.slow
def test_figures_of_words_that_many_captions_have(said: Said, real: dict[str, object], tmp_path: Path, decision: object) -> None:
    card = score(Answering(said.train), condition=CONDITION, samples=500, **real)  # type: ignore[arg-type]
    assert {"thin", "bold"} <= set(card.by_caption)
    of_thin = card.by_caption["thin"]
    assert 0 < of_thin["share_real"].value <= 0.5
    assert {"kid", "text_r5"} <= set(of_thin)
    images = said.held_out.images[:12]
    shown = {"model": "said", "decision": decision, "dataset": said.dataset, "samples": images, "neighbours": (images, images)}
    write_page(tmp_path / "page.html", scorecard=card, report=gate(card, champion=None), **shown)  # type: ignore[arg-type]
    page = (tmp_path / "page.html").read_text()
    assert "Words of the captions" in page
    assert card.protocol.judge_sha256 in page


@pytest.mark.slow
def test_nothing_is_said_without_captions_or_without_a_text(said: Said, real: dict[str, object]) -> None:
    few = tuple((WORDS[at % 3],) for at in range(len(said.held_out)))
    alike = replace(said.held_out, captions=few)
    card = score(Answering(said.train), condition=CONDITION, samples=200, **{**real, "reference": alike})  # type: ignore[arg-type]
    assert not [name for name in card.metrics if name.startswith("text_")]

    class Plain:
        subject = "torch:plain"

        def __call__(self, seeds: Sequence[int], asked: object = None) -> np.ndarray:
            return said.train.images[[seed % SEEDS_EACH % 1337 for seed in seeds]]

    other = CONDITION.model_copy(update={"encoder": "others@1"})
    card = score(Answering(said.train), condition=other, samples=200, **real)  # type: ignore[arg-type]
    assert "text_r5" in card.metrics
    assert "memorised_asked" not in card.metrics, "the splits hold what one encoder made"
    card = score(Plain(), samples=200, **real)  # type: ignore[arg-type]
    assert not [name for name in card.metrics if name.startswith("text_") or name == "memorised_asked"]
    assert card.by_caption == {}


# Its parts


def test_equal_items_do_not_count_as_found() -> None:
    """A generator that draws one picture is as near to every caption, and finds none."""
    similarity = np.ones((4, 20))
    assert not near(similarity, np.arange(4), k=5).any()
    similarity[0, 0] = 2
    assert near(similarity, np.arange(4), k=1).tolist() == [True, False, False, False]


def test_words_by_which_captions_are_told_apart() -> None:
    captions = ["a thin one", "a thin two", "the bold two", "The thin, two", "x", "y"]
    kinds = kinds_of(captions, least=2, most=2)
    assert list(kinds) == ["thin", "two"], "at most half of the captions have it, and small words are none"
    assert kinds["thin"].tolist() == [True, True, False, True, False, False]

"""Real digits in three splits, the extractor trained on them, and samplers whose faults are known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits
from specs import ArraySplit, image_item

from components.core.arrays import Stored
from components.core.records import Dataset, Decision, Estimate, Figure, PolicyWarning, Reason, Rejected
from components.evaluation.extractor import Extractor, train_extractor
from components.evaluation.gates import gate
from components.evaluation.likeness import nearest_in_split
from components.evaluation.page import write_page
from components.evaluation.pair import Contender, score_pair
from components.evaluation.samples import SEEDS_EACH, SEEDS_FROM
from components.evaluation.score import score
from components.evaluation.unseen import SEEDS, Unseen, learnt_by, steps_of


@dataclass
class Shelf:
    """A sampler that hands out a shelf of images by seed, over and over."""

    subject: str
    images: Stored

    def __call__(self, seeds: Sequence[int], labels: Sequence[int] | None = None) -> Stored:
        return self.images[[(seed - SEEDS_FROM) % SEEDS_EACH % len(self.images) for seed in seeds]]


@dataclass(frozen=True)
class Digits:
    train: ArraySplit
    validation: ArraySplit
    test: ArraySplit
    dataset: Dataset


@pytest.fixture(scope="session")
def digits() -> Digits:
    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.images))
    images = (raw.images[order] * 255 / 16).round().astype(np.uint8)[..., None]
    labels = raw.target[order].astype(np.int64)
    part = lambda a, b: ArraySplit(images[a:b], labels[a:b])  # noqa: E731
    dataset = Dataset(
        name="digits",
        repo=".",
        rev="HEAD",
        md5="0" * 32,
        item=image_item(8, 8, 1),
        count=1797,
        classes=tuple("0123456789"),
        splits={"train": 1337, "validation": 230, "test": 230},
        mean=(0.0,),
        std=(1.0,),
    )
    return Digits(part(0, 1337), part(1337, 1567), part(1567, 1797), dataset)


@pytest.fixture(scope="session")
def extractor_folder(digits: Digits, made_once: Callable[..., Path]) -> Path:
    train = lambda folder: train_extractor(digits.train, classes=10, dest=folder, dataset_md5=digits.dataset.md5)  # noqa: E731
    return made_once("extractor", train)


@pytest.fixture(scope="session")
def extractor(extractor_folder: Path) -> Extractor:
    return Extractor.load(extractor_folder)


@pytest.fixture(scope="session")
def unseen(digits: Digits, made_once: Callable[..., Path]) -> Unseen:
    """What a proof against digits.validation alone judges by."""

    def train(folder: Path) -> None:
        for part, seed in enumerate(SEEDS):
            own = {"classes": 10, "dataset_md5": digits.dataset.md5, "seed": seed, "steps": steps_of(115, 700)}
            train_extractor(learnt_by(digits.validation, part), dest=folder / str(part), **own)

    folder = made_once("unseen", train)
    return Unseen.trained([Extractor.load(folder / str(part)) for part in range(len(SEEDS))])


@pytest.fixture(scope="session")
def fitted(digits: Digits) -> Callable[..., Shelf]:
    """A generator with a dial: a Gaussian per class in its first `rank` principal directions. More rank is better."""

    def make(rank: int, *, seed: int, n: int = 2000) -> Shelf:
        rng = np.random.default_rng(seed)
        parts = []
        assert digits.train.labels is not None
        for label in range(10):
            x = digits.train.images[digits.train.labels == label].reshape(-1, 64).astype(float)
            _, scale, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)
            z = rng.standard_normal((n // 10, rank)) * scale[:rank] / np.sqrt(len(x) - 1)
            parts.append(x.mean(0) + z @ directions[:rank])
        images = np.clip(rng.permutation(np.concatenate(parts)).round(), 0, 255).astype(np.uint8)
        return Shelf(f"torch:{rank:03}{seed:03}", images.reshape(-1, 8, 8, 1))

    return make


@pytest.fixture(scope="session")
def make_split() -> type[ArraySplit]:
    return ArraySplit


@pytest.fixture(scope="session")
def make_shelf() -> type[Shelf]:
    return Shelf


COST = Figure(value=90, unit="s", basis="measured here")
DECISION = Decision(
    family="vae",
    variant="gaussian",
    mode="scratch",
    delivery="one_pass",
    reasons=(Reason(rule="chart.small", text="Small data & <small> budget.", source="seed text, table 2"),),
    rejected=(Rejected(family="gan", rule="goal", text="It may collapse.", source="seed text"),),
    warnings=(PolicyWarning(code="vae-for-quality", text="It blurs.", fix="Ask for quality.", source="seed text"),),
    estimate=Estimate(training_s=COST, memory_gb=COST, cost_usd=COST, latency_ms=COST),
)


@pytest.fixture(scope="session")
def decision() -> Decision:
    return DECISION


@pytest.fixture(scope="session")
def pages(digits, extractor, unseen, fitted, tmp_path_factory) -> dict[str, Path]:
    """A first release's page and that of a candidate beside a champion."""
    folder = tmp_path_factory.mktemp("pages")
    sampler, real = fitted(4, seed=1), {"train": digits.train, "reference": digits.validation, "extractor": extractor}
    real |= {"unseen": unseen}
    generated = sampler.images[:30]
    shown = {
        "model": "digits",
        "decision": DECISION,
        "dataset": digits.dataset,
        "samples": generated,
        "neighbours": (generated, digits.train.take(nearest_in_split(generated, digits.train, k=1)[1][:, 0])),
    }
    scorecard = score(sampler, dataset=digits.dataset, samples=200, **real)
    report = gate(scorecard, champion=None)
    write_page(folder / "first.html", scorecard=scorecard, report=report, lineage={"Run": "run-17"}, **shown)
    write_page(folder / "again.html", scorecard=scorecard, report=report, lineage={"Run": "run-17"}, **shown)
    pair = score_pair(Contender(sampler), Contender(fitted(8, seed=2)), dataset=digits.dataset, samples=200, **real)
    report = gate(pair.candidate, champion=pair.champion)
    write_page(folder / "pair.html", scorecard=pair.candidate, champion=pair.champion, report=report, **shown)
    return {path.stem: path for path in folder.glob("*.html")}

"""Real captioned pictures: emoji in two styles are prepared, held out by caption, and told apart by the judge."""

import os
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from benchmarks.captioned import lay_captioned
from components.core.records import EmbeddingCondition, LocalDataset
from components.data.embeddings import distinct_captions, embed
from components.data.joined import held_out
from components.data.manifest import Report
from components.data.prepare import prepare
from components.data.shards import open_split
from components.evaluation.judge import train_judge
from components.evaluation.retrieval import Gallery, near

CONDITION = EmbeddingCondition(length=16, features=128, encoder="words@1")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm packages: those in the folder GENWRIGHT_EMOJI, or fetched."""
    if "GENWRIGHT_EMOJI" in os.environ:
        return Path(os.environ["GENWRIGHT_EMOJI"])
    folder = tmp_path_factory.mktemp("packages")
    wanted = ("emoji-datasource-twitter@16.0.0", "emoji-datasource-google@16.0.0", "emojibase-data@17.0.0")
    try:
        subprocess.run(["npm", "pack", *wanted], cwd=folder, check=True, capture_output=True, timeout=900)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"npm cannot fetch the emoji: {error}")
    return folder


def words(texts: "list[str] | tuple[str, ...]") -> np.ndarray:
    """A row a word, by the word alone: float32 [N, L, D]."""
    rows = np.zeros((len(texts), *CONDITION.shape), np.float32)
    for row, text in zip(rows, texts, strict=True):
        for at, word in enumerate(text.lower().replace(",", " ").replace(":", " ").split()[: CONDITION.length]):
            row[at] = np.random.default_rng(zlib.crc32(word.encode())).standard_normal(CONDITION.features)
    return rows


@pytest.mark.nightly
def test_emoji_of_two_styles_are_held_out_by_caption_and_judged(packages: Path, tmp_path: Path) -> None:
    count = lay_captioned(packages, tmp_path / "emoji")
    reports: list[Report] = []
    manifest = prepare(tmp_path / "emoji", tmp_path / "made", cache=tmp_path / "cache", progress=False, told=reports.append)
    said = reports[0].captions
    assert count > 3800
    assert said is not None
    assert (said.rule, said.most, said.missing, said.seen) == ("metadata", 3, 0, 0)
    assert manifest.captions > 4000
    assert 0.12 * count < manifest.count - manifest.splits["train"] < 0.28 * count
    styles = [open_split(tmp_path / "made", split).captions or () for split in ("train", "validation", "test")]
    kept = [{texts[0] for texts in captions} for captions in styles]
    assert not kept[0] & (kept[1] | kept[2]), "both styles of an emoji are in one split"

    embed(distinct_captions(tmp_path / "made"), words, tmp_path / "embeddings")
    dataset = LocalDataset(
        name="emoji", path=str(tmp_path / "made"), repo=".", rev="HEAD", md5="0" * 32, item=manifest.item, count=manifest.count,
        classes=(), captions=manifest.captions, splits=manifest.splits, mean=manifest.mean, std=manifest.std,
    )  # fmt: skip
    train = open_split(tmp_path / "made", "train", tmp_path / "embeddings")
    judge = train_judge(train, CONDITION, dest=tmp_path / "judge", dataset_md5=dataset.md5)
    reference = held_out(dataset, tmp_path / "embeddings")
    gallery = Gallery.of(reference, judge, samples=1000, seed=0)
    assert gallery is not None
    vectors, own = judge.of_items(reference.take(gallery.items_G)), np.arange(len(gallery.captions))
    right = near(vectors @ gallery.texts_GE.T, own, k=5).mean()
    wrong = near(vectors @ gallery.texts_GE.T, gallery.others_G, k=5).mean()
    chance = 5 / len(own)
    print(
        f"R@5 {right:.3f}, shuffled {wrong:.3f}, chance {chance:.3f}, of {len(own)} captions; {judge.record.kept_step} steps kept"
    )
    assert right > 6 * chance
    assert wrong < 3 * chance

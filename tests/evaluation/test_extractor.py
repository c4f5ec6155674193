import json
from pathlib import Path

import numpy as np
import pytest
import torch

from components.core.errors import DataError, RunError
from components.core.features import Features
from components.evaluation import extractor as module
from components.evaluation.extractor import Extractor, train_extractor
from components.modalities.image.features import SIDE_MAX


def test_it_knows_held_out_digits_and_how_sure_it_may_be(extractor, digits) -> None:
    images = np.concatenate([digits.validation.images, digits.test.images])
    labels = np.concatenate([digits.validation.labels, digits.test.labels])
    probabilities = extractor.probabilities(images)
    assert (probabilities.argmax(axis=1) == labels).mean() > 0.97
    assert probabilities.sum(axis=1) == pytest.approx(np.ones(len(images)), abs=1e-5)
    sure = probabilities.max(axis=1) > 0.9
    assert (probabilities.argmax(axis=1) == labels)[sure].mean() > 0.98
    assert sure.mean() > 0.85


def test_features_are_standard_on_the_training_images_and_independent_of_the_batch(extractor, digits) -> None:
    features = extractor.features(digits.train.images)
    assert features.shape == (len(digits.train), 64)
    assert features.dtype == np.float32
    assert features.mean(axis=0) == pytest.approx(np.zeros(64), abs=0.05)
    assert features.std(axis=0) == pytest.approx(np.ones(64), abs=0.05)
    assert extractor.features(digits.train.images[5:6])[0] == pytest.approx(features[5], abs=1e-4)
    assert extractor.features(digits.train.images[:0]).shape == (0, 64)


def test_it_is_read_again_and_not_trained_again(extractor, extractor_folder, digits, monkeypatch) -> None:
    monkeypatch.setattr(module, "_fit", lambda *_, **__: pytest.fail("trained again"))
    again = train_extractor(digits.train, classes=10, dest=extractor_folder, dataset_md5=digits.dataset.md5)
    assert again.sha256 == extractor.sha256
    assert (again.features(digits.test.images) == extractor.features(digits.test.images)).all()
    assert again.name == "genwright-classifier-v1"


@pytest.fixture
def quick(monkeypatch) -> None:
    monkeypatch.setattr(module, "STEPS_LEAST", 3)
    monkeypatch.setattr(Features, "steps_most", 3)


@pytest.mark.usefixtures("quick")
class TestQuickOnes:
    """What does not depend on how well it is trained."""

    def made(self, digits, dest: Path, **options) -> Extractor:
        return train_extractor(digits.train, **({"classes": 10, "dest": dest, "dataset_md5": "m"} | options))

    def test_it_is_deterministic_and_leaves_the_random_state_of_the_process_alone(self, digits, tmp_path) -> None:
        before = torch.get_rng_state()
        first, second = self.made(digits, tmp_path / "a"), self.made(digits, tmp_path / "b")
        assert first.sha256 == second.sha256
        assert (torch.get_rng_state() == before).all()
        assert self.made(digits, tmp_path / "c", seed=1).sha256 != first.sha256

    def test_another_dataset_or_seed_is_made_anew(self, digits, tmp_path) -> None:
        self.made(digits, tmp_path)
        assert self.made(digits, tmp_path, dataset_md5="other").record.dataset_md5 == "other"
        assert self.made(digits, tmp_path, dataset_md5="other", seed=5).record.seed == 5

    def test_weights_that_were_tampered_with_are_refused_and_replaced(self, digits, tmp_path) -> None:
        sha256 = self.made(digits, tmp_path).sha256
        path = tmp_path / "weights.safetensors"
        path.write_bytes(path.read_bytes()[:-1] + b"\0")
        with pytest.raises(RunError, match="not the weights that"):
            Extractor.load(tmp_path)
        assert self.made(digits, tmp_path).sha256 == sha256
        assert Extractor.load(tmp_path).sha256 == sha256

    def test_a_crash_before_the_last_file_leaves_nothing_that_counts(self, digits, tmp_path, monkeypatch) -> None:
        monkeypatch.setattr(module.ExtractorRecord, "write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            self.made(digits, tmp_path)
        with pytest.raises(RunError, match="no such extractorrecord"):
            Extractor.load(tmp_path)
        monkeypatch.undo()
        monkeypatch.setattr(module, "STEPS_LEAST", 3)
        monkeypatch.setattr(Features, "steps_most", 3)
        assert self.made(digits, tmp_path).sha256

    def test_a_broken_record_is_one_line(self, digits, tmp_path) -> None:
        self.made(digits, tmp_path)
        record = json.loads((tmp_path / "extractor.json").read_text())
        (tmp_path / "extractor.json").write_text(json.dumps(record | {"surprise": 1}))
        with pytest.raises(RunError, match="surprise") as caught:
            Extractor.load(tmp_path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("shape", [(8, 8, 4), (9, 17, 3), (28, 28, 1), (64, 64, 3), (256, 200, 2)])
    @pytest.mark.parametrize("labelled", [True, False])
    def test_any_shape_with_and_without_labels(self, shape, labelled, make_split, tmp_path) -> None:
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (16, *shape), dtype=np.uint8)
        split = make_split(images, rng.integers(0, 3, 16) if labelled else None)
        made = train_extractor(split, classes=3, dest=tmp_path, dataset_md5="m")
        probabilities = made.probabilities(images)
        assert made.features(images).shape == (16, 64)
        assert np.isfinite(made.features(images)).all()
        assert (probabilities is not None and probabilities.shape == (16, 3)) if labelled else probabilities is None
        assert made.name == f"genwright-{'classifier' if labelled else 'denoiser'}-v1"
        assert made.resizer == ("none" if max(shape[:2]) <= SIDE_MAX else "area-64")

    def test_images_of_a_read_only_map_are_taken_without_a_warning(self, digits, make_split, tmp_path, recwarn) -> None:
        images, labels = digits.train.images[:64].copy(), digits.train.labels[:64].copy()
        images.setflags(write=False)
        labels.setflags(write=False)
        made = train_extractor(make_split(images, labels), classes=10, dest=tmp_path, dataset_md5="m")
        assert len(made.features(images[:7])) == 7
        assert not [warning for warning in recwarn if "writable" in str(warning.message)]

    def test_progress_is_reported(self, digits, tmp_path) -> None:
        seen = []
        self.made(digits, tmp_path, progress=lambda *step: seen.append(step))
        assert seen == [("extractor", 1, 3), ("extractor", 2, 3), ("extractor", 3, 3)]


@pytest.mark.slow
def test_the_denoiser_learns_features_that_tell_digits_apart(digits, make_split, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(module, "STEPS_LEAST", 100)
    monkeypatch.setattr(Features, "steps_most", 100)
    train = make_split(digits.train.images, None)
    made = train_extractor(train, classes=0, dest=tmp_path, dataset_md5="m")
    from sklearn.neighbors import KNeighborsClassifier

    judge = KNeighborsClassifier(3).fit(made.features(digits.train.images), digits.train.labels)
    assert judge.score(made.features(digits.test.images), digits.test.labels) > 0.9


def test_images_of_another_shape_or_type_are_refused(extractor) -> None:
    with pytest.raises(RunError, match=r"allowed: uint8 \(8, 8, 1\)"):
        extractor.features(np.zeros((2, 9, 8, 1), np.uint8))
    with pytest.raises(RunError, match="float32"):
        extractor.features(np.zeros((2, 8, 8, 1), np.float32))


def test_a_split_of_one_image_is_refused(make_split, tmp_path) -> None:
    with pytest.raises(DataError, match="holds 1 items"):
        train_extractor(make_split(np.zeros((1, 8, 8, 1), np.uint8), None), classes=0, dest=tmp_path, dataset_md5="m")

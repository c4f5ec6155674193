"""A model that is asked by a text's embedding or by an item goes the way of one that is asked by class: it is trained, exported,
proven, admitted and served."""

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from specs import ArraySplit
from starlette.testclient import TestClient
from torch import nn

from components.core.bundles import read_bundle, seal_bundle
from components.core.card import Card
from components.core.errors import DataError
from components.core.family import Batch, Family, FamilyConfig, to_data_units
from components.core.files import sha256_of
from components.core.modality import find_modality
from components.core.noise import NoiseInput
from components.core.records import (
    Artifact,
    ClassCondition,
    Condition,
    DataSpec,
    EmbeddingCondition,
    ItemCondition,
    LocalDataset,
    Reading,
)
from components.core.units import to_stored, to_units
from components.data.joined import JoinedSplit
from components.evaluation.samples import asked_like, sample_seeds
from components.evaluation.score import score
from components.export.admission import examine
from components.export.graph import export_graph
from components.export.parity import check_parity
from components.modalities.image.spec import ImageSpec
from components.runtime.reference import add_reference
from components.runtime.session import GraphSampler
from components.serving.app import Service, fixed
from components.serving.engine import Engine
from components.training.plan import TrainPlan
from components.training.sampling import TorchSampler
from components.training.stream import BatchStream
from components.training.trainer import Trainer

SMALL = ImageSpec(channels=1, height=4, width=4)
CONDITIONS: dict[str, Condition] = {
    "embedding": EmbeddingCondition(length=4, features=4, encoder="blocks@1"),
    "item": ItemCondition(item=SMALL),
}


class Told(Family):
    """A line from the condition to the image, and a little noise."""

    card = Card(
        family="toy", variant="told", title="A line", modalities=("image",), conditioning=("none", "class", "text", "item"),
        likelihood="none", latent=False, steps=1, side_max=64, data_appetite=100, references=("none",),
    )  # fmt: skip
    Config = FamilyConfig

    def __init__(self, config: FamilyConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        assert spec.condition is not None
        self.line = nn.Linear(int(np.prod(spec.condition.shape)), int(np.prod(spec.shape)))

    def forward(self, z: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        return self.line(condition.flatten(1)).view_as(z) + 0.05 * z

    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, torch.Tensor]:
        assert batch.condition is not None
        return {"model": (self(torch.zeros_like(batch.x), batch.condition) - batch.x).square().mean()}

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="z", shape=self.spec.shape),)

    def sampler(self, *, steps: int | None = None) -> nn.Module:
        return self


@dataclass
class Conditioned(ArraySplit):
    """Digits, each asked for by its mean over blocks of 2x2 pixels, as a picture of 4x4 or as an embedding of 4 times 4."""

    shape: tuple[int, ...] = ()

    def take_condition(self, indices: npt.NDArray[np.int64], *, epoch: int = 0) -> npt.NDArray[np.float32]:
        means = self.images[indices].reshape(-1, 4, 2, 4, 2, 1).mean((2, 4)).round().astype(np.uint8)
        return to_units(means, SMALL).reshape(-1, *self.shape)


def splits_of(condition: Condition, *splits: ArraySplit) -> list[Conditioned]:
    return [Conditioned(split.images, None, condition.shape) for split in splits]


def trained(condition: Condition, split: ArraySplit, folder: Path) -> Family:
    spec = DataSpec(item=split.item, condition=condition)
    dataset = LocalDataset(
        name="digits", path="", repo=".", rev="HEAD", md5="d1", item=split.item, count=len(split), classes=(),
        splits={"train": len(split)}, mean=(0.0,), std=(1.0,),
    )  # fmt: skip
    plan = TrainPlan(
        family="toy", variant="told", config={}, spec=spec, dataset=dataset, folder=str(folder), run_id="run-1",
        items_seen=200 * 32, threads=1, signal_images=4,
    )  # fmt: skip
    tracker: Any = SimpleNamespace(metrics=lambda *_, **__: None, image=lambda *_, **__: None)
    torch.manual_seed(0)
    family = Told.build({"lr_peak": 0.02, "batch_size": 32, "warmup_steps": 5, "ema_decay": 0.9}, spec)
    trainer = Trainer(family, plan, split=split, quality=lambda images: Reading(distance=float(images.mean())), tracker=tracker)
    assert trainer.run().stopped_by == "items_seen"
    return trainer.average.family.eval()


def sealed(family: Family, like: Path, folder: Path) -> Path:
    """A bundle of the family's graph, in all else like another one."""
    folder.mkdir()
    graph = export_graph(family, folder / "model.onnx")
    assert check_parity(family, folder / "model.onnx", graph).worst < 1e-4
    path = folder / "model.onnx"
    bundle = read_bundle(like).model_copy(
        update={
            "spec": family.spec,
            "noise": family.noise_inputs(),
            "condition": graph.condition,
            "output": graph.output,
            "files": (Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size),),
            "reference": None,
            "admission": None,
        }
    )
    bundle = add_reference(folder, bundle, discrete=False)
    verdict = examine(path, bundle)
    assert verdict.verdict == "pass", verdict.refusal
    seal_bundle(folder, bundle)
    return folder


def value_of(condition: Condition, row: npt.NDArray[np.float32]) -> Any:
    """What a person sends for it."""
    if isinstance(condition, EmbeddingCondition):
        return row.tolist()
    png = find_modality("image").encodings["png"].encode(to_stored(row[None], SMALL)[0], SMALL)
    return base64.b64encode(png).decode()


@pytest.mark.parametrize("kind", ["embedding", pytest.param("item", marks=pytest.mark.slow)])
def test_a_model_of_any_condition_goes_the_whole_road(
    kind: str, digits: Any, extractor: Any, build: Callable[..., Path], tmp_path: Path
) -> None:
    condition = CONDITIONS[kind]
    train, validation, test = splits_of(condition, digits.train, digits.validation, digits.test)
    reference = JoinedSplit([validation, test])
    family = trained(condition, train, tmp_path / "run")
    folder = sealed(family, build(), tmp_path / "bundle")
    graph = GraphSampler.of(folder, read_bundle(folder), batch=16, threads=1)

    asked = asked_like(reference, condition, 200, seed=0)
    assert asked is not None
    seeds = sample_seeds(0, 200)
    apart = graph(seeds, asked).astype(int) - TorchSampler(family, subject="torch")(seeds, asked)
    assert np.abs(apart).max() <= 1

    proof = partial(score, graph, dataset=digits.dataset, train=train, reference=reference, extractor=extractor, samples=200)
    scorecard = proof(condition=condition, model=family, timed=GraphSampler.of(folder, read_bundle(folder), batch=1, threads=1))
    assert scorecard.metrics["fd"].value < proof().metrics["fd"].value / 4, "without a condition it is asked for zeros"
    assert "label_agreement" not in scorecard.metrics
    _check_served(condition, folder, graph, asked)


def _check_served(condition: Condition, folder: Path, graph: GraphSampler, asked: npt.NDArray[np.float32]) -> None:
    service = Service()
    service.add(fixed("told", "1", Engine.load(folder)))
    first, second = (value_of(condition, row) for row in asked[:2])
    with TestClient(service.app) as client:

        def ask(status: int = 200, **body: Any) -> Any:
            reply = client.post("/v1/generate", json={"format": "npy"} | body)
            assert reply.status_code == status, reply.text
            assert "x-class" not in reply.headers
            return np.load(io.BytesIO(reply.content)) if status == 200 else reply.json()["error"]

        assert np.array_equal(ask(seeds=[7, 8], condition=[first, second]), graph([7, 8], asked[:2]))
        assert np.array_equal(ask(seed=7, count=2, condition=first), graph([7, 8], asked[[0, 0]]))
        assert np.array_equal(ask(seed=7, condition=[first, second]), graph([7, 8], asked[:2]))
        assert ask(422, seed=7) == f"condition: left out; allowed: {condition.text}; send one, or a list with one an item"
        assert "the numbers of items differ: seeds 2, condition 1" in ask(422, seeds=[7, 8], condition=[first])
        for wrong in (3, "cat", [[1.0]], {"a": 1}, [first, None], float("1e300"), True, [], [[[[[0]]]]]):
            assert "condition: " in ask(422, condition=wrong) or "count: 0 given" in ask(422, condition=wrong)

        specs = client.get("/v2/models/told").json()["inputs"]
        assert specs[1] == {"name": "condition", "datatype": "FP32", "shape": [-1, *condition.shape]}
        noise = np.random.default_rng(0).normal(size=(1, 64)).astype(np.float32)
        tensors = [
            {"name": "z", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": noise.ravel().tolist()},
            {"name": "condition", "shape": [1, *condition.shape], "datatype": "FP32", "data": asked[0].ravel().tolist()},
        ]
        (made,) = client.post("/v2/models/told/infer", json={"inputs": tensors}).json()["outputs"]
        feeds = {"z": noise.reshape(1, 1, 8, 8), "condition": asked[:1]}
        assert np.allclose(made["data"], graph.run(feeds).ravel(), atol=1e-5)

        paths = client.get("/openapi.json").json()["paths"]
        infer = paths["/v2/models/told/infer"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        numbers = infer["properties"]["inputs"]["prefixItems"][1]["properties"]["data"]
        assert (numbers["items"]["type"], numbers["minItems"]) == ("number", 16)
        assert numbers["items"]["minimum"] <= asked.min() < asked.max() <= numbers["items"]["maximum"]
        branches = paths["/v1/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
        assert [branch["properties"]["condition"]["type"] for branch in branches] == [condition.value_schema["type"]] * 2 + [
            "array"
        ]
        assert all("condition" in branch["required"] for branch in branches)
        described = client.get("/", headers={"Accept": "application/json"}).json()
        assert described["generate"]["example"]["condition"] == condition.text
        assert (described["models"][0]["classes"], described["models"][0]["condition"]) == ([], condition.text)


@pytest.mark.parametrize("kind", CONDITIONS)
def test_what_a_proof_asks_for_stands_in_the_reference(kind: str, digits: Any) -> None:
    condition = CONDITIONS[kind]
    (split,) = splits_of(condition, digits.test)
    known = {row.tobytes() for row in split.take_condition(np.arange(len(split)))}
    asked = condition.like(split, 500, seed=3)
    assert {row.tobytes() for row in asked} == known, "all of them, before any comes again"
    assert np.array_equal(condition.like(split, 57, seed=3), asked[:57])
    assert not np.array_equal(condition.like(split, 57, seed=4), asked[:57])


@pytest.mark.parametrize("kind", CONDITIONS)
def test_items_and_their_conditions_belong_together(kind: str, digits: Any) -> None:
    condition = CONDITIONS[kind]
    (split,) = splits_of(condition, digits.test)
    x, asked = BatchStream(split, batch_size=32, seed=0, condition=condition)(5)
    assert asked is not None
    assert torch.allclose(
        x.reshape(-1, 4, 2, 4, 2).mean((2, 4)).flatten(), asked.flatten(), atol=0.6 / 127.5
    )  # rounded to a level
    assert torch.equal(x[0], to_data_units(to_stored(x[:1].numpy(), split.item), split.item)[0])


@pytest.mark.parametrize("kind", CONDITIONS)
def test_data_without_the_condition_is_refused_before_a_step(kind: str, digits: Any) -> None:
    for split in (digits.train, JoinedSplit([digits.validation, digits.test])):
        with pytest.raises(DataError, match="data that holds none; prepare it with captions"):
            BatchStream(split, batch_size=32, seed=0, condition=CONDITIONS[kind])
        with pytest.raises(DataError, match="data that holds none; prepare it with captions"):
            asked_like(split, CONDITIONS[kind], 10, seed=0)


def test_conditions_of_another_shape_are_refused(digits: Any) -> None:
    (split,) = splits_of(CONDITIONS["item"], digits.test)
    with pytest.raises(DataError, match=r"conditions of \[1, 4, 4\] in the data; allowed: \[4, 4\], as the model takes"):
        BatchStream(split, batch_size=32, seed=0, condition=CONDITIONS["embedding"])


def test_a_class_is_asked_for_as_often_as_the_reference_has_it(digits: Any) -> None:
    uneven = ArraySplit(digits.test.images[:50], np.repeat([0, 1, 9], [30, 15, 5]))
    labels = asked_like(uneven, ClassCondition(classes=digits.dataset.classes), 100, seed=0)
    assert labels is not None
    assert np.bincount(labels, minlength=10).tolist() == pytest.approx([60, 30, 0, 0, 0, 0, 0, 0, 0, 10], abs=1)
    known = asked_like(uneven, ClassCondition(classes=("a", "b")), 100, seed=0)  # a champion that never heard of the class 9
    assert known is not None
    assert known.max() == 1

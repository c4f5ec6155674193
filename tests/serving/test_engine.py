"""Loading a bundle: what is refused, and which batch sizes are used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.errors import BundleError, ServingError
from components.runtime.contract import probe
from components.runtime.cpus import usable_cpus
from components.serving.engine import Engine, stable_buckets

Build = Callable[..., Path]


def test_every_bucket_gives_the_bytes_of_the_full_batch(classy: Path) -> None:
    engine = Engine.load(classy, threads=1)
    assert engine.buckets[-1] == engine.max_batch == 16
    assert list(engine.buckets) == sorted(set(engine.buckets))
    feeds = probe(engine.bundle)
    whole = engine.run(feeds)
    for n in range(1, 17):
        assert np.array_equal(engine.run({name: rows[16 - n :] for name, rows in feeds.items()}), whole[16 - n :])


class Moody:
    """A sampler whose items depend on their place, or on the size of their batch, as on a device with such kernels."""

    def __init__(self, *, by_place: bool) -> None:
        self.by_place = by_place

    def run(self, feeds: dict[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        x = np.tile(feeds["z"], 4).reshape(-1, 1, 8, 8).astype(np.float32)
        if self.by_place:
            return x + np.arange(len(x), dtype=np.float32).reshape(-1, 1, 1, 1)
        return x + np.float32(1e-3) * (len(x) < 4)


@pytest.mark.parametrize(("by_place", "buckets"), [(True, (1,)), (False, (4, 8, 16))])
def test_batch_sizes_that_change_an_item_are_not_used(plain: Path, by_place: bool, buckets: tuple[int, ...]) -> None:
    bundle = Engine.load(plain, threads=1).bundle
    assert stable_buckets(bundle, Moody(by_place=by_place)) == buckets  # type: ignore[arg-type]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another input": ({"changes": {"noise": [{"name": "noise", "shape": [16]}]}}, "its inputs are"),
    "another rank": ({"changes": {"noise": [{"name": "z", "shape": [4, 4]}]}}, "its inputs are"),
    "another width": ({"changes": {"noise": [{"name": "z", "shape": [8]}]}}, "ONNX Runtime cannot run it"),
    "a class input that is not there": ({"changes": {"condition": "label"}}, "its inputs are"),
    "another output": ({"changes": {"output": "y"}}, "its outputs are"),
    "another image": ({"changes": {"spec": {"channels": 1, "height": 4, "width": 16}}}, "makes [16, 1, 8, 8]"),
    "NaN weights": ({"scale": np.nan}, "NaN or infinite"),
}


@pytest.mark.parametrize(("shape", "says"), REFUSED.values(), ids=REFUSED)
def test_a_graph_that_breaks_its_contract_is_refused(build: Build, shape: dict[str, Any], says: str) -> None:
    folder = build(**shape)
    with pytest.raises(BundleError) as caught:
        Engine.load(folder, threads=1)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_condition_without_classes_is_refused(build: Build) -> None:
    spec = {"item": {"modality": "image", "channels": 1, "height": 8, "width": 8}}
    with pytest.raises(BundleError, match="the input 'label' for the condition None"):
        Engine.load(build(classes=True, changes={"spec": spec}), threads=1)


@pytest.mark.parametrize(
    ("text", "cpus"), [("100000 100000", 1), ("10000 100000", 1), ("6400000 100000", None), ("max 100000", None)]
)
def test_the_quota_of_the_control_group_counts(tmp_path: Path, text: str, cpus: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    unlimited = usable_cpus(tmp_path / "absent")
    assert unlimited >= 1
    assert usable_cpus(tmp_path / "cpu.max") == (cpus or unlimited)


@pytest.mark.skipif(Path("/dev/nvidia0").exists(), reason="says what happens where there is no GPU")
def test_a_device_that_is_not_here_is_refused_rather_than_replaced(plain: Path) -> None:
    with pytest.raises(ServingError, match="device cuda: ONNX Runtime finds no CUDA device"):
        Engine.load(plain, device="cuda")

"""A graph that makes the 256 levels makes those of the graph that makes data units, and a quarter of the bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from specs import image_data, image_item, to_uint8

from components.core.bundles import read_bundle
from components.core.errors import BundleError
from components.core.units import levels_to_units
from components.export.admission import examine
from components.export.graph import example_inputs, export_graph
from components.export.parity import HALF_LEVEL, TOLERANCE, check_parity
from components.families import find
from components.runtime.contract import check_contract
from components.runtime.session import GraphSampler


@pytest.mark.slow
def test_levels_are_those_of_the_images(tmp_path: Path) -> None:
    torch.manual_seed(0)
    family = find("vae", "gaussian").build({"width": 16, "latent": 4}, image_data(channels=3, height=9, width=8)).eval()
    made = {}
    for levels in (False, True):
        path = tmp_path / f"{levels}.onnx"
        graph = export_graph(family, path, levels=levels)
        noise, pick = example_inputs(family, 5)
        feed = dict(zip(graph.inputs, (noise.numpy() * 3, pick.numpy()), strict=True))
        made[levels] = onnxruntime.InferenceSession(path).run(None, feed)[0]
    assert (made[True].dtype, graph.output_type) == (np.uint8, "UINT8")
    assert made[True].nbytes * 4 == made[False].nbytes
    assert np.array_equal(to_uint8(made[True]), to_uint8(made[False]))
    assert len(np.unique(made[True])) > 20
    parity = check_parity(family, path, graph)
    assert parity.tolerance == TOLERANCE + HALF_LEVEL
    assert HALF_LEVEL / 2 < parity.worst < 1.01 * HALF_LEVEL


def test_units_and_levels_are_each_others_inverse() -> None:
    every = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    assert np.array_equal(to_uint8(levels_to_units(every, image_item(16, 16, 1))), every.transpose(0, 2, 3, 1))


def test_a_bundle_says_which_of_both_its_graph_makes(build: Callable[..., Path]) -> None:
    folder = build(levels=True)
    bundle = read_bundle(folder)
    sampler = GraphSampler.of(folder, bundle)
    check_contract(bundle, sampler)
    with pytest.raises(BundleError, match=r"its outputs are \{'x': 'UINT8'\}, bundle.json declares 'x' of FP32"):
        check_contract(bundle.model_copy(update={"output_type": "FP32"}), sampler)


def test_it_is_admitted_and_sampled_as_the_other(build: Callable[..., Path]) -> None:
    plain, levels = build(), build(levels=True)
    verdict = examine(levels / "model.onnx", read_bundle(levels))
    assert verdict.verdict == "pass", verdict.refusal
    ours, other = (_sampled(folder) for folder in (levels, plain))
    assert np.array_equal(ours, other)


def _sampled(folder: Path) -> Any:
    bundle = read_bundle(folder)
    return GraphSampler.of(folder, bundle)([1, 2, 3])

"""A graph whose eight-bit sums two kinds of processor make in two ways is refused on the other kind.

Without VNNI, x86-64 adds two neighbouring products in 16 bits (`vpmaddubsw`). ONNX Runtime asks the processor itself and has no
switch that hides VNNI, so both kinds are computed here in numpy. That one of both is what ONNX Runtime makes shows them right.

N items, K inputs of a product, M outputs.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from specs import to_uint8

from components.core.files import sha256_of
from components.core.noise import draw
from components.core.records import Bundle
from components.export.admission import examine
from components.export.precision import WEIGHT_MAX
from components.runtime.reference import ITEMS, add_reference

Ints = npt.NDArray[np.int64]
LOWEST, HIGHEST = -(2**15), 2**15 - 1
SCALE, ZERO, WEIGHT_SCALE = np.float32(1 / 32), 128, np.float32(0.004)


def matmul(weights_KM: Ints) -> onnx.ModelProto:
    """z [N, 16] -> x [N, 1, 8, 8]: one quantised product."""
    nodes = [
        helper.make_node("QuantizeLinear", ["z", "scale", "zero"], ["z_eight"]),
        helper.make_node("DequantizeLinear", ["z_eight", "scale", "zero"], ["z_again"]),
        helper.make_node("DequantizeLinear", ["W", "W_scale", "W_zero"], ["W_again"]),
        helper.make_node("MatMul", ["z_again", "W_again"], ["flat"]),
        helper.make_node("Reshape", ["flat", "to"], ["x"]),
    ]
    numbers = {"scale": SCALE, "zero": np.uint8(ZERO), "W_scale": WEIGHT_SCALE, "W_zero": np.int8(0)}
    arrays = {"W": weights_KM.astype(np.int8), "to": np.array([-1, 1, 8, 8])}
    graph = helper.make_graph(
        nodes,
        "sampler",
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 1, 8, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (numbers | arrays).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def images(weights_KM: Ints, z_NK: npt.NDArray[np.float32], *, saturating: bool) -> npt.NDArray[np.uint8]:
    """What `matmul` makes on a processor that adds two neighbours in 16 bits, and on one that does not."""
    activations_NK = np.clip(np.rint(z_NK / SCALE) + ZERO, 0, 255).astype(np.int64)
    products_NKM = activations_NK[:, :, None] * weights_KM
    pairs_NKM = products_NKM[:, 0::2] + products_NKM[:, 1::2]
    sums_NM = (pairs_NKM.clip(LOWEST, HIGHEST) if saturating else pairs_NKM).sum(1) - ZERO * weights_KM.sum(0)
    return to_uint8((sums_NM * (SCALE * WEIGHT_SCALE)).astype(np.float32).reshape(-1, 1, 8, 8))


@pytest.mark.parametrize(("largest", "portable"), [(127, False), (WEIGHT_MAX, True)])
def test_a_graph_that_this_processor_computes_in_another_way_is_refused(
    build: Callable[..., Path], largest: int, portable: bool
) -> None:
    """The bundle comes of a processor of either kind. With weights of full range, this one refuses that of the other kind."""
    folder = build()
    weights_KM = np.random.default_rng(0).choice([-largest, largest], size=(16, 64), p=[0.2, 0.8])
    onnx.save(matmul(weights_KM), folder / "model.onnx")
    old = Bundle.read(folder / "bundle.json")
    own = {"sha256": sha256_of(folder / "model.onnx"), "size_bytes": (folder / "model.onnx").stat().st_size}
    graph = old.model_copy(update={"files": tuple(file.model_copy(update=own) for file in old.files)})
    bundle = add_reference(folder, graph, discrete=False)
    refusals = []
    for saturating in (False, True):
        made = images(weights_KM, draw(bundle.noise, range(ITEMS))["z"], saturating=saturating)
        assert len(np.unique(made)) > 20
        (folder / "reference.u8").write_bytes(made.tobytes())
        refusals.append(examine(folder / "model.onnx", bundle).refusal)
    if portable:
        assert refusals == ["", ""]
    else:
        passed, refused = sorted(refusals)
        assert passed == ""
        assert refused.startswith("reference: model.onnx: makes other items on this machine than where it was sealed: ")
        assert "of 8 differ" in refused
        assert "allowed: 2" in refused

"""What a graph made when it was sealed: images of fixed seeds, which it must nearly make wherever it is served.

Processors and devices round in their own ways, which may move a value by a level. One that computes a graph in another way (sums
that stop at their largest number, say) makes other images, and every other check passes all the same.

`reference.u8` of a bundle holds them as uint8 [N, H, W, C]: N items, H height, W width, C channels, no header.
"""

from pathlib import Path

import numpy as np

from components.core.bundles import MODEL_ONNX
from components.core.errors import BundleError
from components.core.files import sha256_of, write_whole
from components.core.protocols import Images
from components.core.records import Artifact, Bundle, Reference
from components.runtime.session import GraphSampler

REFERENCE_U8 = "reference.u8"
ITEMS = 8
TOLERANCE_LEVELS = 2.0


def add_reference(folder: Path, bundle: Bundle, *, discrete: bool, device: str = "cpu") -> Bundle:
    """Write what the graph in `folder` makes here beside it, and return the record that names it.

    One item may differ by more, as rounding to eight bits in several steps may end elsewhere, and of a `discrete` sampler half of
    them: where it draws from categories, the last bit may choose another one.
    Raises BundleError when the graph cannot be run.
    """
    sampler = GraphSampler.of(folder, bundle, device=device, threads=1)
    path = folder / REFERENCE_U8
    write_whole(path, _images(sampler, bundle, ITEMS).tobytes())
    file = Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)
    reference = Reference(items=ITEMS, tolerance_levels=TOLERANCE_LEVELS, may_differ=ITEMS // 2 if discrete else 1)
    return bundle.model_copy(update={"files": (*bundle.files, file), "reference": reference})


def check_reference(bundle: Bundle, sampler: GraphSampler) -> str:
    """How far from its reference the graph is here. `sampler` is of the bundle's folder.

    Raises BundleError when it makes other images, or the reference is not what the bundle declares.
    """
    known = bundle.reference
    if known is None:
        return "the bundle carries none: it was sealed before bundles did"
    path = sampler.path.with_name(REFERENCE_U8)
    height_width_channels = (bundle.spec.height, bundle.spec.width, bundle.spec.channels)
    try:
        sealed_NHWC = np.frombuffer(path.read_bytes(), np.uint8).reshape(known.items, *height_width_channels)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: not the {known.items} images that bundle.json declares", do="fetch it again") from error
    apart_N = np.abs(_images(sampler, bundle, known.items).astype(np.float32) - sealed_NHWC).mean(axis=(1, 2, 3))
    others, worst = int((apart_N > known.tolerance_levels).sum()), float(apart_N.max())
    if others > known.may_differ:
        raise BundleError(
            f"{MODEL_ONNX}: makes other images on this machine than where it was sealed: {others} of {known.items} differ by"
            f" {worst:.1f} of 255 levels on average at most",
            allowed=f"{known.tolerance_levels:g}",
            do="serve it on a processor or device of another kind, or produce it anew here",
        )
    same = "the same bytes as" if worst == 0 else f"on average at most {worst:.2g} of 255 levels from those"
    return f"{known.items} images, {same} where it was sealed"


def _images(sampler: GraphSampler, bundle: Bundle, items: int) -> Images:
    """Of the seeds 0, 1, ..., with the classes in turn."""
    labels = [k % len(bundle.spec.classes) for k in range(items)] if bundle.condition else None
    return sampler([*range(items)], labels)

"""What a graph made when it was sealed: items of fixed seeds, which it must nearly make wherever it is served.

Processors and devices round in their own ways, which may move a value by a little. One that computes a graph in another way (sums
that stop at their largest number, say) makes other items, and every other check passes all the same.

A file of the bundle holds them as they are stored, [N, *stored_shape] in the storage's own numbers without a header:
`reference.u8` of those of eight bits, `reference.bin` of others. Differences are told in levels: 255 of them span the data units
[-1, 1].
"""

from pathlib import Path

import numpy as np

from components.core.arrays import Stored
from components.core.bundles import MODEL_ONNX
from components.core.errors import BundleError
from components.core.files import sha256_of, write_whole
from components.core.records import Artifact, Bundle, ItemSpec, Reference
from components.core.units import to_units
from components.runtime.session import GraphSampler

ITEMS = 8
TOLERANCE_LEVELS = 2.0
LEVELS = 127.5  # of a data unit


def add_reference(folder: Path, bundle: Bundle, *, discrete: bool, device: str = "cpu") -> Bundle:
    """Write what the graph in `folder` makes here beside it, and return the record that names it.

    One item may differ by more, as rounding to eight bits in several steps may end elsewhere, and of a `discrete` sampler half of
    them: where it draws from categories, the last bit may choose another one.
    Raises BundleError when the graph cannot be run.
    """
    sampler = GraphSampler.of(folder, bundle, device=device, threads=1)
    path = folder / file_name(bundle.spec.item)
    write_whole(path, _made(sampler, bundle, ITEMS).tobytes())
    file = Artifact(name=path.name, sha256=sha256_of(path), size_bytes=path.stat().st_size)
    reference = Reference(items=ITEMS, tolerance_levels=TOLERANCE_LEVELS, may_differ=ITEMS // 2 if discrete else 1)
    return bundle.model_copy(update={"files": (*bundle.files, file), "reference": reference})


def check_reference(bundle: Bundle, sampler: GraphSampler) -> str:
    """How far from its reference the graph is here. `sampler` is of the bundle's folder.

    Raises BundleError when it makes other items, or the reference is not what the bundle declares.
    """
    known = bundle.reference
    if known is None:
        return "the bundle carries none: it was sealed before bundles did"
    item = bundle.spec.item
    path = sampler.path.with_name(file_name(item))
    try:
        sealed = np.frombuffer(path.read_bytes(), item.storage.dtype).reshape(known.items, *item.stored_shape)
    except (OSError, ValueError) as error:
        raise BundleError(f"{path}: not the {known.items} items that bundle.json declares", do="fetch it again") from error
    apart = to_units(_made(sampler, bundle, known.items), item) - to_units(sealed, item)
    apart_N = LEVELS * np.abs(apart).reshape(known.items, -1).mean(axis=1)
    others, worst = int((apart_N > known.tolerance_levels).sum()), float(apart_N.max())
    if others > known.may_differ:
        raise BundleError(
            f"{MODEL_ONNX}: makes other items on this machine than where it was sealed: {others} of {known.items} differ by"
            f" {worst:.1f} of 255 levels on average at most",
            allowed=f"{known.tolerance_levels:g}",
            do="serve it on a processor or device of another kind, or produce it anew here",
        )
    same = "the same bytes as" if worst == 0 else f"on average at most {worst:.2g} of 255 levels from those"
    return f"{known.items} items, {same} where it was sealed"


def file_name(item: ItemSpec) -> str:
    """Of the file in a bundle."""
    return "reference.u8" if item.storage.dtype == "uint8" else "reference.bin"


def _made(sampler: GraphSampler, bundle: Bundle, items: int) -> Stored:
    """Of the seeds 0, 1, ..., with the classes in turn."""
    return sampler([*range(items)], bundle.spec.condition.examples(items) if bundle.spec.condition else None)

"""How many items a proof needs: the one place that `prepare`, `plan`, `produce` and the proof itself ask.

A proof compares samples with at least PROOF_ITEMS items that were not trained on, and wants as many to train on. The shares of
the splits give that many from 160 items on; `held_out_block` makes small sets hold out a larger share, so that 64 are enough.
"""

from dataclasses import dataclass

PROOF_ITEMS = 32  # on either side of a proof: below it neighbours and covariances mean nothing
ITEMS_NEEDED = 2 * PROOF_ITEMS  # in all
BLOCK = 10  # of so many items in a row one is test and one is validation
HELD_OUT_OF_BLOCK = 2


@dataclass(frozen=True)
class Asked:
    """What a network that only a proof asks is asked at most, where it takes its time: `real` items of each split, and `samples`
    of each artifact. None: all that the proof has."""

    real: int | None = None
    samples: int | None = None


def held_out_block(items: int) -> int:
    """Of how many items in a row one is test and one is validation: the largest block, at most ten, that holds out PROOF_ITEMS.

    Fewer than ITEMS_NEEDED cannot be proven whatever the share: they are split like large sets.

    >>> held_out_block(1000), held_out_block(120), held_out_block(64), held_out_block(40)
    (10, 7, 4, 10)
    """
    if items < ITEMS_NEEDED:
        return BLOCK
    return min(BLOCK, items * HELD_OUT_OF_BLOCK // PROOF_ITEMS)


def proof_shortage(items: int | None, *, train: int | None = None, held_out: int | None = None) -> str:
    """What is lacking for a proof, as one clause that names the number needed; empty when nothing is.

    `train`, `held_out`: items of a prepared set's splits; None before it is prepared, when `items` (in all) decides.
    """
    need = f"a proof needs {ITEMS_NEEDED}: {PROOF_ITEMS} held out and {PROOF_ITEMS} to train on"
    if items is not None and items < ITEMS_NEEDED:
        return f"{items} items, and {need}"
    if held_out is not None and held_out < PROOF_ITEMS:
        return f"{held_out} of {items} items are held out, and {need}"
    if train is not None and train < PROOF_ITEMS:
        return f"{train} of {items} items are to train on, and {need}"
    return ""

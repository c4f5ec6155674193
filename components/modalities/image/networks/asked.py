"""How many items the networks that only a proof asks are asked of. Imports neither numpy nor torch, as a plan says it.

They take their time, an image of 128 pixels 20 ms of one core, so no more is asked than what a proof can wait for.
"""

from components.core.proof_items import Asked

LEAST = 32  # pixels a side, below which images show EfficientNet too little
SIDES = (64, 128)  # it sees images at the first, larger ones at the second
REAL_MOST = 2000  # items of each split
SAMPLES_MOST = {64: 4000, 128: 2000}  # by the side it sees
GIVEN = Asked(real=REAL_MOST, samples=4000)  # of a network that a brief names


def side_seen(least: int) -> int:
    """At which EfficientNet sees images whose shorter side has so many pixels."""
    return SIDES[least > SIDES[0]]


def asked_of_package(least: int | None) -> Asked:
    """Of EfficientNet; below LEAST the dataset's own networks are asked of everything. None: no one knows the size yet."""
    if least is None or least < LEAST:
        return Asked()
    return Asked(real=REAL_MOST, samples=SAMPLES_MOST[side_seen(least)])

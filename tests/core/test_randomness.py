"""The numbers of a share are those that its items get in the whole."""

import pytest
import torch

from components.core.randomness import ShareGenerator, integers, normal, uniform

DRAWS = {
    "normal": lambda n, rng: normal((n, 3), rng),
    "uniform": lambda n, rng: uniform((2, n), rng, items=1),
    "integers": lambda n, rng: integers(0, 50, (2, 3, n), rng, items=2),
}


@pytest.mark.parametrize("name", DRAWS)
def test_shares_make_up_the_whole(name: str) -> None:
    draw = DRAWS[name]
    whole = draw(7, torch.Generator().manual_seed(3))
    shares, states = [], []
    for start, n in ((0, 4), (4, 2), (6, 1)):
        rng = ShareGenerator()
        rng.manual_seed(3)
        rng.start, rng.whole = start, 7
        shares.append(draw(n, rng))
        states.append(rng.get_state())
    assert torch.equal(torch.cat(shares, dim=whole.shape.index(7)), whole)
    assert all(torch.equal(state, states[0]) for state in states)


def test_alone_it_is_a_generator_like_any_other() -> None:
    rng = ShareGenerator()
    rng.manual_seed(3)
    assert torch.equal(normal((5, 2), rng), torch.randn(5, 2, generator=torch.Generator().manual_seed(3)))

"""What a run does when its samples collapse: warn, go back to the best weights, or stop."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
import torch

from components.core.arrays import Stored
from components.core.errors import TrainingFailed
from components.core.records import Reading
from components.training.checkpoint import restore
from components.training.start import build
from components.training.trainer import Trainer

BAD = "the samples are 0.10 times as diverse as the data"


def readings(*values: tuple[float, str]) -> Callable[[Stored], Reading]:
    left: Iterator[tuple[float, str]] = iter(values)

    def read(_: Stored) -> Reading:
        distance, collapse = next(left)
        return Reading(distance=distance, diversity=0.1 if collapse else 1.0, collapse=collapse)

    return read


SECOND_COLLAPSES = [(0.5, ""), (0.9, BAD), (0.4, ""), (0.6, ""), (0.7, ""), (0.8, "")]


@pytest.fixture
def run(make_plan: Any, digits: Any, tracker: Any) -> Callable[..., Trainer]:
    number = count()

    def make(on_collapse: str, values: list[tuple[float, str]]) -> Trainer:
        plan = make_plan(folder=f"run-{next(number)}", steps=20, config={"on_collapse": on_collapse, "decay_from": 1.0})
        return Trainer(build(plan), plan, split=digits, quality=readings(*values), tracker=tracker)

    return make


def test_a_warning_is_said_and_logged_and_the_run_goes_on(run: Any, tracker: Any, capsys: Any) -> None:
    checkpoint = run("warn", SECOND_COLLAPSES).run()
    assert (checkpoint.quality, checkpoint.steps_total) == (0.4, 20)
    assert list(tracker.series("train/collapsed").values()) == [0, 1, 0, 0, 0, 0]
    assert tracker.series("train/diversity")[5] == 0.1
    assert f"step 5: collapsed: {BAD}; going on" in capsys.readouterr().err


def test_a_rollback_takes_the_best_weights_and_half_the_rate(run: Any, tracker: Any, capsys: Any) -> None:
    trainer = run("rollback", SECOND_COLLAPSES)
    seen: dict[int, dict[str, torch.Tensor]] = {}
    read = trainer._read_quality

    def spy(progress: Any, **how: Any) -> None:
        read(progress, **how)
        seen[trainer.step] = {name: value.clone() for name, value in trainer.family.state_dict().items()}
        if trainer.step == 2:
            seen[0] = restore(trainer.kept, trainer.best_path(trainer.kept)).state_dict()

    trainer._read_quality = spy
    trainer.run()
    assert all(torch.equal(seen[5][name], value) for name, value in seen[0].items())
    assert not all(torch.equal(seen[10][name], value) for name, value in seen[0].items())
    rates = tracker.series("train/lr")
    assert rates[20] == pytest.approx(rates[5] / 2)
    assert "back to step 2, at half the rate" in " ".join(capsys.readouterr().err.split())


def test_there_is_nothing_to_go_back_to_while_the_collapsed_are_the_best(run: Any, tracker: Any, capsys: Any) -> None:
    run("rollback", [(0.5, BAD), *SECOND_COLLAPSES[2:], (0.3, "")]).run()
    assert "going on" in capsys.readouterr().err
    assert len(set(list(tracker.series("train/lr").values())[2:])) == 1


@pytest.mark.slow
def test_the_collapsed_are_never_better_than_what_was_healthy(run: Any, capsys: Any) -> None:
    """A model that draws one good image may lie nearer by the signal than one that draws all poorly."""
    trainer = run("rollback", [(0.5, ""), (0.4, BAD), (0.6, BAD), (0.7, ""), (0.8, ""), (0.9, "")])
    checkpoint = trainer.run()
    assert (checkpoint.step, checkpoint.quality, checkpoint.collapse) == (2, 0.5, "")
    assert " ".join(capsys.readouterr().err.split()).count("back to step 2, at half the rate") == 2
    healthy = run("warn", [(0.5, BAD), (0.4, BAD), (0.6, ""), (0.7, ""), (0.8, ""), (0.9, BAD)]).run()
    assert (healthy.quality, healthy.collapse) == (0.6, "")
    assert run("warn", [(0.5, BAD)] * 6).run().collapse == BAD


def test_a_stop_says_why_and_what_to_do(run: Any) -> None:
    with pytest.raises(TrainingFailed, match=r"the samples of step 5 have collapsed: the samples are 0\.10 times") as caught:
        run("stop", SECOND_COLLAPSES).run()
    assert "on_collapse: rollback" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_beginner_is_not_stopped(run: Any) -> None:
    beginning = [(0.9, BAD), (0.5, BAD), (0.4, ""), (0.6, ""), (0.7, ""), (0.8, "")]
    assert run("stop", beginning).run().quality == 0.4
    with pytest.raises(TrainingFailed, match="the samples of step 14 have collapsed"):
        run("stop", [(0.9, BAD), (0.5, BAD), (0.4, BAD), (0.3, BAD)]).run()


@pytest.mark.parametrize("also", ["", BAD])
def test_a_collapse_in_few_steps_is_one_where_it_is_served_in_more_too(
    make_plan: Any, digits: Any, tracker: Any, also: str
) -> None:
    """Drawn in fewer steps than it is served in a model may draw alike; it is asked once more, in all of its steps."""
    plan = make_plan("diffusion/edm", steps=20, signal_steps=2, config={"steps": 3, "decay_from": 1.0})
    told = [(0.5, ""), (0.9, BAD), (0.1, also), (0.4, ""), (0.6, ""), (0.7, ""), (0.8, "")]
    seen: list[Reading] = []
    signal = readings(*told)
    Trainer(build(plan), plan, split=digits, quality=lambda x: seen.append(signal(x)) or seen[-1], tracker=tracker).run()
    assert len(seen) == len(told)
    assert list(tracker.series("train/collapsed").values()) == [0, float(bool(also)), 0, 0, 0, 0]
    assert list(tracker.series("train/fd").values()) == [0.5, 0.9, 0.4, 0.6, 0.7, 0.8], "the distance is that of the few"

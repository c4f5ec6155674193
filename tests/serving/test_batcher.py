"""Requests that arrive together run together, in order, and none waits for a client that has left."""

import asyncio
import threading
import time
from typing import Any

import numpy as np
import pytest

from components.serving.batcher import FULL, Batcher
from components.serving.limits import Limits
from components.serving.refusal import Refusal


class Model:
    """Doubles its input; the first batch is held until `go` is set, so that what comes later must gather."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.alone: list[bool] = []
        self.begun, self.go = threading.Event(), threading.Event()
        self.broken = False

    def __call__(self, feeds: Any, *, alone: bool) -> Any:
        self.sizes.append(len(feeds["z"]))
        self.alone.append(alone)
        self.begun.set()
        assert self.go.wait(60)
        if self.broken:
            raise RuntimeError("it broke")
        return feeds["z"] * 2


def rows(*values: float) -> dict[str, Any]:
    return {"z": np.array(values, np.float32).reshape(-1, 1, 1, 1)}


async def held(batcher: Batcher, model: Model) -> "asyncio.Task[Any]":
    """A first request that the model is busy with."""
    first = asyncio.create_task(batcher.submit(rows(0)))
    await asyncio.to_thread(model.begun.wait, 60)
    return first


def test_waiting_requests_share_batches_and_get_their_own_rows() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1, 2, 4], limits=Limits())
        first = await held(batcher, model)
        others = [asyncio.create_task(batcher.submit(rows(*values))) for values in ([1, 2], [3], [4, 5, 6, 7, 8, 9], [10])]
        while batcher.queued < 10:
            await asyncio.sleep(0)
        model.go.set()
        results = [(await each).ravel().tolist() for each in [first, *others]]
        assert results == [[0], [2, 4], [6], [8, 10, 12, 14, 16, 18], [20]]
        assert model.sizes == [1, 4, 4, 2]
        assert batcher.queued == 0
        batcher.close()

    asyncio.run(scenario())


def test_a_client_that_leaves_frees_its_place() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1, 2], limits=Limits(queued=2))
        first = await held(batcher, model)
        gone = asyncio.create_task(batcher.submit(rows(1, 2)))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        assert batcher.queued == 0  # at once, while the model still runs
        stays = asyncio.create_task(batcher.submit(rows(3)))
        await asyncio.sleep(0)
        model.go.set()
        assert (await stays).ravel().tolist() == [6]
        await first
        assert model.sizes == [1, 1]
        assert batcher.queued == 0
        batcher.close()

    asyncio.run(scenario())


def test_a_full_queue_refuses_but_one_large_request_always_fits() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1, 2], limits=Limits(queued=3))
        first = await held(batcher, model)
        large = asyncio.create_task(batcher.submit(rows(1, 2, 3, 4, 5)))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as caught:
            await batcher.submit(rows(6))
        assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "1"})
        model.go.set()
        assert (await large).ravel().tolist() == [2, 4, 6, 8, 10]
        await first
        batcher.close()

    asyncio.run(scenario())


def test_what_could_not_be_answered_in_time_is_refused_at_once() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1], limits=Limits(queued=100, answer_s=0.1))  # at first an item counts as 10 ms
        first = await held(batcher, model)
        waiting = [asyncio.create_task(batcher.submit(rows(k))) for k in range(10)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="10 items wait and 1 more are asked for; at most 10 may wait") as caught:
            await batcher.submit(rows(11))
        assert caught.value.status == 429
        model.go.set()
        await asyncio.gather(first, *waiting, return_exceptions=True)
        batcher.close()

    asyncio.run(scenario())


def test_a_request_may_ask_to_be_answered_sooner() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1, 2], limits=Limits())
        first = await held(batcher, model)
        patient = asyncio.create_task(batcher.submit(rows(1), within_s=1000.0))
        with pytest.raises(Refusal, match=r"no answer within 0.05 s"):
            await batcher.submit(rows(2), within_s=0.05)
        assert batcher.queued == 1  # its place is free
        model.go.set()
        assert (await patient).item() == 2
        await first
        assert model.sizes == [1, 1]
        batcher.close()

    asyncio.run(scenario())


def test_a_model_that_hangs_is_not_able() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1], limits=Limits(stuck_s=0.1))
        assert batcher.able
        first = await held(batcher, model)
        await asyncio.sleep(0.15)
        assert not batcher.able
        model.go.set()
        await asyncio.gather(first, return_exceptions=True)
        while not batcher.able:
            await asyncio.sleep(0.01)
        batcher.close()
        assert not batcher.able

    asyncio.run(scenario())


def test_a_broken_batch_fails_its_requests_alone() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1, 2], limits=Limits())
        first = await held(batcher, model)
        large = asyncio.create_task(batcher.submit(rows(1, 2, 3)))
        await asyncio.sleep(0)
        model.broken = True
        model.go.set()
        for each in (first, large):
            with pytest.raises(RuntimeError, match="it broke"):
                await each
        assert batcher.queued == 0
        model.broken = False
        assert (await batcher.submit(rows(7))).ravel().tolist() == [14]
        batcher.close()

    asyncio.run(scenario())


def test_closing_finishes_what_is_queued_and_refuses_the_rest() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1, 2], limits=Limits())
        first = await held(batcher, model)
        queued = asyncio.create_task(batcher.submit(rows(1)))
        await asyncio.sleep(0)
        model.go.set()
        await asyncio.to_thread(batcher.close)
        assert (await queued).ravel().tolist() == [2]
        await first
        with pytest.raises(Refusal, match="the server is stopping"):
            await batcher.submit(rows(2))

    asyncio.run(scenario())


def test_lanes_that_are_free_share_what_waits_and_the_parts_come_back_in_order() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1, 2, 4, 8], limits=Limits(), lanes=2)
        first = await held(batcher, model)
        second = asyncio.create_task(batcher.submit(rows(1)))  # at first an item counts as 10 ms, which is worth a lane
        while len(model.sizes) < 2:
            await asyncio.sleep(0.01)  # the other lane takes it, though the first has not ended
        values = list(range(2, 15))
        others = [asyncio.create_task(batcher.submit(rows(*part))) for part in (values[:10], values[10:])]
        while batcher.queued < len(values):
            await asyncio.sleep(0)
        model.go.set()
        results = [(await each).ravel().tolist() for each in [first, second, *others]]
        assert results == [[0], [2], [2 * value for value in values[:10]], [2 * value for value in values[10:]]]
        assert sum(model.sizes) == 2 + len(values)
        assert max(model.sizes) <= 8
        assert model.alone[:2] == [True, False]  # the second ran beside the first
        batcher.close()

    asyncio.run(scenario())


def test_free_lanes_share_one_large_request() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1, 2, 4, 8], limits=Limits(), lanes=2)
        large = asyncio.create_task(batcher.submit(rows(*range(6))))
        while len(model.sizes) < 2:
            await asyncio.sleep(0.01)
        assert model.sizes == [4, 2]  # powers of two need no padding
        model.go.set()
        assert (await large).ravel().tolist() == [0, 2, 4, 6, 8, 10]
        batcher.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("given", "full", "waiting", "sizes"),
    [
        *(([1, 2, 4, 8], FULL, waiting, sizes) for waiting, sizes in {3: [3], 5: [4, 1], 6: [6], 11: [8, 3]}.items()),
        ([1, 2, 4, 8], 0.0, 5, [5]),
        ([1, 8], FULL, 7, [7]),
        ([1, 8], FULL, 2, [1, 1]),
    ],
)
def test_a_size_of_batch_that_would_be_mostly_idle_is_not_taken(
    given: list[int], full: float, waiting: int, sizes: list[int]
) -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=given, full=full, limits=Limits())
        first = await held(batcher, model)
        others = [asyncio.create_task(batcher.submit(rows(value))) for value in range(waiting)]
        while batcher.queued < waiting:
            await asyncio.sleep(0)
        model.go.set()
        assert [(await each).item() for each in others] == [2 * value for value in range(waiting)]
        assert model.sizes == [1, *sizes]
        await first
        batcher.close()

    asyncio.run(scenario())


def test_what_arrives_in_one_turn_of_the_loop_runs_together() -> None:
    async def scenario() -> None:
        model = Model()
        model.go.set()
        batcher = Batcher(model, sizes=[1, 2, 4], limits=Limits())

        async def one(value: float) -> Any:
            time.sleep(0.005)  # a lane that had been woken would take what there is
            return await batcher.submit(rows(value))

        await asyncio.sleep(0.1)  # the lane waits
        await asyncio.gather(*(one(value) for value in range(4)))
        assert model.sizes == [4]
        batcher.close()

    asyncio.run(scenario())


def test_work_that_is_not_worth_a_lane_waits_for_the_one_that_runs() -> None:
    async def scenario() -> None:
        model = Model()
        model.go.set()
        batcher = Batcher(model, sizes=[1, 2, 4, 8], limits=Limits(), lanes=2)
        for _ in range(100):
            await batcher.submit(rows(0))  # it learns that an item takes next to nothing
        model.go.clear()
        model.begun.clear()
        first = await held(batcher, model)
        ran = len(model.sizes)
        waiting = asyncio.create_task(batcher.submit(rows(1, 2)))
        await asyncio.sleep(0.05)
        assert len(model.sizes) == ran
        model.go.set()
        assert (await waiting).ravel().tolist() == [2, 4]
        await first
        batcher.close()

    asyncio.run(scenario())


def test_a_part_that_breaks_in_one_lane_fails_the_request_once() -> None:
    async def scenario() -> None:
        model = Model()
        batcher = Batcher(model, sizes=[1, 2], limits=Limits(), lanes=2)
        model.broken = True
        large = asyncio.create_task(batcher.submit(rows(1, 2, 3, 4)))
        while len(model.sizes) < 2:
            await asyncio.sleep(0.01)
        model.go.set()
        with pytest.raises(RuntimeError, match="it broke"):
            await large
        model.broken = False
        assert (await batcher.submit(rows(7))).ravel().tolist() == [14]
        assert batcher.queued == 0
        batcher.close()
        assert not batcher.able

    asyncio.run(scenario())


def test_a_batch_waits_for_a_request_that_is_arriving() -> None:
    async def scenario() -> None:
        model = Model()
        model.go.set()
        batcher = Batcher(model, sizes=[1, 2], limits=Limits(linger_s=60))
        with batcher.arriving():
            early = asyncio.create_task(batcher.submit(rows(1)))
            await asyncio.sleep(0.05)
            assert model.sizes == []
            late = asyncio.create_task(batcher.submit(rows(2)))
            assert [(await each).item() for each in (early, late)] == [2, 4]
        assert model.sizes == [2]
        assert (await batcher.submit(rows(3))).item() == 6  # alone, it waits for nobody
        batcher.close()

    asyncio.run(scenario())

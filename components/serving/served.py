"""The models being served: what a request takes hold of once, so that all of its reply comes from one bundle."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Self

from components.core.records import EmbeddingCondition
from components.serving.batcher import FULL, Batcher
from components.serving.engine import Engine
from components.serving.limits import Limits
from components.serving.metrics import TextWatch, Watch
from components.serving.refusal import Refusal
from components.serving.texts import Texts


class Served:
    """One model version behind its queue. Once replaced, it ends when nobody holds it any more."""

    def __init__(
        self, model: str, version: str, engine: Engine, limits: Limits, watch: Watch, text_watch: Callable[[], TextWatch]
    ) -> None:
        self.model = model
        self.version = version
        self.engine = engine
        self.limits = limits
        self.watch = watch
        self.batcher = Batcher(
            engine.run,
            lanes=engine.lanes,
            sizes=engine.buckets,
            full=FULL if engine.sampler.device == "cpu" else 0.0,  # a GPU is about as quick with many as with few
            limits=limits,
            on_batch=watch.ran,
            on_wait=watch.queue.observe,
        )
        self.texts: Texts | None = None  # where the bundle can be asked in words
        if engine.prompts is not None and isinstance(condition := engine.bundle.spec.condition, EmbeddingCondition):
            self.texts = Texts(engine.prompts, condition, lanes=engine.lanes, limits=limits, watch=text_watch())
        self._headers = {"X-Model": model, "X-Version": version, "X-Bundle-Sha256": engine.sha256}
        self._holders = 0
        self._replaced = False

    def __enter__(self) -> Self:
        """Hold it while a request is answered. On the event loop's thread only."""
        self._holders += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._holders -= 1
        self._end_if_done()

    @property
    def able(self) -> bool:
        """Whether it can answer."""
        return all(each.able for each in self._queues())

    def close(self) -> None:
        """Finish what is queued, then end."""
        for each in self._queues():
            each.close()

    def replaced(self) -> None:
        """No new request gets it; those that hold it are still answered."""
        self._replaced = True
        self._end_if_done()

    def headers(self) -> Mapping[str, str]:
        """Which bundle made a reply."""
        return self._headers

    def _end_if_done(self) -> None:
        if self._replaced and not self._holders:
            for each in self._queues():
                each.end()

    def _queues(self) -> tuple[Batcher, ...]:
        return (self.batcher,) if self.texts is None else (self.texts.batcher, self.batcher)


class Models:
    """The models by name, each in the version that is served now."""

    def __init__(self) -> None:
        self._served: dict[str, Served] = {}

    def __iter__(self) -> Iterator[Served]:
        return iter(tuple(self._served.values()))

    def put(self, served: Served) -> None:
        """Serve this from now on, in place of another version of the same model."""
        before = self._served.get(served.model)
        self._served[served.model] = served
        if before is not None:
            before.replaced()

    def get(self, name: str | None = None) -> Served:
        """The model of this name; without a name, the only one. Raises Refusal: 404 for another name, 422 where one is needed,
        and 503 while there is none at all."""
        if name is None:
            if len(self._served) == 1:
                return next(iter(self._served.values()))
            if not self._served:
                raise Refusal(503, "no model has a champion yet")
            raise Refusal(422, f"model: none given; served here: {', '.join(self._served)}")
        if name not in self._served:
            raise Refusal(404, f"model {name[:80]!r}; served here: {', '.join(map(repr, self._served))}")
        return self._served[name]

    def arriving(self) -> AbstractContextManager[None]:
        """While a request is read that does not say yet which model it is for."""
        return self.get().batcher.arriving() if len(self._served) == 1 else nullcontext()

    def able(self) -> bool:
        """Whether every model can answer."""
        return all(served.able for served in self)

    def close(self) -> None:
        """Finish what is queued, then end."""
        for served in self:
            served.close()

"""Prometheus metrics of one server, in a registry of their own."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
ROUTES = re.compile(
    r"/(|metrics|v1/generate|openapi.json|v2|v2/health/(live|ready)|v2/repository/index|v2/models/[^/]+(/versions/[^/]+)?(/\w+)?)"
)


STAGES = (
    "Where a request spends its time: text_queue, waiting for the text encoder; text, one prompt in it; queue, waiting for the"
    " model; run, one batch in it; encode, making the reply"
)


@dataclass(frozen=True)
class TextWatch:
    """The metrics of one model's prompts."""

    queue: Histogram
    run: Histogram
    encoded: Counter
    remembered: Counter

    def ran(self, _count: int, seconds: float) -> None:
        """One prompt."""
        self.run.observe(seconds)

    def found(self, *, encoded: int, remembered: int) -> None:
        """The different prompts of one request."""
        self.encoded.inc(encoded)
        self.remembered.inc(remembered)


@dataclass(frozen=True)
class Watch:
    """The metrics of one model, looked up once."""

    batch_size: Histogram
    queue: Histogram
    run: Histogram
    encode: Histogram

    def ran(self, count: int, seconds: float) -> None:
        """One batch."""
        self.batch_size.observe(count)
        self.run.observe(seconds)


class Metrics:
    """What is counted. Labels are few and bounded: a client cannot make new ones."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        name: dict[str, Any] = {"registry": self.registry, "namespace": "genwright"}
        self.requests = Counter("requests", "HTTP requests answered", ("route", "status"), **name)
        self.seconds = Histogram(
            "request_seconds", "From a request's first byte to its reply", ("route",), buckets=SECONDS, **name
        )
        self.under_way = 0  # only the event loop writes it
        Gauge("requests_under_way", "HTTP requests being answered", **name).set_function(lambda: self.under_way)
        self._answers: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.stages = Histogram("stage_seconds", STAGES, ("model", "stage"), buckets=SECONDS, **name)
        self.batch_size = Histogram("batch_size", "Items in one run of the model", ("model",), buckets=SIZES, **name)
        self.queue_length = Gauge("queue_length", "Items waiting for the model", ("model",), **name)
        self.prompts = Counter(
            "prompts", "Different prompts of requests, by where their embeddings came from", ("model", "found"), **name
        )
        self.swaps = Counter("swaps", "Looks at a channel that ended in something, by outcome", ("model", "outcome"), **name)
        self.model_info = Gauge("model_info", "The bundle being served", ("model", "version", "bundle_sha256", "family"), **name)

    def watch(self, model: str) -> "Watch":
        """What the queue of a model tells."""
        return Watch(
            batch_size=self.batch_size.labels(model),
            queue=self.stages.labels(model, "queue"),
            run=self.stages.labels(model, "run"),
            encode=self.stages.labels(model, "encode"),
        )

    def text_watch(self, model: str) -> "TextWatch":
        """What the prompts of a model tell."""
        return TextWatch(
            queue=self.stages.labels(model, "text_queue"),
            run=self.stages.labels(model, "text"),
            encoded=self.prompts.labels(model, "encoder"),
            remembered=self.prompts.labels(model, "memory"),
        )

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count one request."""
        route = route_of(path)
        counted = self._answers.get((route, status))
        if counted is None:  # labels are looked up once
            counted = self._answers[route, status] = self.requests.labels(route, str(status)), self.seconds.labels(route)
        requests, spent = counted
        requests.inc()
        spent.observe(seconds)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)


@lru_cache(maxsize=256)
def route_of(path: str) -> str:
    """A bounded label: the operation, without the names that stand in the path."""
    match = ROUTES.fullmatch(path)
    if not match:
        return "other"
    if not path.startswith("/v2/models/"):
        return path
    return {"/infer": "infer", "/ready": "model_ready", "/config": "model_config"}.get(match[4] or "", "model_metadata")

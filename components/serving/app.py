"""The ASGI application: which path is answered by what."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Router

from components.core.errors import ServingError
from components.core.modality import find_modality
from components.serving.engine import Engine
from components.serving.following import Follower, Named, Source
from components.serving.gathering import Gatherer
from components.serving.generate import Generate, formats_of
from components.serving.guard import Guard
from components.serving.limits import Limits
from components.serving.log import Log
from components.serving.metrics import Metrics
from components.serving.openapi import document
from components.serving.page import page
from components.serving.protocol import InferenceProtocol
from components.serving.routes import asks_first_for, route
from components.serving.served import Models, Served

PROMPT = "what you ask for"
NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


class Service:
    """Models behind HTTP. `app` is the ASGI application; `draining` turns readiness off before the server stops.

    `tokens` are SHA-256 digests of those that are let in; without any, everybody is.
    """

    def __init__(self, *, tokens: Sequence[bytes] = (), limits: Limits | None = None, log: Log | None = None) -> None:
        self.metrics = Metrics()
        self.log = log or Log()
        self.limits = limits or Limits()
        self.models = Models()
        self.followers: list[Follower] = []
        self.gatherer: Gatherer | None = None
        self.draining = False
        self.tokens = bool(tokens)
        routes = [  # those that are asked most come first
            *InferenceProtocol(self.models, self.ready).routes(),
            route("/v1/generate", Generate(self.models, self.limits), "POST"),
            route("/v1/look", self.look, "POST"),
            route("/", self.index),
            route("/metrics", self.metrics_page),
            route("/openapi.json", self.openapi),
        ]
        router = Router(routes, redirect_slashes=False, lifespan=self.lifespan)
        self.app = Guard(router, metrics=self.metrics, log=self.log, tokens=tuple(tokens))

    def add(self, source: Source) -> Served:
        """Load what the source names now and serve it; follow it where it is to be followed. Raises GenwrightError."""
        named = source.named()
        served = self.put(source.model, named.version, source.load(named))
        if source.follows:
            self.followers.append(self._follower(source, named))
        return served

    def gather(self, find: Callable[[], Sequence[Source]]) -> None:
        """Take up what `find` gives while serving, too: models that were not there before."""

        def put(source: Source, named: Named, engine: Engine) -> Follower:
            self.put(source.model, named.version, engine)
            self.followers.append(follower := self._follower(source, named))
            return follower

        known = {follower.source.model for follower in self.followers}
        every = {"look_s": self.limits.look_s, "retry_s": self.limits.retry_s}
        self.gatherer = Gatherer(find, known=known, put=put, log=self.log, **every)

    def _follower(self, source: Source, serving: Named) -> Follower:
        every = {"look_s": self.limits.look_s, "retry_s": self.limits.retry_s}
        put = partial(self.put, source.model)
        return Follower(source, serving=serving, put=put, metrics=self.metrics, log=self.log, **every)

    def put(self, model: str, version: str, engine: Engine) -> Served:
        """Serve this engine as `model` from now on. Raises ServingError for names that are no part of an address or a header."""
        for what, name in (("model", model), ("version", version)):
            if not NAME.fullmatch(name):
                raise ServingError(f"{what} {name[:80]!a}", allowed="letters, digits, '.', '-' and '_', at most 100 of them")
        text_watch = partial(self.metrics.text_watch, model)
        served = Served(model, version, engine, self.limits, self.metrics.watch(model), text_watch)
        for before in self.models:
            if before.model == model:
                self.metrics.model_info.remove(model, before.version, before.engine.sha256, before.engine.bundle.family)
        self.models.put(served)
        self.metrics.queue_length.labels(model).set_function(lambda: self.models.get(model).batcher.queued)
        self.metrics.model_info.labels(model, version, engine.sha256, engine.bundle.family).set(1)
        return served

    def ready(self, served: Served | None = None) -> bool:
        """Whether requests should be sent here: for this model, or for all of them."""
        return not self.draining and (self.models.able() if served is None else served.able)

    @asynccontextmanager
    async def lifespan(self, _: object) -> AsyncIterator[None]:
        following = [asyncio.create_task(follower.follow()) for follower in self.followers]
        if self.gatherer is not None:
            following.append(asyncio.create_task(self.gatherer.gather()))
        yield
        for task in following:
            task.cancel()
        await asyncio.gather(*following, return_exceptions=True)
        self.models.close()

    async def look(self, _: Request) -> Response:
        """Look now at what is followed: who moved a channel asks for it (pipeline/servers.py)."""
        for follower in self.followers:
            follower.look_now()
        return JSONResponse({"looks_at": [follower.source.model for follower in self.followers]})

    async def index(self, request: Request) -> Response:
        """The page for people, and for programs what is served here."""
        headers = {"Vary": "Accept", "Cache-Control": "no-store"}
        if asks_first_for("text/html", request.headers.get("accept", "")):
            return HTMLResponse(page(), headers=headers)
        body = {
            "models": [described(served) for served in self.models],
            "generate": {"POST": "/v1/generate", "example": {"count": 16, "seed": 0, "format": "grid"} | must_say(self.models)},
            "also": ["/openapi.json", "/v2", "/v2/health/ready", "/metrics"],
        }
        return JSONResponse(body, headers=headers)

    async def openapi(self, _: Request) -> Response:
        return JSONResponse(document(self.models, self.limits, tokens=self.tokens))

    async def metrics_page(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type=self.metrics.content_type)


def fixed(model: str, version: str, engine: Engine) -> Source:
    """A source that always names this one."""
    return Source(model, lambda: Named(version, engine.sha256), lambda _: engine, follows=False)


def must_say(models: Models) -> dict[str, str]:
    """What the example of a request should not be without: a prompt, or in words the condition that the first model needs."""
    first = next(iter(models), None)
    condition = first.engine.bundle.spec.condition if first else None
    if first is None or condition is None or not condition.required:
        return {}
    return {"prompt": PROMPT} if first.texts else {"condition": condition.text}


def text_described(served: Served) -> dict[str, object] | None:
    """How it is asked in words, where it can be."""
    if served.texts is None:
        return None
    condition = served.texts.condition
    return {"encoder": condition.encoder, "tokens": condition.length, "negative": condition.negative}


def described(served: Served) -> dict[str, object]:
    """What a person or a program wants to know of a model."""
    bundle = served.engine.bundle
    return {
        "model": served.model,
        "version": served.version,
        "bundle_sha256": served.engine.sha256,
        "family": f"{bundle.family}/{bundle.variant}",
        "latent": bundle.latent,
        "classes": bundle.spec.classes,
        "condition": bundle.spec.condition.text if bundle.spec.condition else None,
        "text": text_described(served),
        "formats": formats_of(bundle),
        "modality": bundle.spec.item.modality,
        "plural": find_modality(bundle.spec.item.modality).plural,
        bundle.spec.item.modality: bundle.spec.item.model_dump(mode="json", exclude={"modality"}),
        "size": bundle.spec.item.text,
        "scorecard": {name: metric.model_dump(mode="json") for name, metric in bundle.scorecard.metrics.items()},
        "gates": bundle.gates.verdict,
        "inputs": [{"name": spec.name, "shape": spec.shape} for spec in served.engine.inputs],
    }

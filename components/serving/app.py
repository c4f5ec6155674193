"""The ASGI application: which path is answered by what."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from components.core.errors import GenwrightError
from components.serving.batcher import Batcher
from components.serving.engine import Engine
from components.serving.gate import Gate
from components.serving.generate import Generate
from components.serving.limits import Limits
from components.serving.metrics import Metrics
from components.serving.protocol import Protocol
from components.serving.refusal import Refusal, explain
from components.serving.served import Served


class Service:
    """One model behind HTTP. `app` is the ASGI application; `draining` turns readiness off before the server stops."""

    def __init__(
        self, engine: Engine, *, model: str, version: str, token: str | None = None, limits: Limits | None = None
    ) -> None:
        self.metrics = Metrics()
        self.draining = False
        limits = limits or Limits()
        batcher = Batcher(engine.run, max_batch=engine.max_batch, limits=limits, on_batch=self.metrics.batch_size.observe)
        self.served = Served(model, version, engine, batcher, limits)
        self.metrics.queue_length.set_function(lambda: self.served.batcher.queued)
        self.metrics.model_info.labels(model, version, engine.sha256, engine.bundle.family).set(1)
        self.app = Starlette(
            routes=[
                Route("/", self.index),
                Route("/metrics", self.metrics_page),
                Route("/v1/generate", Generate(self.current).__call__, methods=["POST"]),
                *Protocol(self.current, lambda: not self.draining).routes(),
            ],
            middleware=[Middleware(Gate, metrics=self.metrics, token=token)],
            exception_handlers=dict.fromkeys((Refusal, GenwrightError, ClientDisconnect, HTTPException, Exception), explain),
            lifespan=self.lifespan,
        )

    def current(self) -> Served:
        """The model being served. A request asks once and keeps the answer."""
        return self.served

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        self.served.batcher.close()

    async def index(self, _: Request) -> Response:
        bundle = self.served.engine.bundle
        body = {
            "model": self.served.model,
            "version": self.served.version,
            "bundle_sha256": self.served.engine.sha256,
            "family": f"{bundle.family}/{bundle.variant}",
            "classes": bundle.spec.classes if bundle.condition else [],
            "image": {"height": bundle.spec.height, "width": bundle.spec.width, "channels": bundle.spec.channels},
            "generate": {"POST": "/v1/generate", "example": {"count": 16, "seed": 0, "format": "grid"}},
            "also": ["/v2", f"/v2/models/{self.served.model}", "/v2/health/ready", "/metrics"],
        }
        return JSONResponse(body, headers=self.served.headers())

    async def metrics_page(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type=self.metrics.content_type)

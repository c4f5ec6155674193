"""The Open Inference Protocol v2 over HTTP: health, metadata, infer; with what Triton's clients also ask: config and index.

https://github.com/kserve/open-inference-protocol, specification/protocol/inference_rest.md
"""

from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from components.core.errors import InputError
from components.runtime.contract import TRITON_TYPES, Feeds, TensorSpec
from components.serving.body import read_body, unless_left, worked
from components.serving.refusal import Refusal
from components.serving.routes import route
from components.serving.served import Models, Served
from components.serving.tensors import InferRequest, Reply, all_finite, decode, encode, parse_request, wants_binary
from components.serving.words import effort, ways_of, word_inputs, words_in

PLATFORM = "onnxruntime_onnx"
EXTENSIONS = ["binary_tensor_data", "model_configuration", "model_repository"]


def package_version() -> str:
    """The version of genwright that is installed."""
    try:
        return version_of("genwright")
    except PackageNotFoundError:
        return "0"


class InferenceProtocol:
    """The handlers. `ready` says whether requests should be sent here, for one model or for all of them."""

    def __init__(self, models: Models, ready: Callable[[Served | None], bool]) -> None:
        self.models = models
        self.ready = ready

    def routes(self) -> list[Route]:
        model, version = "/v2/models/{model}", "/v2/models/{model}/versions/{version}"
        return [
            *(route(f"{path}/infer", self.infer, "POST") for path in (model, version)),
            route("/v2/health/live", self.server_live),
            route("/v2/health/ready", self.server_ready),
            *(route(f"{path}/ready", self.model_ready) for path in (model, version)),
            *(route(path, self.metadata) for path in (model, version)),
            *(route(f"{path}/config", self.config) for path in (model, version)),
            route("/v2", self.server_metadata),
            route("/v2/repository/index", self.index, "POST"),
        ]

    async def server_metadata(self, _: Request) -> Response:
        return JSONResponse({"name": "genwright", "version": package_version(), "extensions": EXTENSIONS})

    async def server_live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def server_ready(self, _: Request) -> Response:
        ready = self.ready(None)
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def model_ready(self, request: Request) -> Response:
        served = self.named(request)
        ready = self.ready(served)
        return JSONResponse({"name": served.model, "ready": ready}, 200 if ready else 503, served.headers())

    async def index(self, _: Request) -> Response:
        states = [(served, "READY" if self.ready(served) else "UNAVAILABLE") for served in self.models]
        return JSONResponse(
            [{"name": each.model, "version": each.version, "state": state, "reason": ""} for each, state in states]
        )

    async def metadata(self, request: Request) -> Response:
        served = self.named(request)
        inputs = [tensor_metadata(spec) for spec in served.engine.inputs]
        body: dict[str, Any] = {"name": served.model, "versions": [served.version], "platform": PLATFORM, "inputs": inputs}
        body["outputs"] = [tensor_metadata(served.engine.output)]
        if instead := word_inputs(served):
            every = [tensor_metadata(spec) for spec in instead]
            body["parameters"] = {"in_place_of": {str(served.engine.bundle.condition): every}}
        return JSONResponse(body, headers=served.headers())

    async def config(self, request: Request) -> Response:
        served = self.named(request)
        inputs = [tensor_config(spec) for spec in served.engine.inputs]
        inputs += [tensor_config(spec) | {"optional": True} for spec in word_inputs(served)]
        body = {"name": served.model, "platform": PLATFORM, "max_batch_size": served.limits.count, "input": inputs}
        return JSONResponse(body | {"output": [tensor_config(served.engine.output)]}, headers=served.headers())

    async def infer(self, request: Request) -> Response:
        with self.named(request) as served:
            with served.batcher.arriving():
                body = await read_body(request, served.limits, most=served.limits.body_bytes)
                header_length = request.headers.get("inference-header-content-length")
                message, feeds, told = await worked(len(body), understood, served, body, header_length)
                words = await worked(effort(told), words_in, served, told) if told else None
                within_s = message.parameters.timeout / 1e6
                if words is not None:
                    rows = await unless_left(request, words.rows(words.count, within_s=within_s))
                    feeds = {**feeds, str(served.engine.bundle.condition): rows}
            x = await unless_left(request, served.batcher.submit(feeds, within_s=within_s))
            with served.watch.encode.time():
                return await worked(x.nbytes, answer, served, message, x, words.headers() if words else {})

    def named(self, request: Request) -> Served:
        """The model that the path names. Raises Refusal 404."""
        served = self.models.get(request.path_params["model"])
        version = request.path_params.get("version", served.version)
        if version != served.version:
            raise Refusal(404, f"version {version[:80]!r} of model {served.model!r}; served here: {served.version!r}")
        return served


def understood(served: Served, body: bytes, header_length: str | None) -> tuple[InferRequest, Feeds, Feeds]:
    """The request, its checked tensors, and those that are words. Raises Refusal 400."""
    message, binary = parse_request(body, header_length)
    wants_binary(message, served.engine.output)
    given = decode(message.inputs, binary, ways_of(served), count_max=served.limits.count)
    feeds = {spec.name: given.pop(spec.name) for spec in served.engine.inputs if spec.name in given}
    bundle = served.engine.bundle
    if bundle.condition in feeds and bundle.spec.condition is not None:
        try:
            bundle.spec.condition.check(feeds[bundle.condition])
        except InputError as error:
            raise Refusal(400, f"input {bundle.condition!r}: {error}") from None
    return message, feeds, given


def answer(served: Served, message: InferRequest, x: Any, cut: Mapping[str, str]) -> Response:
    """The reply to an infer request, with what headers say of its words. Raises Refusal 422 when its noise makes no item."""
    if not all_finite(x):
        raise Refusal(422, "this noise makes values that are NaN or infinite; draw it from the distribution it should have")
    output = served.engine.output
    reply = Reply(served.model, served.version, message.id)
    body, headers = encode(reply, output, x, binary=wants_binary(message, output))
    return Response(body, headers={**headers, **served.headers(), **cut})


def tensor_metadata(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1, *spec.shape]}


def tensor_config(spec: TensorSpec) -> dict[str, Any]:
    # The batch dimension is not listed.
    return {"name": spec.name, "data_type": TRITON_TYPES[spec.datatype], "dims": list(spec.shape)}

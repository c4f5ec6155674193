"""The OpenAPI 3.1 document of what is served now: every path, its bodies, and the statuses that each may answer.

The keys of /v1/generate are those of its record; what the models and limits of this server leave of them is added. It is as
narrow as the handlers: what fits a schema is answered, but for a few forms that only the texts tell of (a list of conditions
beside a list of seeds; several items in one infer request; that what is base64 is the file of an item).
"""

import math
from typing import Any

from components.core.noise import SEED_LIMIT
from components.runtime.contract import TensorSpec
from components.serving.generate import GenerateRequest, formats_of
from components.serving.limits import Limits
from components.serving.served import Models, Served
from components.serving.tensors import BYTES
from components.serving.words import IN_TOKENS, ways_of

WHY = {
    400: "the body cannot be read",
    401: "a token is needed",
    403: "the token is not the right one",
    404: "no such model or version",
    408: "the body did not arrive in time",
    413: "the body is too large",
    415: "the body is compressed",
    422: "the request asks for what cannot be",
    429: "too many items are waiting; Retry-After says when to come back",
    431: "the headers are too large",
    500: "the model made no item of this seed",
    503: "the server is stopping, or no answer came in time",
}
ASKED = (400, 401, 403, 404, 408, 413, 415, 422, 429, 431, 500, 503)
JSON: dict[str, Any] = {"application/json": {}}
ALSO = ("application/zip", "application/json")  # of several items, and where Accept names it first
INFERRED: dict[str, Any] = {"application/json": {}, "application/octet-stream": {}}
ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}

Schema = dict[str, Any]


def document(models: Models, limits: Limits, *, tokens: bool) -> Schema:
    """The document for these models; `tokens` says whether one is wanted."""
    every = [*models]
    paths: Schema = {
        "/": {"get": answers("What is served, as JSON or as a page for people", content=JSON | {"text/html": {}})},
        "/metrics": {"get": answers("Prometheus metrics", content={"text/plain": {}})},
        "/openapi.json": {"get": answers("This document")},
        "/v1/generate": {"post": asks("Items", generate_schema(every, limits), generated(every), required=len(every) > 1)},
        "/v1/look": {"post": answers("Look now whether a model that is followed has another champion")},
        "/v2": {"get": answers("The server's name, version and extensions")},
        "/v2/health/live": {"get": answers("Whether the process answers", refuses=()) | {"security": []}},
        "/v2/health/ready": {"get": answers("Whether requests should be sent here", refuses=(503,)) | {"security": []}},
        "/v2/repository/index": {"post": answers("The models, with their versions and states")},
    }
    for served in every:
        for path in (f"/v2/models/{served.model}", f"/v2/models/{served.model}/versions/{served.version}"):
            paths[path] = {"get": answers("Inputs and outputs", refuses=(401, 403, 404))}
            paths[f"{path}/config"] = {"get": answers("The same, for Triton's clients", refuses=(401, 403, 404))}
            paths[f"{path}/ready"] = {"get": answers("Whether it answers", refuses=(401, 403, 404, 503))}
            paths[f"{path}/infer"] = {"post": asks("Noise in, items out", infer_schema(served), INFERRED, required=True)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "genwright", "version": "1", "description": f"Serves {', '.join(each.model for each in every)}."},
        "paths": paths,
        "components": {"schemas": {"Error": ERROR}, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
        "security": [{"token": []}] if tokens else [],
    }


def generated(models: list[Served]) -> Schema:
    """The content types of a reply of /v1/generate."""
    return {name: {} for served in models for name in (*formats_of(served.engine.bundle).values(), *ALSO)}


def answers(summary: str, *, content: Schema = JSON, refuses: tuple[int, ...] = (401, 403)) -> Schema:
    return {"summary": summary, "responses": {"200": {"description": summary, "content": content}} | refusals(refuses)}


def asks(summary: str, schema: Schema, content: Schema, *, required: bool) -> Schema:
    body = {"required": required, "content": {"application/json": {"schema": schema}}}
    return answers(summary, content=content, refuses=ASKED) | {"requestBody": body}


def refusals(statuses: tuple[int, ...]) -> Schema:
    """A reply that is not ready says so in a form of its own."""
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {str(status): {"description": WHY[status], "content": JSON if status == 503 else error} for status in statuses}


def generate_schema(models: list[Served], limits: Limits) -> Schema:
    """One alternative a model and a way to say how many: by count and first seed, by seeds, by conditions or by prompts."""
    return {"oneOf": [branch for served in models for branch in branches(served, limits, named=len(models) > 1)]}


def keys() -> Schema:
    """What each key of a request takes; null is as if it were left out."""
    properties = GenerateRequest.model_json_schema()["properties"].items()
    return {
        name: next(form for form in takes["anyOf"] if form["type"] != "null") for name, takes in properties if "anyOf" in takes
    }


def branches(served: Served, limits: Limits, *, named: bool) -> list[Schema]:
    bundle, known = served.engine.bundle, keys()
    formats = list(formats_of(bundle))
    first = known["seed"] | {"maximum": SEED_LIMIT - limits.count}
    every: Schema = {
        "format": {"enum": formats, "default": formats[0]},
        "toward": known["toward"],
        "mix": known["mix"],
        "model": {"const": served.model},
    }
    condition = bundle.spec.condition
    one: Schema = {"condition": condition.value_schema} if condition else {}
    must = ["condition"] if condition and condition.required else []
    count = known["count"] | {"maximum": limits.count, "default": 1}
    found = [
        _object(every | one | {"count": count, "seed": first}, *must, named=named),
        _object(every | one | {"seeds": known["seeds"] | {"maxItems": limits.count}}, "seeds", *must, named=named),
    ]
    many = {"type": "array", "minItems": 1, "maxItems": limits.count}
    if condition:
        listed = {
            "condition": many | {"items": condition.value_schema, "description": f"{condition.text}; one an item"},
            "seed": first,
        }
        found.append(_object(every | listed, "condition", named=named))
    if (texts := served.texts) is not None:
        text = text_schema(limits)
        unwanted: Schema = {"negative": text} if texts.condition.negative else {}
        words = every | {"prompt": text | {"default": ""}} | unwanted
        found += [
            _object(words | {"count": count, "seed": first}, named=named),
            _object(words | {"seeds": known["seeds"] | {"maxItems": limits.count}}, "seeds", named=named),
            _object(words | {"prompt": many | {"items": text}, "seed": first}, "prompt", named=named),
        ]
    return found


def text_schema(limits: Limits) -> Schema:
    """A text without control characters."""
    return {"type": "string", "maxLength": limits.characters, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}


def _object(properties: Schema, *required: str, named: bool) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [*required, *(["model"] if named else [])],
        "properties": properties,
        "dependentRequired": {"toward": ["mix"], "mix": ["toward"]},
    }


def infer_schema(served: Served) -> Schema:
    """One item as flat JSON data; N items have N in place of the first 1, and data may be nested or binary."""
    ways = [[tensor_schema(spec, served) for spec in way] for way in ways_of(served)]
    inputs = [{"type": "array", "prefixItems": way, "minItems": len(way), "maxItems": len(way)} for way in ways]
    output = {"type": "object", "required": ["name"], "properties": {"name": {"const": served.engine.output.name}}}
    return {
        "type": "object",
        "required": ["inputs"],
        "properties": {
            "id": {"type": "string"},
            "inputs": inputs[0] if len(inputs) == 1 else {"oneOf": inputs},
            "outputs": {"type": "array", "items": output, "maxItems": 1},
        },
    }


def tensor_schema(spec: TensorSpec, served: Served) -> Schema:
    bundle = served.engine.bundle
    least = next((0 for noise in bundle.noise if noise.name == spec.name and noise.distribution == "uniform"), -10)
    values: Schema = {"type": "number", "minimum": least, "maximum": 1 if least == 0 else 10}
    if spec.name == bundle.condition and bundle.spec.condition is not None:
        values = bundle.spec.condition.number_schema
    elif spec.datatype == BYTES:
        values = text_schema(served.limits)
    elif spec.name in IN_TOKENS and served.texts is not None:
        values = {"type": "integer", "minimum": 0, "maximum": served.texts.prompts.vocabulary - 1}
    size = math.prod(spec.shape)
    return {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"const": spec.name},
            "shape": {"const": [1, *spec.shape]},
            "datatype": {"const": spec.datatype},
            "data": {"type": "array", "items": values, "minItems": size, "maxItems": size},
        },
    }

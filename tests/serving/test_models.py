"""Several models behind one server, its page, its log, its OpenAPI document, and walks between seeds."""

import io
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from components.core.bundles import read_bundle
from components.core.noise import NoiseInput, draw
from components.serving.walk import slerp, walked


@pytest.fixture(scope="module")
def two(build: Callable[..., Path], start: Any) -> Any:
    with start(build(), models={"faces": str(build(classes=True))}) as server:
        yield server


def test_two_models_answer_by_name(two: Any, plain: Path) -> None:
    assert two.greeting.startswith("serving faces v3 (bundle ")
    assert '"model": "faces"' in two.greeting
    index = two.client.post("/v2/repository/index").json()
    assert sorted(entry["name"] for entry in index) == ["digits", "faces"]
    for model in ("digits", "faces"):
        reply = two.generate(model=model, seed=3, format="npy")
        assert (reply.status_code, reply.headers["x-model"]) == (200, model)
        assert two.client.get(f"/v2/models/{model}").json()["name"] == model


def test_without_a_name_one_of_two_cannot_be_told(two: Any) -> None:
    reply = two.generate(seed=3)
    assert (reply.status_code, reply.json()["error"]) == (422, "model: none given; served here: faces, digits")
    reply = two.generate(model="nope")
    assert (reply.status_code, reply.json()["error"]) == (404, "model 'nope'; served here: 'faces', 'digits'")


def test_the_page_is_for_browsers_and_json_for_programs(two: Any) -> None:
    html = two.client.get("/", headers={"Accept": "text/html,*/*"})
    assert html.headers["content-type"].startswith("text/html")
    assert "<title>genwright</title>" in html.text
    assert not [word for word in ("http://", "https://", "src=", "@import") if word in html.text]  # it works offline
    models = two.client.get("/").json()["models"]
    assert [model["model"] for model in models] == ["faces", "digits"]


def test_requests_are_logged_as_json_with_their_ids(plain: Path, start: Any) -> None:
    with start(plain, log="json") as server:
        given = server.client.post("/v1/generate", json={"seed": 1}, headers={"X-Request-Id": "abc-1"})
        made = server.client.get("/nothing", headers={"X-Request-Id": "with space"})
        _, said = server.stop()
    lines = [json.loads(line) for line in said.splitlines()]
    first, second = [line for line in lines if line["event"] == "request"]
    assert given.headers["x-request-id"] == first["request_id"] == "abc-1"
    assert made.headers["x-request-id"] == second["request_id"] != "with space"
    assert (first["method"], first["path"], first["status"]) == ("POST", "/v1/generate", 200)
    assert (second["status"], second["ms"] > 0) == (404, True)
    assert lines[-1]["event"] == "draining"


def test_the_document_tells_of_what_is_served_now(two: Any) -> None:
    document = two.client.get("/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) >= {"/", "/metrics", "/v1/generate", "/v2/models/faces/infer", "/v2/repository/index"}
    ways = document["paths"]["/v1/generate"]["post"]["requestBody"]["content"]["application/json"]["schema"]["oneOf"]
    assert [way["properties"]["model"]["const"] for way in ways] == ["faces"] * 3 + ["digits"] * 2
    assert ways[0]["properties"]["count"]["maximum"] == 256
    assert ways[0]["properties"]["condition"]["enum"] == [0, 1, 2, "zero", "one", "two"]
    assert "condition" not in ways[-1]["properties"]


def test_a_browser_gets_the_page_without_a_token_and_nothing_else(plain: Path, start: Any) -> None:
    with start(plain, tokens=["sesame"]) as server:
        html = {"Accept": "text/html"}
        assert server.client.get("/", headers=html).status_code == 200
        assert [server.client.get(path, headers=html).status_code for path in ("/metrics", "/v2", "/openapi.json")] == [401] * 3
        assert server.client.get("/").status_code == 401
        assert server.client.post("/", headers=html).status_code == 401
        twice = [("Accept", "application/json"), ("Accept", "text/html")]
        assert server.client.get("/", headers=twice).status_code == 401  # of a name sent twice one alone must count


def test_null_is_refused_in_one_line(server: Any) -> None:
    reply = server.generate(seed=None)
    assert (reply.status_code, reply.json()["error"]) == (422, "seed: null given; leave it out for its default")


def test_noise_that_makes_no_image_is_refused(build: Callable[..., Path], start: Any) -> None:
    with start(build(scale=1e30)) as server:
        tensor = {"name": "z", "shape": [1, 16], "datatype": "FP32", "data": [3e38] * 16}
        reply = server.client.post("/v2/models/digits/infer", json={"inputs": [tensor]})
        assert reply.status_code == 422
        assert server.client.get("/v2/health/ready").status_code == 200


def test_a_walk_begins_at_one_seed_and_ends_at_the_other(server: Any) -> None:
    def image(**body: Any) -> Any:
        reply = server.generate(format="npy", **body)
        assert reply.status_code == 200, reply.text
        return np.load(io.BytesIO(reply.content)).astype(int)

    ends = [image(seed=3), image(seed=9)]
    assert np.array_equal(image(seed=3, toward=9, mix=0.0), ends[0])
    assert np.array_equal(image(seed=3, toward=9, mix=1.0), ends[1])
    steps = [image(seed=3, toward=9, mix=k / 20) for k in range(21)]
    moves = [np.abs(b - a).max() for a, b in pairwise(steps)]
    assert max(moves) < np.abs(ends[1] - ends[0]).max() / 2
    for body in ({"toward": 9}, {"mix": 0.5}, {"toward": 9, "mix": 1.5}, {"toward": -1, "mix": 0.5}):
        assert server.generate(seed=3, **body).status_code == 422


def test_a_walk_stays_on_the_shell_and_leaves_categories_alone() -> None:
    inputs = (NoiseInput(name="z", shape=(512,)), NoiseInput(name="u", shape=(4,), distribution="uniform"))
    middle = walked(inputs, [1, 2], toward=7, mix=0.5)
    lengths = np.linalg.norm(middle["z"], axis=1)
    assert np.all(abs(lengths / np.sqrt(512) - 1) < 0.15)  # a straight line would be at 0.71
    assert np.array_equal(middle["u"], draw(inputs, [1, 2])["u"])
    a = draw(inputs, [1])["z"][0]
    np.testing.assert_allclose(slerp(a, -a, 0.25), a / 2, rtol=1e-6)


def test_a_bundle_knows_whether_its_noise_is_a_latent_space(two: Any, build: Callable[..., Path]) -> None:
    assert [model["latent"] for model in two.client.get("/").json()["models"]] == [False, False]
    assert read_bundle(build(changes={"latent": True})).latent

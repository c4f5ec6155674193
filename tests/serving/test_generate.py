"""POST /v1/generate: seeds, classes, formats, refusals; and the same bytes whatever is asked for beside them."""

import base64
import io
import json
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from components.core.bundles import read_bundle
from components.runtime.session import GraphSampler
from components.serving import generate
from components.serving.app import Service, fixed
from components.serving.engine import Engine


def array(reply: httpx.Response) -> np.ndarray[Any, Any]:
    assert reply.status_code == 200, reply.text
    assert reply.headers["content-type"] == "application/x-npy"
    found: np.ndarray[Any, Any] = np.load(io.BytesIO(reply.content))
    return found


def picture(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)))


def sampler(folder: Path) -> GraphSampler:
    bundle = read_bundle(folder)
    return GraphSampler.of(folder, bundle, batch=16, threads=1)


def test_the_images_are_the_samplers(server: Any, plain: Path) -> None:
    images = array(server.generate(count=40, seed=3, format="npy"))
    assert images.dtype == np.uint8
    assert images.shape == (40, 8, 8, 1)
    assert np.array_equal(images, sampler(plain)(range(3, 43)))
    assert len({image.tobytes() for image in images}) == 40


def test_the_same_seed_gives_the_same_bytes(server: Any, plain: Path, start: Any) -> None:
    alone = array(server.generate(seed=77, format="npy"))[0]
    batch = array(server.generate(seeds=[*range(20), 77, *range(20, 31)], format="npy"))
    assert np.array_equal(batch[20], alone)
    assert server.generate(seed=77).content == server.generate(seed=77).content
    with start(plain) as again:
        assert np.array_equal(array(again.generate(seed=77, format="npy"))[0], alone)
        assert again.generate(seed=77, count=2).content == server.generate(seed=77, count=2).content


def test_concurrent_clients_get_their_own_images(server: Any, plain: Path) -> None:
    expected = sampler(plain)(range(64))

    def ask(seed: int) -> bool:
        return np.array_equal(array(server.generate(seed=seed, format="npy"))[0], expected[seed])

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(64)))


def test_png(server: Any) -> None:
    reply = server.generate(seed=1)
    assert reply.headers["content-type"] == "image/png"
    assert np.array_equal(picture(reply.content), array(server.generate(seed=1, format="npy"))[0, ..., 0])


def test_several_pngs_come_as_a_zip_or_as_json(server: Any) -> None:
    images = array(server.generate(seed=1, count=3, format="npy"))[..., 0]
    reply = server.generate(seed=1, count=3)
    assert reply.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(reply.content))
    assert archive.namelist() == [f"digits-00{k}-seed{k + 1}.png" for k in range(3)]
    assert np.array_equal([picture(archive.read(name)) for name in archive.namelist()], images)
    reply = server.client.post("/v1/generate", json={"seed": 1, "count": 3}, headers={"Accept": "application/json"})
    assert reply.headers["content-type"] == "application/json"
    items = reply.json()["images"]
    assert [(item["seed"], item["class"]) for item in items] == [(1, None), (2, None), (3, None)]
    assert np.array_equal([picture(base64.b64decode(item["png"])) for item in items], images)


def test_grid(server: Any) -> None:
    reply = server.generate(seed=1, count=5, format="grid")
    assert reply.headers["content-type"] == "image/png"
    sheet = picture(reply.content)
    assert sheet.shape == (2 * 66 - 2, 3 * 66 - 2)  # two rows of three tiles, each magnified eightfold
    tiles = [sheet[y : y + 64 : 8, x : x + 64 : 8] for y in (0, 66) for x in (0, 66, 132)][:5]
    assert np.array_equal(tiles, array(server.generate(seed=1, count=5, format="npy"))[..., 0])


@pytest.mark.parametrize(
    ("body", "aside"),
    [({}, False), ({"count": 16}, True), ({"count": 16, "format": "npy"}, False), ({"format": "grid"}, True)],
)
def test_what_takes_long_to_encode_leaves_the_event_loop_to_others(
    plain: Path, monkeypatch: pytest.MonkeyPatch, body: dict[str, Any], aside: bool
) -> None:
    threads = []

    def noted(work: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: threads.append(threading.get_ident()) or work(*given, **named)

    monkeypatch.setattr(generate, "parse", noted(generate.parse))  # on the event loop
    monkeypatch.setattr(generate, "rendered", noted(generate.rendered))
    service = Service()
    service.add(fixed("digits", "1", Engine.load(plain)))
    with TestClient(service.app) as client:
        assert client.post("/v1/generate", json=body).status_code == 200
    parsed, encoded = threads
    assert (encoded != parsed) is aside


def test_replies_say_what_made_them(server: Any, plain: Path) -> None:
    reply = server.generate(seed=9, count=3)
    assert reply.headers["x-model"] == "digits"
    assert reply.headers["x-version"] == "3"
    assert reply.headers["x-bundle-sha256"] == read_bundle(plain).digest()
    assert reply.headers["x-seed"] == "9..11"
    assert server.generate(seeds=[5, 2]).headers["x-seed"] == "5,2"


def test_a_drawn_seed_is_reported_and_repeats(server: Any) -> None:
    first, second = server.client.post("/v1/generate"), server.generate()
    assert first.headers["x-seed"] != second.headers["x-seed"]
    assert server.generate(seed=int(first.headers["x-seed"])).content == first.content


def test_classes_by_name_and_id(class_server: Any, classy: Path) -> None:
    expected = sampler(classy)([4, 4, 4], [0, 1, 2])
    assert len({image.tobytes() for image in expected}) == 3
    for condition in (["zero", "one", "two"], [0, 1, 2], ["zero", 1, "two"]):
        reply = class_server.generate(seeds=[4, 4, 4], condition=condition, format="npy")
        assert np.array_equal(array(reply), expected)
        assert reply.headers["x-class"] == "0,1,2"
    both = array(class_server.generate(seed=4, count=2, condition="two", format="npy"))
    assert np.array_equal(both, sampler(classy)([4, 5], [2, 2]))


def test_without_a_condition_the_seed_chooses_the_class(class_server: Any, classy: Path) -> None:
    reply = class_server.generate(seed=4, count=4, format="npy")
    assert reply.headers["x-class"] == "1,2,0,1"
    assert np.array_equal(array(reply), sampler(classy)([4, 5, 6, 7], [1, 2, 0, 1]))


BAD = [
    ({"colour": "red"}, "'colour': unknown key; allowed: count, seed, seeds, condition, prompt, negative, format"),
    ({"count": 0}, "count"),
    ({"count": 257}, "count: 257 given; allowed: 1 to 256"),
    ({"count": "4"}, "count"),
    ({"count": True}, "count"),
    ({"seed": -1}, "seed"),
    ({"seed": 2**63}, "seed"),
    ({"seed": 2**63 - 255}, "allowed: 0 to 9223372036854775552"),
    ({"seed": 1.5}, "seed"),
    ({"seed": 1, "seeds": [1]}, "both seed and seeds"),
    ({"seeds": []}, "seeds"),
    ({"seeds": [1, 2], "count": 3}, "the numbers of items differ: count 3, seeds 2"),
    ({"seeds": list(range(257))}, "count: 257 given"),
    ({"format": "jpeg"}, "format"),
    ({"condition": 0}, "this model takes none; leave it out"),
    ([1, 2], "a list given; allowed: an object"),
]


@pytest.mark.parametrize(("body", "says"), BAD)
def test_what_makes_no_sense_is_422(server: Any, body: Any, says: str) -> None:
    reply = server.client.post("/v1/generate", json=body)
    assert reply.status_code == 422
    assert list(reply.json()) == ["error"]
    assert says in reply.json()["error"]
    assert "\n" not in reply.json()["error"]


@pytest.mark.parametrize("condition", [3, -1, "three", ["zero", "x"], [], [[0]], 1.5, {"a": 1}])
def test_a_class_that_does_not_exist_is_422(class_server: Any, condition: Any) -> None:
    reply = class_server.generate(
        seeds=[1, 2] if isinstance(condition, list) and len(condition) == 2 else [1], condition=condition
    )
    assert reply.status_code == 422
    assert "\n" not in reply.json()["error"]


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"[" * 50_000, b'{"seed": ' + b"9" * 5000 + b"}"])
def test_what_is_not_json_is_400(server: Any, body: bytes) -> None:
    reply = server.client.post("/v1/generate", content=body)
    assert reply.status_code == 400
    assert reply.json()["error"].startswith("the request is not JSON: ")


def test_other_methods_and_paths(server: Any) -> None:
    assert server.client.get("/v1/generate").status_code == 405
    reply = server.client.get("/nothing/here")
    assert (reply.status_code, list(reply.json())) == (404, ["error"])


def test_the_root_helps(class_server: Any) -> None:
    body = class_server.client.get("/").json()
    assert body["models"][0]["classes"] == ["zero", "one", "two"]
    assert class_server.client.post("/v1/generate", content=json.dumps(body["generate"]["example"])).status_code == 200


def test_a_graph_that_breaks_is_500_in_one_line_and_the_next_request_works(build: Callable[..., Path], start: Any) -> None:
    # The graph's own table has three classes, the bundle claims five: the fourth makes ONNX Runtime fail while running.
    spec = {"channels": 1, "height": 8, "width": 8, "classes": list("abcde"), "conditional": True}
    folder = build(classes=True, max_batch=1, changes={"spec": spec})
    with start(folder) as server:
        reply = server.generate(seed=1, condition=4)
        assert reply.status_code == 500
        assert "ONNX Runtime cannot run it" in reply.json()["error"]
        assert "\n" not in reply.json()["error"]
        assert server.generate(seed=1, condition=1).status_code == 200
        code, said = server.stop()
    assert code == 0
    assert "Traceback" not in said
    assert "/v1/generate: " in said  # the log says what the reply said

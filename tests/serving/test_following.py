"""A server that follows a channel: new champions take over under load, bad ones are refused, and no request fails."""

import asyncio
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import numpy as np
import pytest

from components.core.bundles import address_of, seal_bundle
from components.core.errors import BundleError
from components.core.records import Bundle
from components.pipeline.servers import tell
from components.runtime.reference import add_reference
from components.serving import following
from components.serving.engine import Engine
from components.serving.following import Follower, Named, Source
from components.serving.log import Log
from components.serving.metrics import Metrics

LOOK_S = 0.05
LIMITS = {"look_s": LOOK_S}


class Channel:
    """A file that says which folder is to be served, as `version folder`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def name(self, version: int, folder: Path | str) -> None:
        fresh = self.path.with_suffix(".new")
        fresh.write_text(f"{version} {folder}")
        fresh.replace(self.path)


@pytest.fixture
def channel(tmp_path: Path) -> Channel:
    return Channel(tmp_path / "channel")


@contextmanager
def clients(server: Any, *, count: int = 3) -> Iterator[list[httpx.Response]]:
    """So many clients ask without a pause; what they got."""
    replies: list[httpx.Response] = []
    done = threading.Event()

    def ask(number: int) -> None:
        with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
            while not done.is_set():
                try:
                    replies.append(client.post("/v1/generate", json={"seed": number, "count": 2, "format": "npy"}))
                except httpx.HTTPError as error:
                    replies.append(httpx.Response(599, text=repr(error)))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        done.set()
        for thread in threads:
            thread.join()


def wait_for(server: Any, what: str) -> None:
    until = time.monotonic() + 60
    while not re.search(what, server.client.get("/metrics").text):
        assert time.monotonic() < until, what
        time.sleep(LOOK_S)


def serves(server: Any) -> str:
    return str(server.client.get("/v2/models/digits").headers["x-bundle-sha256"])


def test_swaps_under_load_lose_no_request(build: Callable[..., Path], channel: Channel, start: Any, tmp_path: Path) -> None:
    """Every second champion is corrupt: the one before serves on."""
    sound = [build(scale=1 + k) for k in range(3)]
    corrupt = tmp_path / "corrupt"
    shutil.copytree(sound[0], corrupt)
    graph = bytearray((corrupt / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 1
    (corrupt / "model.onnx").write_bytes(bytes(graph))
    channel.name(1, sound[0])
    with start(channel.path, follow=True, limits=LIMITS) as server, clients(server) as replies:
        for number, folder in enumerate([sound[1], sound[2], sound[0]], start=1):
            channel.name(2 * number, corrupt)
            wait_for(server, rf'swaps_total{{model="digits",outcome="refused"}} {number}\.0')
            assert serves(server) == address_of(sound[number - 1])
            channel.name(2 * number + 1, folder)
            wait_for(server, rf'swaps_total{{model="digits",outcome="swapped"}} {number}\.0')
            assert serves(server) == address_of(folder)
        text = server.client.get("/metrics").text
    assert {reply.status_code for reply in replies} == {200}
    by_bundle: dict[tuple[str, str], set[bytes]] = {}
    for reply in replies:
        by_bundle.setdefault((reply.headers["x-bundle-sha256"], reply.headers["x-seed"]), set()).add(reply.content)
    assert len({bundle for bundle, _ in by_bundle}) == 3
    assert all(len(made) == 1 for made in by_bundle.values()), "a reply was made by two bundles"
    assert len(re.findall(r"^genwright_model_info{", text, re.MULTILINE)) == 1
    assert text.count('outcome="swapped"} 3.0') == text.count('outcome="refused"} 3.0') == 1


def test_a_server_that_is_told_looks_at_once(
    build: Callable[..., Path], channel: Channel, start: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own next look is an hour away. However often it is told, it looks."""
    channel.name(1, build())
    with start(channel.path, follow=True, limits={"look_s": 3600}, tokens=["a-token"]) as server:
        server.client.headers["Authorization"] = "Bearer a-token"
        for version, scale in ((2, 2.0), (3, 3.0)):
            later = build(scale=scale)
            channel.name(version, later)
            tell([server.url] * 20, token="a-token")
            wait_for(server, rf'outcome="swapped"}} {version - 1}')
            assert serves(server) == address_of(later)
        assert capsys.readouterr().err == ""
        tell([server.url], token="another")
        assert "answered 403 when it was told" in capsys.readouterr().err
    tell([server.url])
    assert "was not told of the new champion (ConnectionError)" in capsys.readouterr().err


def test_a_channel_that_cannot_be_read_changes_nothing(build: Callable[..., Path], channel: Channel, start: Any) -> None:
    channel.name(1, build())
    with start(channel.path, follow=True, limits=LIMITS) as server:
        channel.path.unlink()
        wait_for(server, r'outcome="unreachable"} [1-9]')
        assert server.generate(seed=1).status_code == 200
        later = build(scale=2.0)
        channel.name(2, later)
        wait_for(server, r'outcome="swapped"} 1')
        assert serves(server) == address_of(later)


def test_a_bad_bundle_is_refused_once_and_a_good_one_is_taken_again(
    build: Callable[..., Path], channel: Channel, start: Any
) -> None:
    first, bad = build(), build(scale=np.nan)
    channel.name(1, first)
    with start(channel.path, follow=True, limits=LIMITS, log="json") as server:
        channel.name(2, bad)
        wait_for(server, r'outcome="refused"} 1')
        time.sleep(10 * LOOK_S)
        assert 'outcome="refused"} 1.0' in server.client.get("/metrics").text
        channel.name(1, first)
        time.sleep(10 * LOOK_S)
        assert serves(server) == address_of(first)
        _, said = server.stop()
    events = [json.loads(line) for line in said.splitlines()]
    (refused,) = [event for event in events if event["event"] == "refused"]
    assert "NaN" in refused["error"]
    assert refused["bundle_sha256"] == str(bad)  # this channel names folders


def test_a_champion_that_makes_other_images_here_is_refused_and_the_old_one_serves_on(
    build: Callable[..., Path], channel: Channel, start: Any
) -> None:
    """It was sealed where its graph makes the images of another one."""
    first, other, elsewhere = build(), build(scale=0.5), build(scale=2.0)
    bundle = add_reference(other, Bundle.read(other / "bundle.json"), discrete=False)
    (elsewhere / "reference.u8").write_bytes((other / "reference.u8").read_bytes())
    seal_bundle(elsewhere, bundle.model_copy(update={"files": (*Bundle.read(elsewhere / "bundle.json").files, bundle.files[-1])}))
    seal_bundle(other, bundle)
    channel.name(1, first)
    with start(channel.path, follow=True, limits=LIMITS, log="json") as server:
        channel.name(2, elsewhere)
        wait_for(server, r'outcome="refused"} 1')
        assert serves(server) == address_of(first)
        channel.name(3, other)
        wait_for(server, r'outcome="swapped"} 1')
        assert serves(server) == address_of(other)
        _, said = server.stop()
    (refused,) = [event for event in map(json.loads, said.splitlines()) if event["event"] == "refused"]
    assert "makes other items on this machine than where it was sealed" in refused["error"]


def test_versions_of_the_protocol_follow(build: Callable[..., Path], channel: Channel, start: Any) -> None:
    channel.name(1, build())
    with start(channel.path, follow=True, limits=LIMITS) as server:
        channel.name(2, build(scale=2.0))
        wait_for(server, r'outcome="swapped"} 1')
        assert server.client.get("/v2/models/digits").json()["versions"] == ["2"]
        assert server.client.get("/v2/models/digits/versions/1").status_code == 404
        assert server.client.post("/v2/repository/index").json()[0]["version"] == "2"


def test_a_refused_bundle_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, tries = [0.0], []
    monkeypatch.setattr(following, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    def load(named: Named) -> Engine:
        tries.append(clock[0])
        raise BundleError(f"version {named.version} is not admitted")

    named = [Named("2", "b")]
    source = Source("digits", lambda: named[0], load)
    put = {"put": lambda *_: None, "metrics": Metrics(), "log": Log(), "look_s": 2.0, "retry_s": 60.0}
    follower = Follower(source, serving=Named("1", "a"), **put)

    async def look_until(end_s: float) -> None:
        while clock[0] < end_s:
            await follower.look()
            clock[0] += 30

    asyncio.run(look_until(12_000))
    assert np.diff(tries).tolist() == [90, 150, 270, 510, 990, 1950, 3630, 3630]
    named[0] = Named("3", "c")  # another one is tried at once, and soon again
    tries.clear()
    asyncio.run(look_until(clock[0] + 200))
    assert np.diff(tries).tolist() == [90]

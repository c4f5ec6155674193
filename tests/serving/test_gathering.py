"""A server of all models: one that gets its first champion later is taken up, a bad one is refused and tried again."""

import asyncio
import io
from collections.abc import Callable
from pathlib import Path

import httpx

from components.core.errors import BundleError
from components.serving.app import Service
from components.serving.engine import Engine
from components.serving.following import Named, Source
from components.serving.limits import Limits
from components.serving.log import Log


def source(model: str, engine: Engine) -> Source:
    return Source(model, lambda: Named("1", engine.sha256), lambda _: engine)


def broken(model: str) -> Source:
    def load(_: Named) -> Engine:
        raise BundleError("it is no bundle")

    return Source(model, lambda: Named("1", "0" * 64), load)


async def asked(service: Service, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app=service.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        if path == "/v1/generate":
            return await client.post(path, json={"count": 1, "format": "npy"})
        return await client.get(path)


def test_a_first_champion_is_taken_up_and_a_bad_one_refused(build: Callable[..., Path]) -> None:
    engine, said = Engine.load(build()), io.StringIO()
    sources: list[Source] = []
    service = Service(limits=Limits(look_s=0.01, retry_s=60), log=Log("text", out=said))
    service.gather(lambda: sources)

    async def serve() -> None:
        async with service.lifespan(None):
            assert (await asked(service, "/v2/health/live")).status_code == 200
            nothing = await asked(service, "/v1/generate")
            assert (nothing.status_code, "no model has a champion yet" in nothing.text) == (503, True)
            assert (await asked(service, "/")).json()["models"] == []
            assert (await asked(service, "/openapi.json")).status_code == 200
            sources.extend([broken("faces"), source("digits", engine)])
            for _ in range(500):
                if [*service.models]:
                    break
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert [each.model for each in service.models] == ["digits"]
            assert (await asked(service, "/v1/generate")).status_code == 200

    asyncio.run(serve())
    lines = said.getvalue().splitlines()
    assert [line for line in lines if "faces" in line] == ["faces: its champion is refused, trying again: it is no bundle"]
    assert len([line for line in lines if line.startswith("digits: version 1")]) == 1


def test_a_look_that_fails_is_not_the_last_one(build: Callable[..., Path]) -> None:
    engine, looks = Engine.load(build()), []

    def find() -> list[Source]:
        looks.append(1)
        if len(looks) < 3:
            raise OSError("the store is away")
        return [source("digits", engine)]

    service = Service(limits=Limits(look_s=0.01), log=Log("text", out=io.StringIO()))
    service.gather(find)

    async def serve() -> None:
        async with service.lifespan(None):
            for _ in range(500):
                if [*service.models]:
                    return
                await asyncio.sleep(0.01)
            raise AssertionError("it never came")

    asyncio.run(serve())

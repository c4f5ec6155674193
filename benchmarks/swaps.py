"""New champions while requests are answered, every second one corrupt: what is asked of a server that follows a channel."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.graphs import bundle_in
from benchmarks.servers import champion, infer_request
from benchmarks.shared import ROOT
from components.core.bundles import address_of, read_bundle
from components.core.records import Channel
from components.delivery.channel import ChannelStore
from components.delivery.store import open_store

SWAPS = 20


def swaps(home: Path, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Twenty new champions under load, every second one corrupt: what was answered, and what the server says of them."""
    model = first["release"]["model"]
    damaged = _damaged(bundle_in(home, first))
    with champion(home, model) as running:
        request = infer_request(bundle_in(home, first), 1)
        request["path"] = request["path"].replace("/m/", f"/{model}/")
        asked = request | {"host": "127.0.0.1", "port": running.port, "clients": 8, "seconds": 3600}
        loading = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load", json.dumps(asked)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        good = [first["bundle"]["sha256"], second["bundle"]["sha256"]]
        try:
            for number in range(SWAPS):
                sha256 = damaged if number % 2 else good[number // 2 % 2]  # the second reigns at first
                before = _outcomes(running.port)
                _name(home, model, sha256=sha256, version=number + 100)
                until = time.monotonic() + 60
                while _outcomes(running.port) == before:
                    if time.monotonic() > until:
                        raise SystemExit(f"swap {number}: nothing came of it in a minute")
                    time.sleep(0.1)
            loading.send_signal(signal.SIGINT)
            told = json.loads(loading.communicate(timeout=30)[0])
        finally:
            loading.kill()
        outcomes = {"swapped": 0.0, "refused": 0.0} | _outcomes(running.port)
    failed = sum(count for status, count in told["statuses"].items() if status != "200")
    return {**outcomes, "statuses": told["statuses"], "not_200": failed}


def _damaged(bundle: Path) -> str:
    """A bundle in the same store whose record is whole and whose graph is not; its address."""
    record = read_bundle(bundle)
    folder = bundle.with_name("damaged")
    shutil.copytree(bundle, folder)
    (folder / "bundle.json").write_bytes(record.model_copy(update={"max_batch": record.max_batch + 1}).canonical())
    graph = bytearray((folder / "model.onnx").read_bytes())
    graph[len(graph) // 2] ^= 0xFF
    (folder / "model.onnx").write_bytes(graph)
    address = address_of(folder)
    folder.rename(bundle.with_name(address))
    return address


def _name(home: Path, model: str, *, sha256: str, version: int) -> None:
    """Move the channel, as a promotion does."""
    channels = ChannelStore(open_store(str(home / "store")))
    known = channels.read(model)
    assert known is not None
    channel = known[0].model_copy(update={"bundle_sha256": sha256, "version": version, "sequence": known[0].sequence + 1})
    channels.swap(Channel.model_validate(channel.model_dump()), expected=known[1])


def _outcomes(port: int) -> dict[str, float]:
    """How often a look at the channel ended in what."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    found = re.findall(r'^genwright_swaps_total\{.*outcome="([^"]+)".*\} (\S+)$', text, re.MULTILINE)
    return {outcome: float(count) for outcome, count in found}

"""Is the server as fast as the graph, and as others? Overhead, saturation, overload, swaps, start, memory, and three peers.

    .venv/bin/python benchmarks/serving.py [--rounds 5] [--seconds 4] [--only overhead peers ...]

Every figure is a ratio or a difference within one run on one machine: rounds of the bare ONNX Runtime session, of the server and
of its peers take turns, and medians are compared. The load comes from a process of its own (benchmarks/load.py); the graphs are
those of benchmarks/graphs.py. A peer (benchmarks/peers/servers) runs in an environment of its own that uv makes from the lines at
its top, serves the same graph with the same batch, and answers with the same bytes. Writes benchmarks/results/serving.json.
"""

import argparse
import base64
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from benchmarks.graphs import GENWRIGHT, GRAPHS, bundle_in, produced
from benchmarks.shared import RESULTS, ROOT, circumstances

PEERS = ("litserve", "bentoml", "triton")
CLIENTS = 32
SWAPS = 20
BARE = """
import json, sys, time
from pathlib import Path
from components.serving.engine import Engine
from components.core.contract import probe
engine = Engine.load(Path(sys.argv[1]))
feeds = {name: rows[: int(sys.argv[2])] for name, rows in probe(engine.bundle).items()}
engine.run(feeds)
until, seconds = time.perf_counter() + float(sys.argv[3]), []
while (began := time.perf_counter()) < until:
    engine.run(feeds)
    seconds.append(time.perf_counter() - began)
print(json.dumps(seconds))
"""


@dataclass(frozen=True)
class Server:
    """A server that answers, and how long it took from its start."""

    process: "subprocess.Popen[str]"
    port: int
    ready_s: float

    @property
    def rss_mb(self) -> float:
        return float(psutil.Process(self.process.pid).memory_info().rss / 2**20)


@contextmanager
def server(folder: Path) -> Iterator[Server]:
    began = time.perf_counter()
    command = [sys.executable, "-m", "components.serving", str(folder), "--model", "m", "--port", "0", "--log", "text"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        port = int(re.findall(r":(\d+)$", process.stderr.readline().strip())[0])
        httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", trust_env=False).raise_for_status()
        yield Server(process, port, time.perf_counter() - began)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def infer_request(folder: Path, count: int) -> dict[str, Any]:
    """A binary infer request of so many images."""
    from components.core.bundles import read_bundle
    from components.core.contract import probe

    bundle = read_bundle(folder)
    feeds = {name: rows[:count] for name, rows in probe(bundle).items()}
    types = {"float32": "FP32", "int64": "INT64"}
    inputs = [
        {"name": name, "shape": rows.shape, "datatype": types[str(rows.dtype)], "parameters": {"binary_data_size": rows.nbytes}}
        for name, rows in feeds.items()
    ]
    outputs = [{"name": bundle.output, "parameters": {"binary_data": True}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    body = head + b"".join(np.ascontiguousarray(rows).tobytes() for rows in feeds.values())
    return {
        "path": "/v2/models/m/infer",
        "headers": {"Inference-Header-Content-Length": str(len(head))},
        "body": base64.b64encode(body).decode(),
    }


def load(port: int, request: dict[str, Any], *, clients: int, seconds: float, rate: float | None = None) -> dict[str, Any]:
    asked = request | {"host": "127.0.0.1", "port": port, "clients": clients, "seconds": seconds, "rate": rate}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", json.dumps(asked)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def bare(folder: Path, count: int, seconds: float) -> list[float]:
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(folder), str(count), str(seconds)], cwd=ROOT, check=True, capture_output=True, text=True
    )
    return [float(each) for each in json.loads(done.stdout)]


def overhead(folder: Path, *, rounds: int, seconds: float) -> dict[str, float]:
    """p50 of one client's request of one image, less p50 of the bare session, in milliseconds."""
    request, ours, theirs = infer_request(folder, 1), [], []
    with server(folder) as running:
        load(running.port, request, clients=1, seconds=1)
        for _ in range(rounds):
            theirs.append(1000 * statistics.median(bare(folder, 1, seconds)))
            ours.append(1000 * statistics.median(load(running.port, request, clients=1, seconds=seconds)["seconds"]))
    medians = statistics.median(ours), statistics.median(theirs)
    return {"server_p50_ms": medians[0], "bare_p50_ms": medians[1], "overhead_ms": medians[0] - medians[1]}


def saturation(folder: Path, *, count: int, clients: int, rounds: int, seconds: float) -> dict[str, float]:
    """Images a second at full load, as a share of the bare session's at its best size of batch."""
    request, shares, found = infer_request(folder, count), [], {}
    with server(folder) as running:
        load(running.port, request, clients=clients, seconds=1)
        for _ in range(rounds):
            rates = {size: size / statistics.median(bare(folder, size, seconds / 3)) for size in (1, 4, 16)}
            seen = load(running.port, request, clients=clients, seconds=seconds)
            rate = count * len(seen["seconds"]) / seen["wall_s"]
            shares.append(rate / max(rates.values()))
            found = {"images_per_s": rate, "bare_images_per_s": max(rates.values())}
    return found | {"share": statistics.median(shares)}


def overload(folder: Path, *, seconds: float) -> dict[str, Any]:
    """Twice the capacity: which statuses, and how memory grows from the first tenth to the end."""
    request = infer_request(folder, 4)
    with server(folder) as running:
        seen = load(running.port, request, clients=16, seconds=3)
        capacity = len(seen["seconds"]) / seen["wall_s"]
        load(running.port, request, clients=400, seconds=seconds / 10, rate=2 * capacity)
        before = running.rss_mb
        seen = load(running.port, request, clients=400, seconds=seconds, rate=2 * capacity)
        after = running.rss_mb
    answered = sorted(seen["seconds"])
    return {
        "capacity_per_s": capacity,
        "statuses": seen["statuses"],
        "answered_p99_s": answered[int(0.99 * len(answered))] if answered else None,
        "rss_mb": [before, after],
    }


def start(folder: Path, *, rounds: int) -> dict[str, float]:
    """Seconds from the command to the first ready reply, and resident memory beyond the model's file."""
    model_mb = (folder / "model.onnx").stat().st_size / 2**20
    ready, beyond = [], []
    for _ in range(rounds):
        with server(folder) as running:
            ready.append(running.ready_s)
            beyond.append(running.rss_mb - model_mb)
    return {"ready_s": statistics.median(ready), "rss_beyond_model_mb": statistics.median(beyond)}


def peers(folder: Path, *, rounds: int, seconds: float) -> dict[str, Any]:
    """Requests a second of one image each, from many clients at once: ours and every peer, in turns; and ours over the best."""
    rates: dict[str, list[float]] = {"genwright": [], **{name: [] for name in PEERS}}
    for _ in range(rounds):
        for name, found in rates.items():
            with server(folder) if name == "genwright" else peer(name, folder) as running:
                request = asked_of(name, folder)
                load(running.port, request, clients=CLIENTS, seconds=1)
                seen = load(running.port, request, clients=CLIENTS, seconds=seconds)
                if set(seen["statuses"]) != {"200"}:
                    raise SystemExit(f"{name}: answered with {seen['statuses']}")
                found.append(len(seen["seconds"]) / seen["wall_s"])
    best = max(PEERS, key=lambda name: statistics.median(rates[name]))
    shares = [ours / theirs for ours, theirs in zip(rates["genwright"], rates[best], strict=True)]
    return {"requests_per_s": rates, "best_peer": best, "times_the_best": statistics.median(shares)}


@contextmanager
def peer(name: str, folder: Path) -> Iterator[Server]:
    """A peer that answers, on a free port and the two after it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    script = ROOT / "benchmarks" / "peers" / "servers" / f"{name}_server.py"
    command = [str(ROOT / ".venv" / "bin" / "uv"), "run", "--quiet", "--no-project", "--script", str(script)]
    began = time.perf_counter()
    process = subprocess.Popen(
        [*command, str(folder / "model.onnx"), "--port", str(port)],
        cwd=script.parent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True, text=True,
    )  # fmt: skip
    try:
        request = asked_of(name, folder)
        while not _answers(port, request):
            if process.poll() is not None or time.perf_counter() - began > 120:
                raise SystemExit(f"{name} does not answer")
            time.sleep(0.2)
        yield Server(process, port, time.perf_counter() - began)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _answers(port: int, request: dict[str, Any]) -> bool:
    try:
        reply = httpx.post(
            f"http://127.0.0.1:{port}{request['path']}",
            content=base64.b64decode(request["body"]), headers=request["headers"], trust_env=False, timeout=10,
        )  # fmt: skip
    except httpx.HTTPError:
        return False
    return reply.status_code == 200


def asked_of(name: str, folder: Path) -> dict[str, Any]:
    """One image, as the server takes it: the protocol's binary request, or base64 in JSON where it parses JSON itself."""
    if name in ("genwright", "triton"):
        return infer_request(folder, 1)
    from components.core.bundles import read_bundle
    from components.core.contract import probe

    noise = np.concatenate([rows[:1].ravel() for rows in probe(read_bundle(folder)).values()]).astype("<f4")
    body = json.dumps({"noise": base64.b64encode(noise.tobytes()).decode()}).encode()
    return {
        "path": {"litserve": "/predict", "bentoml": "/generate"}[name],
        "headers": {"Content-Type": "application/json"},
        "body": base64.b64encode(body).decode(),
    }


def swaps(home: Path, first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Twenty new champions under load, every second one corrupt: what was answered, and what the server says of them."""
    model = first["release"]["model"]
    damaged = _damaged(bundle_in(home, first))
    environment = {**os.environ, "GENWRIGHT_HOME": str(home)}
    command = [str(GENWRIGHT), "serve", model, "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        port = int(re.findall(r"http://[^:]+:(\d+)", process.stderr.readline())[0])
        threading.Thread(target=process.stderr.read, daemon=True).start()
        request = infer_request(bundle_in(home, first), 1)
        request["path"] = request["path"].replace("/m/", f"/{model}/")
        asked = request | {"host": "127.0.0.1", "port": port, "clients": 8, "seconds": 3600}
        loading = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load", json.dumps(asked)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        good = [first["bundle"]["sha256"], second["bundle"]["sha256"]]
        for number in range(SWAPS):
            sha256 = damaged if number % 2 else good[1 - number // 2 % 2]
            before = _outcomes(port)
            _name(home, model, sha256=sha256, version=number + 100)
            until = time.monotonic() + 60
            while _outcomes(port) == before and time.monotonic() < until:
                time.sleep(0.1)
        loading.send_signal(signal.SIGINT)
        told = json.loads(loading.communicate()[0])
        return {"swaps": SWAPS, "statuses": told["statuses"], "outcomes": _outcomes(port)}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def _damaged(bundle: Path) -> str:
    """A bundle in the same store whose record is whole and whose graph is not; its address."""
    import shutil

    from components.core.bundles import address_of, read_bundle

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
    from components.core.records import Channel
    from components.delivery.channel import ChannelStore
    from components.delivery.store import open_store

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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", nargs="+", default=[], help="overhead saturation start peers overload swaps")
    options = parser.parse_args()
    rounds, seconds = options.rounds, options.seconds
    path = RESULTS / "serving.json"
    told: dict[str, Any] = json.loads(path.read_text()) if options.only and path.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        made = {kind: produced(kind, home) for kind in GRAPHS}
        for kind in GRAPHS:
            folder = bundle_in(home, made[kind])
            measures: dict[str, Callable[[], Any]] = {
                "overhead": lambda folder=folder: overhead(folder, rounds=rounds, seconds=seconds),
                "saturation": lambda folder=folder: saturation(folder, count=4, clients=16, rounds=rounds, seconds=seconds),
                "start": lambda folder=folder: start(folder, rounds=rounds),
                "peers": lambda folder=folder: peers(folder, rounds=rounds, seconds=seconds),
            }
            if kind == "small":
                measures["overload"] = lambda folder=folder: overload(folder, seconds=60)
                measures["swaps"] = lambda: swaps(home, made["small"], produced("small", home, seed=1))
            for what, measure in measures.items():
                if not options.only or what in options.only:
                    told.setdefault(kind, {})[what] = measure()
                    print(kind, what, json.dumps(told[kind][what]), flush=True)
    told |= circumstances("genwright", "onnxruntime-gpu", "starlette", "uvicorn")
    path.write_text(json.dumps(told, indent=1) + "\n")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

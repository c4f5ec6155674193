"""Is the server as fast as the graph, and as others? Overhead, saturation, overload, swaps, start, memory, and three peers.

    .venv/bin/python benchmarks/serving.py [--rounds 5] [--seconds 4] [--only overhead peers ...]

All in one run on one machine: rounds of the bare ONNX Runtime session, with its own defaults on all cores, and of the server take
turns, and so do those of the server and its peers; medians of ratios are told. The load comes from a process of its own
(benchmarks/load.py); the graphs are those of benchmarks/graphs.py. A peer (benchmarks/peers/servers) runs in an environment of
its own that uv makes from the lines at its top, serves the same graph with the same largest batch, and must give its image.
It has all cores, once as one worker and once as a worker a core, and the better of the two counts.
Each figure stands in benchmarks/results/serving.json as soon as it is taken, and what was to be reached beside what was.
"""

import argparse
import io
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks.graphs import GRAPHS, bundle_in, produced
from benchmarks.servers import (
    UV,
    Server,
    Unanswered,
    answer,
    asked_of,
    champion,
    infer_request,
    interpreter_of,
    load,
    peer,
    script_of,
    server,
)
from benchmarks.shared import RESULTS, ROOT, circumstances, verdicts
from benchmarks.swaps import SWAPS, swaps
from components.core.bundles import read_bundle
from components.runtime.contract import probe
from components.runtime.cpus import usable_cpus
from components.serving.engine import Engine
from components.serving.limits import Limits

PEERS = ("litserve", "bentoml", "triton")
PACKAGES = ("genwright", "onnxruntime-gpu", "starlette", "uvicorn", "uvloop", "httptools")
CLIENTS = 32
SIZES = (1, 2, 4, 8, 16, 32, 64)  # of batch, among which the bare session's best is looked for
COUNTS = (1, 4, 16, 64)  # images that one request asks for at saturation
BARE = """
import json, sys, time
from pathlib import Path
import numpy as np
from components.serving.engine import Engine
from components.runtime.contract import probe
import onnxruntime as ort
engine = Engine.load(Path(sys.argv[1]))
session, names = ort.InferenceSession(engine.sampler.path, providers=["CPUExecutionProvider"]), [engine.bundle.output]
feeds = {name: np.resize(rows, (int(sys.argv[2]), *rows.shape[1:])) for name, rows in probe(engine.bundle).items()}
session.run(names, feeds)
until, seconds = time.perf_counter() + float(sys.argv[3]), []
while (began := time.perf_counter()) < until:
    session.run(names, feeds)
    seconds.append(time.perf_counter() - began)
print(json.dumps(seconds))
"""
LANES = """
import json, sys, threading, time
from pathlib import Path
import numpy as np
from components.runtime.contract import probe
from components.serving.engine import Engine
engine, size, until = Engine.load(Path(sys.argv[1])), int(sys.argv[2]), time.perf_counter() + float(sys.argv[3])
feeds = {name: np.resize(rows, (size, *rows.shape[1:])) for name, rows in probe(engine.bundle).items()}
counts, began = [0] * engine.lanes, time.perf_counter()
def run(lane):
    while time.perf_counter() < until:
        engine.sampler.run(feeds)
        counts[lane] += 1
threads = [threading.Thread(target=run, args=(lane,)) for lane in range(engine.lanes)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps([(time.perf_counter() - began) / sum(counts)]))
"""
DEADLINE_S = 5.0  # of the server at saturation
OVERLOAD = 16  # images a request, so that the load generator keeps up with twice the capacity
TARGETS: dict[str, tuple[str, float]] = {  # kind.measure.figure -> how it compares with what
    "small.overhead.overhead_ms": ("<=", 1.5),
    "computing.overhead.overhead_ms": ("<=", 1.5),
    **{
        f"{kind}.saturation.{count}_a_request.{figure}": target
        for kind in GRAPHS
        for count in COUNTS
        for figure, target in {"share": (">=", 0.95), "p99_s": ("<=", DEADLINE_S), "refused": ("<=", 0)}.items()
    },
    "small.peers.times_the_best": (">=", 1.5),
    "computing.peers.times_the_best": (">=", 1.0),
    "small.start.ready_s": ("<=", 2.0),
    "small.start.rss_beyond_model_mb": ("<=", 200.0),
    "small.swaps.not_200": ("<=", 0),
    "small.swaps.swapped": (">=", SWAPS / 2),
    "small.swaps.refused": (">=", SWAPS / 2),
    "small.overload.times_the_capacity": (">=", 1.9),
    "small.overload.neither_200_nor_429": ("<=", 0),
    "small.overload.rss_growth_mb": ("<=", 20.0),
    "small.bytes.differing": ("<=", 0),
    "computing.bytes.differing": ("<=", 0),
}


def bare(folder: Path, count: int, seconds: float, *, script: str = BARE) -> list[float]:
    """Seconds a batch of so many images, without a server: of one call after another with ONNX Runtime's defaults (BARE), or of
    as many at once as the server has lanes (LANES, their mean)."""
    words = [sys.executable, "-c", script, str(folder), str(count), str(seconds)]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
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


def saturation(folder: Path, *, clients: int, rounds: int, seconds: float) -> dict[str, dict[str, float]]:
    """Images a second at full load, as a share of the bare session's at its best size of batch, and of what the server's lanes
    make without a server: medians of the rounds.

    By the images that one request asks for. The clients have no cores of their own, so what they take is lost to the graph.
    """
    largest = read_bundle(folder).max_batch
    alone: dict[int, list[float]] = {size: [] for size in SIZES}  # images a second of the bare session, by size of batch
    lanes: list[float] = []
    seen: dict[int, list[tuple[float, float]]] = {count: [] for count in COUNTS}  # images a second, and p99
    refused = dict.fromkeys(COUNTS, 0)
    with server(folder, "--deadline-s", str(DEADLINE_S)) as running:
        load(running.port, infer_request(folder, 4), clients=clients, seconds=1)
        for _ in range(rounds):
            for size in SIZES:
                alone[size].append(size / statistics.mean(bare(folder, size, seconds / 4)))
            lanes.append(largest / bare(folder, largest, seconds / 2, script=LANES)[0])
            for count in COUNTS:
                fit = min(clients, Limits.queued // count)  # in the queue
                told = load(running.port, infer_request(folder, count), clients=fit, seconds=seconds)
                refused[count] += sum(told["statuses"].values()) - len(told["seconds"])
                seen[count].append((count * len(told["seconds"]) / told["wall_s"], _p99(told["seconds"])))
    best = max(SIZES, key=lambda size: statistics.median(alone[size]))  # in all rounds: the best of one is luck, too
    return {
        f"{count}_a_request": {
            "images_per_s": statistics.median(rate for rate, _ in rates),
            "bare_images_per_s": statistics.median(alone[best]),
            "bare_best_batch": best,
            "p99_s": max(p99 for _, p99 in rates),
            "refused": refused[count],
            "share": statistics.median(rate / bare for (rate, _), bare in zip(rates, alone[best], strict=True)),
            "share_of_lanes": statistics.median(rate / lane for (rate, _), lane in zip(rates, lanes, strict=True)),
        }
        for count, rates in seen.items()
    }


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[int(0.99 * len(seconds))] if seconds else math.inf


def overload(folder: Path, *, seconds: float) -> dict[str, Any]:
    """Twice the capacity: which statuses, and how memory grows from the first tenth to the end."""
    request = infer_request(folder, OVERLOAD)
    with server(folder) as running:
        seen = load(running.port, request, clients=Limits.queued // OVERLOAD, seconds=5)
        capacity = len(seen["seconds"]) / seen["wall_s"]
        load(running.port, request, clients=400, seconds=seconds / 10, rate=2 * capacity)
        before = running.rss_mb
        seen = load(running.port, request, clients=400, seconds=seconds, rate=2 * capacity)
        after = running.rss_mb
    offered = sum(seen["statuses"].values()) / seen["wall_s"]
    return {
        "capacity_per_s": capacity,
        "offered_per_s": offered,
        "times_the_capacity": offered / capacity,
        "statuses": seen["statuses"],
        "neither_200_nor_429": sum(count for status, count in seen["statuses"].items() if status not in ("200", "429")),
        "generator_behind_s": seen["behind_s"],
        "answered_p99_s": _p99(seen["seconds"]),
        "rss_mb": [before, after],
        "rss_growth_mb": after - before,
    }


def start(home: Path, model: str, folder: Path, *, rounds: int) -> dict[str, float]:
    """Seconds from `genwright serve` to the first ready reply, and resident memory beyond the model's file after some load."""
    model_mb, request = (folder / "model.onnx").stat().st_size / 2**20, infer_request(folder, 4)
    request["path"] = request["path"].replace("/m/", f"/{model}/")
    ready, beyond = [], []
    for _ in range(rounds):
        with champion(home, model) as running:
            load(running.port, request, clients=8, seconds=1)
            ready.append(running.ready_s)
            beyond.append(running.rss_mb - model_mb)
    return {"ready_s": statistics.median(ready), "rss_beyond_model_mb": statistics.median(beyond)}


def peers(folder: Path, *, rounds: int, seconds: float, pythons: dict[str, str]) -> dict[str, Any]:
    """Requests a second of one image each, from many clients at once: ours and every peer, in turns; and ours over the best.

    All are started once; in a round each is loaded while the others are stopped (one of them is busy when it is idle), and every
    second round goes the other way round. Only replies with an image count; what else a server answers with stands beside. A peer
    that cannot be had, or has another image, is left out with the reason. Raises SystemExit where one of ours has no image.
    """
    left_out: dict[str, str] = {}
    for name in PEERS:
        command = [UV, "sync", "--quiet", *interpreter_of(name, pythons), "--script", str(script_of(name))]
        if (done := subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)).returncode:
            left_out[name] = done.stderr[-500:]
    arranged = [("genwright", 1), *((name, workers) for name in PEERS for workers in sorted({1, usable_cpus()}))]
    found: dict[tuple[str, int], list[float]] = {each: [] for each in arranged if each[0] not in left_out}
    statuses: dict[str, dict[str, int]] = {}
    wanted = _one_image(folder)
    with ExitStack() as stack:
        running: dict[tuple[str, int], Server] = {}
        for name, workers in found:
            try:
                with ExitStack() as own:
                    started = server(folder) if name == "genwright" else peer(name, folder, pythons, workers=workers)
                    at = own.enter_context(started)
                    _check_image(at.port, asked_of(name, folder), wanted)
                    at.rest()
                    running[name, workers] = at
                    stack.push(own.pop_all())
            except Unanswered as error:
                if name == "genwright":
                    raise SystemExit(str(error)) from None
                left_out[name] = str(error)
        for turn in range(rounds):
            for name, workers in [*running][:: 1 if turn % 2 else -1]:
                at = running[name, workers]
                at.wake()
                load(at.port, asked_of(name, folder), clients=CLIENTS, seconds=1)
                seen = load(at.port, asked_of(name, folder), clients=CLIENTS, seconds=seconds)
                at.rest()
                if name == "genwright" and [*seen["statuses"]] != ["200"]:
                    raise SystemExit(f"{name}: answered with {seen['statuses']}")
                statuses[f"{name}, workers: {workers}"] = seen["statuses"]
                found[name, workers].append(len(seen["seconds"]) / seen["wall_s"])
    told: dict[str, Any] = {
        "requests_per_s": {f"{name}, workers: {workers}": rates for (name, workers), rates in found.items()},
        "statuses_of_the_last_round": statuses,
        "left_out": left_out,
    }
    if left_out:
        return told  # the best of some is not the best of all
    theirs = {each: rates for each, rates in found.items() if each[0] in PEERS and rates}
    best = max(theirs, key=lambda each: statistics.median(theirs[each]))
    shares = [ours / their for ours, their in zip(found["genwright", 1], theirs[best], strict=True)]
    return told | {"best_peer": best[0], "best_workers": best[1], "times_the_best": statistics.median(shares)}


def _check_image(port: int, request: dict[str, Any], wanted: Any) -> None:
    """Raise Unanswered where a server answers with another image than the one that is wanted."""
    made = np.frombuffer(answer(port, request)[-wanted.nbytes :], wanted.dtype)
    if made.shape != wanted.shape or not np.allclose(made, wanted, atol=1e-3):
        raise Unanswered(f"port {port}: answers with another image than the graph's")


def _one_image(folder: Path) -> Any:
    """What the graph makes of the noise that all servers are sent."""
    engine = Engine.load(folder)
    return engine.run({name: rows[:1] for name, rows in probe(engine.bundle).items()}).ravel()


def same_bytes(folder: Path) -> dict[str, int]:
    """Images of 32 seeds asked for at once and one by one, before and after a restart: how many differ in any byte."""
    seeds = [*range(32)]
    found = []
    for _ in range(2):
        with server(folder) as running:
            found.append(_generated(running.port, seeds))
            found.append(b"".join(_generated(running.port, [seed]) for seed in seeds))
    size = len(found[0]) // len(seeds)
    images = [[each[at : at + size] for at in range(0, len(each), size)] for each in found]
    return {"images": len(seeds), "differing": sum(len({*same}) > 1 for same in zip(*images, strict=True))}


def _generated(port: int, seeds: list[int]) -> bytes:
    """The pixels of these seeds."""
    asked = {"seeds": seeds, "format": "npy"}
    reply = httpx.post(f"http://127.0.0.1:{port}/v1/generate", json=asked, trust_env=False, timeout=60).raise_for_status()
    return np.load(io.BytesIO(reply.content)).tobytes()  # type: ignore[no-any-return]


def reached(told: dict[str, Any]) -> dict[str, Any]:
    """Each target whose figure was taken: the figure, what was to be reached, and whether it was."""
    found: dict[str, tuple[float, str, float]] = {}
    for name, (how, limit) in TARGETS.items():
        figure: Any = told
        for part in name.split("."):
            figure = figure.get(part) if isinstance(figure, dict) else None
        if figure is not None:
            found[name] = (figure, how, limit)
    return verdicts(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--only", nargs="+", default=[], help="overhead saturation start bytes peers overload swaps")
    parser.add_argument("--graphs", nargs="+", choices=GRAPHS, default=[*GRAPHS])
    parser.add_argument(
        "--python", nargs="+", default=[], help="of a peer, where uv's does not suit it: triton=/usr/bin/python3.11"
    )
    options = parser.parse_args()
    rounds, seconds, pythons = options.rounds, options.seconds, dict(each.split("=", 1) for each in options.python)
    path = RESULTS / "serving.json"
    some = options.only or len(options.graphs) < len(GRAPHS)
    told: dict[str, Any] = json.loads(path.read_text()) if some and path.exists() else {}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        made = {kind: produced(kind, home) for kind in options.graphs}
        for kind in options.graphs:
            folder = bundle_in(home, made[kind])
            measures: dict[str, Callable[[], Any]] = {
                "overhead": lambda folder=folder: overhead(folder, rounds=rounds, seconds=seconds),
                "saturation": lambda folder=folder: saturation(folder, clients=64, rounds=rounds, seconds=seconds),
                "start": lambda folder=folder, kind=kind: start(home, made[kind]["release"]["model"], folder, rounds=rounds),
                "bytes": lambda folder=folder: same_bytes(folder),
            }
            if kind == "small":
                measures["overload"] = lambda folder=folder: overload(folder, seconds=60)
                measures["swaps"] = lambda: swaps(home, made["small"], produced("small", home, seed=1))
            measures["peers"] = lambda folder=folder: peers(folder, rounds=3 * rounds, seconds=seconds / 2, pythons=pythons)
            for what, measure in measures.items():
                if not options.only or what in options.only:
                    figures = measure()
                    print(kind, what, json.dumps(figures), flush=True)
                    told.setdefault(kind, {})[what] = figures | {"taken": circumstances(*PACKAGES)}
                    told |= {"reached": reached(told), "wall_s": time.monotonic() - began}
                    path.write_text(json.dumps(told, indent=1) + "\n")
    for name, each in told["reached"].items():
        print(f"{'reached' if each['reached'] else 'MISSED '} {name}: {each['found']:.4g}, wanted {each['wanted']}")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()

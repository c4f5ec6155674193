"""What does each engine add to the stages of a production, and how long does a scheduled run take that finds nothing to do?

    .venv/bin/python benchmarks/engines.py [--rounds 3]

Each round produces one brief (a small VAE on digits, 20,000 items seen) in a new home: in one process, with a Prefect server that
runs already, and through KFP's processes. What is told is the seconds of the whole command, and what of them is outside of the
stages: interpreters that start, imports, the brief, the data, the server's and KFP's work. Prefect's server measures the stages
within it; those of a process are measured around each, and KFP is taken to need the same. An unchanged run is asked of a worker's
deployment: the flow run's seconds, and those from the request to the end. Medians; benchmarks/results/engines.json.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import yaml

from benchmarks.shared import RESULTS, ROOT, circumstances, verdicts

GENWRIGHT, PREFECT = str(ROOT / ".venv" / "bin" / "genwright"), [sys.executable, "-m", "prefect"]
DATA = "data/prepared/digits"
ANYTHING = {
    "distance_ratio_max": None, "heldout_ratio_max": None, "heldout_noise_ratio_max": None, "fd_noise_ratio_max": None,
    "coverage_min": 0.0, "recall_min": 0.0, "duplicates_max": 1.0,
    "memorised_max": 1.0, "roughness_lost_max": None, "class_ratio_min": 0.0,
}  # fmt: skip
BRIEF = {
    "name": "engines", "modality": "image", "data": {"path": DATA, "repo": str(ROOT)}, "gates": ANYTHING,
    "override": {"family": "vae", "config": {"width": 16, "latent": 4, "blocks": 1}},
    "compute": {"items_seen": 20_000, "device": "cpu"},
}  # fmt: skip
STAGES = """
import sys, time, json
from pathlib import Path
from components.pipeline import production
from components.pipeline.resolve import resolve_file
from components.runtime.threads import rest_when_idle
from flows.settings import load_backends
rest_when_idle()
backends, took = load_backends(), []
call = production.in_process(backends)
def timed(stage, records):
    began = time.perf_counter()
    made = call(stage, records)
    took.append(time.perf_counter() - began)
    return made
production.produce(resolve_file(Path(sys.argv[1]), backends), backends, timed)
print(json.dumps(took))
"""
PACKAGES = ("genwright", "prefect", "kfp", "mlflow", "torch")
TARGETS = {
    "process.outside_s": ("<=", 10.0),
    "prefect.outside_s": ("<=", 5.0),
    "kfp.outside_s": ("<=", 15.0),
    "unchanged.flow_run_s": ("<=", 10.0),
}


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PREFECT_"))}
    return kept | {"GENWRIGHT_HOME": str(home), "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"} | more


def run(command: list[str], told: dict[str, str]) -> tuple[float, str]:
    """The seconds of a command, and what it printed."""
    began = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=told, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[1:4]}: exit code {done.returncode}\n{done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout


@contextmanager
def started(command: list[str], told: dict[str, str]) -> Iterator[None]:
    process = subprocess.Popen(command, cwd=ROOT, env=told, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:  # a worker of Prefect may wait for its server
            process.kill()
            process.wait()


def ask(api: str, method: str, path: str, **more: Any) -> Any:
    return httpx.request(method, f"{api}/{path}", timeout=60, **more).raise_for_status().json()


def by_process(path: Path, home: Path) -> dict[str, float]:
    """`genwright produce`, and what its stages take in another home, around each."""
    with tempfile.TemporaryDirectory(dir=home.parent) as other:
        stages_s = sum(
            json.loads(
                run([sys.executable, "-c", STAGES, str(path)], environment(new(home.parent / "first", Path(other, "home"))))[1]
            )
        )
    whole_s, _ = run([GENWRIGHT, "produce", str(path)], environment(home, GENWRIGHT_ENGINE="process"))
    return {"whole_s": whole_s, "stages_s": stages_s, "outside_s": whole_s - stages_s}


def by_prefect(path: Path, home: Path, api: str) -> dict[str, float]:
    whole_s, _ = run([GENWRIGHT, "produce", str(path)], environment(home, PREFECT_API_URL=api))
    last = ask(api, "POST", "flow_runs/filter", json={"sort": "START_TIME_DESC", "limit": 1})[0]
    time.sleep(3)  # what the server says of tasks comes late
    tasks = ask(api, "POST", "task_runs/filter", json={"task_runs": {"flow_run_id": {"any_": [last["id"]]}}})
    stages_s = sum(each["total_run_time"] for each in tasks)
    return {"whole_s": whole_s, "stages_s": stages_s, "outside_s": whole_s - stages_s}


def by_kfp(path: Path, home: Path, stages_s: float) -> dict[str, float]:
    """Its stages take what they take in a process: a step's own start is what it adds."""
    whole_s, _ = run([GENWRIGHT, "kubeflow", "run-local", str(path)], environment(home))
    return {"whole_s": whole_s, "stages_s": stages_s, "outside_s": whole_s - stages_s}


def unchanged(path: Path, home: Path, api: str) -> dict[str, float]:
    """A run of its deployment by a worker, where all stands already."""
    told = environment(home, PREFECT_API_URL=api)
    run([GENWRIGHT, "schedule", str(path), "--here"], told)
    deployment = ask(api, "GET", f"deployments/name/retrain/{BRIEF['name']}")
    began = time.perf_counter()
    path_ = f"deployments/{deployment['id']}/create_flow_run"
    asked = ask(api, "POST", path_, json={"state": {"type": "SCHEDULED"}})
    while (found := ask(api, "GET", f"flow_runs/{asked['id']}"))["state_type"] not in ("COMPLETED", "FAILED", "CRASHED"):
        time.sleep(0.1)
    if found["state_name"] != "Unchanged":
        raise SystemExit(f"the run ended as {found['state_name']}: {found['state']['message']}")
    return {"flow_run_s": found["total_run_time"], "from_request_s": time.perf_counter() - began}


def new(first: Path, to: Path) -> Path:
    """A home that has the extractor of the data already."""
    for part in ("store/extractors", "store/artifacts", "extractors"):
        if (first / part).is_dir():
            shutil.copytree(first / part, to / part)
    return to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    found: dict[str, list[dict[str, float]]] = {"process": [], "prefect": [], "kfp": [], "unchanged": []}
    with tempfile.TemporaryDirectory(prefix="engines-") as name, socket.socket() as free:
        folder = Path(name)
        (path := folder / "engines.yaml").write_text(yaml.safe_dump(BRIEF))
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        api = f"http://127.0.0.1:{port}/api"
        own = {"PREFECT_API_URL": api, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_WORKER_QUERY_SECONDS": "1"}
        told = environment(folder / "last", **own)
        with started([*PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port), "--no-ui"], told):
            _until_it_answers(api)
            run([*PREFECT, "--no-prompt", "work-pool", "create", "genwright", "--type", "process"], told)
            run([GENWRIGHT, "produce", str(path)], environment(folder / "first", GENWRIGHT_ENGINE="process"))
            for number in range(rounds):
                homes = {engine: new(folder / "first", folder / f"{engine}{number}") for engine in ("process", "prefect", "kfp")}
                found["process"].append(by_process(path, homes["process"]))
                found["prefect"].append(by_prefect(path, homes["prefect"], api))
                found["kfp"].append(by_kfp(path, homes["kfp"], found["process"][-1]["stages_s"]))
                print(json.dumps({engine: rows[-1] for engine, rows in found.items() if rows}), flush=True)
            home = folder / f"prefect{rounds - 1}"
            with started([*PREFECT, "worker", "start", "--pool", "genwright", "--type", "process"], environment(home, **own)):
                looks = [unchanged(path, home, api) for _ in range(rounds + 1)]
                found["unchanged"] = looks[1:]  # the first waits for the worker to begin
    medians = {
        engine: {key: round(statistics.median(each[key] for each in rows), 2) for key in rows[0]}
        for engine, rows in found.items()
    }
    reached = verdicts(
        {name: (medians[name.split(".")[0]][name.split(".")[1]], how, limit) for name, (how, limit) in TARGETS.items()}
    )
    result = {"medians": medians, "rounds": found, "reached": reached, **circumstances(*PACKAGES)}
    (RESULTS / "engines.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({"medians": medians, "reached": reached}, indent=1))


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(each[key] for each in rows), 2) for key in rows[0]}


def _until_it_answers(api: str) -> None:
    for _ in range(600):
        with suppress(httpx.HTTPError):
            if httpx.get(f"{api}/health").is_success:
                return
        time.sleep(0.2)
    raise SystemExit("the Prefect server did not answer in two minutes")


if __name__ == "__main__":
    main()

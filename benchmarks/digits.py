"""How good are the demo's digits? Produces their two briefs, each in an empty home, and reads the scorecards.

    .venv/bin/python benchmarks/digits.py [digits] [digits-quality]

Writes benchmarks/results/NAME.json: the share of samples that a classifier trained on the real digits is more than 0.9 sure
of, beside that of held-out digits, the rarest class, FD-local, coverage and the seconds of each part, with hardware and versions.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

from benchmarks.shared import RESULTS, ROOT, circumstances

GENWRIGHT = ROOT / ".venv" / "bin" / "genwright"
METRICS = (
    "confident_share",
    "confident_share_real",
    "class_share_min",
    "fd",
    "fd_noise_ratio",
    "coverage",
    "recall",
    "latency_p95_ms",
)
PACKAGES = ("genwright", "torch", "onnxruntime-gpu", "diffusers", "mlflow", "prefect")


def produce(name: str) -> dict[str, object]:
    """One production in a home of its own: its metrics and how long it took."""
    with tempfile.TemporaryDirectory() as home:
        environment = {**os.environ, "GENWRIGHT_HOME": home}
        start = time.monotonic()
        command = [GENWRIGHT, "produce", f"briefs/{name}.yaml", "--json"]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False)
        wall_s = time.monotonic() - start
        if not done.stdout:
            raise SystemExit(f"{name}: exit code {done.returncode}")
        produced = json.loads(done.stdout)
        release = f"{name}/{produced['release']['version']}"
        told = subprocess.run(
            [GENWRIGHT, "explain", release, "--json"], cwd=ROOT, env=environment, check=True, capture_output=True
        )
    metrics = json.loads(told.stdout)["scorecard"]["metrics"]
    return {
        "brief": name,
        "exit_code": done.returncode,
        "verdict": produced["gates"]["verdict"],
        "wall_s": round(wall_s, 1),
        "train_s": round(produced["train_s"], 1),
        "metrics": {key: metrics[key] for key in METRICS if key in metrics},
    }


def main() -> None:
    for name in sys.argv[1:] or ("digits", "digits-quality"):
        result = {
            **produce(name),
            **circumstances(*PACKAGES),
            "command": f".venv/bin/python benchmarks/digits.py {name}",
        }
        path = RESULTS / f"{name}.json"
        path.write_text(json.dumps(result, indent=2) + "\n")
        share = result["metrics"]["confident_share"]  # type: ignore[index]
        print(
            f"{name}: {share['value']:.1%} sure [{share['low']:.1%}, {share['high']:.1%}], trained {result['train_s']} s: {path}"
        )


if __name__ == "__main__":
    main()

"""Clients that others wrote, each in an environment of its own: Triton's HTTP client, perf-analyzer, Schemathesis, Chromium."""

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytestmark = pytest.mark.slow
UV = str(Path(sys.executable).with_name("uv"))
PERF_ANALYZER, SCHEMATHESIS = "perf-analyzer==2.60.0", "schemathesis==4.32.5"
CLIENTS = Path(__file__).with_name("clients")


def run(*command: str, timeout: float = 280, code: int = 0, cwd: Path | None = None) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd)
    if done.returncode and re.search(r"Failed to fetch|Unable to locate package", done.stderr):
        pytest.skip("the package registry cannot be reached")
    assert done.returncode == code, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def address(server: Any) -> str:
    return str(server.url).removeprefix("http://")


def test_tritons_client_gets_what_the_graph_makes(server: Any, plain: Path) -> None:
    out = run(UV, "run", "--quiet", "--no-project", "--script", str(CLIENTS / "triton_http.py"), address(server), "digits")
    said = json.loads(out.splitlines()[-1])
    assert [said[what] for what in ("live", "ready", "model_ready")] == [True] * 3
    assert (said["server"], said["versions"], said["max_batch_size"]) == ("genwright", ["3"], 256)
    assert said["inputs"] == [{"name": "z", "datatype": "FP32", "shape": [-1, 16]}]
    assert said["shape"] == [3, 1, 8, 8]
    assert said["apart"] == 0
    assert "'y'" in said["refused"]
    z = np.random.default_rng(0).normal(size=(3, 16)).astype(np.float32)
    assert hashlib.sha256(z.tobytes()).hexdigest() == said["noise"]
    session = onnxruntime.InferenceSession(plain / "model.onnx")
    x = session.run(["x"], {"z": np.concatenate([z, z[-1:]])})[0][:3]
    assert hashlib.sha256(x.tobytes()).hexdigest() == said["sha256"]


def test_perf_analyzer_measures_it(server: Any, tmp_path: Path) -> None:
    table = tmp_path / "measured.csv"
    run(
        *perf_analyzer(tmp_path),
        *("-m", "digits", "-u", address(server), "-i", "http", "--concurrency-range", "2"),
        *("--measurement-interval", "1000", "--stability-percentage", "90", "-f", str(table)),
    )
    heading, values = table.read_text().splitlines()[:2]
    row = dict(zip(heading.split(","), values.split(","), strict=False))
    assert row["Concurrency"] == "2"
    assert float(row["Inferences/Second"]) > 10


def perf_analyzer(folder: Path) -> list[str]:
    """The words that start it. Its wheels need glibc 2.38: on an older Debian, the next one's is laid out in the folder."""
    packages = folder / "packages"
    wheel = ("--no-deps", "--target", str(packages), "--python-platform", f"{platform.machine()}-manylinux_2_40")
    run(UV, "pip", "install", "--quiet", "--python", sys.executable, *wheel, PERF_ANALYZER)
    program = str(packages / "perf_analyzer" / "bin" / "perf_analyzer")
    libc = tuple(map(int, (os.confstr("CS_GNU_LIBC_VERSION") or "none 0").split()[1].split(".")))
    if libc >= (2, 38):
        return [program]
    keyring = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    if shutil.which("apt-get") is None or not keyring.exists():
        pytest.skip(f"perf-analyzer's wheels need glibc 2.38 or later; this machine has {'.'.join(map(str, libc))}")
    sources, lists, cache = folder / "sources.list", folder / "lists", folder / "cache"
    sources.write_text(f"deb [signed-by={keyring}] http://deb.debian.org/debian trixie main\n")
    for each in (lists, cache):
        (each / "partial").mkdir(parents=True)
    settings = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": lists,
        "Dir::Cache": cache,
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in settings.items())]
    run(*apt, "update")
    run(*apt, "download", "libc6", "libstdc++6", "libgcc-s1", "libssl3t64", "zlib1g", "libzstd1", cwd=folder)
    for package in folder.glob("*.deb"):
        run("dpkg-deb", "-x", str(package), str(folder / "root"))
    (loader,) = (folder / "root" / "usr" / "lib").glob("*-linux-gnu/ld-linux-*.so.*")
    return [str(loader), "--library-path", str(loader.parent), program]


@pytest.mark.parametrize("which", ["server", "class_server"])
def test_schemathesis_finds_nothing(request: pytest.FixtureRequest, which: str) -> None:
    assert "No issues found" in searched(request.getfixturevalue(which).url)


@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing_where_tokens_guard_two_models(plain: Path, classy: Path, start: Any) -> None:
    with start(plain, models={"other": str(classy)}, tokens=["open sesame"]) as server:
        assert "No issues found" in searched(server.url, "--header", "Authorization: Bearer open sesame")


def searched(url: str, *more: str) -> str:
    """What Schemathesis says of a server."""
    program = (UV, "tool", "run", "--from", SCHEMATHESIS, "schemathesis", "run", f"{url}/openapi.json")
    return run(*program, "--checks", "all", "--max-examples", "50", "--seed", "1", "--no-color", *more)


def test_the_page_shows_images_in_a_browser(class_server: Any, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium here; install Debian's package chromium")
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
    dom = run(*command, "--virtual-time-budget=20000", "--dump-dom", class_server.url)
    assert dom.count('src="data:image/png;base64,') == 16
    assert "zero, seed 0" in dom
    assert '<option value="2">two</option>' in dom
    assert "/v1/generate</pre>" in dom
    assert re.search(r'id="error" role="alert"></div>', dom), "the page shows an error"

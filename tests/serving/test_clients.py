"""Clients that others wrote, each in an environment of its own: Triton's HTTP client, perf-analyzer, Schemathesis, Chromium."""

import hashlib
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from components.core.bundles import read_bundle, seal_bundle
from components.delivery.triton import config_pbtxt, write_triton
from components.runtime.prompts import Prompts

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


@pytest.mark.slow
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


@pytest.mark.slow
def test_triton_reads_the_config_that_is_written_for_it(classy: Path, tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text(config_pbtxt(read_bundle(classy)))
    script = ("run", "--quiet", "--no-project", "--script", str(CLIENTS / "triton_config.py"))
    said = json.loads(run(UV, *script, str(tmp_path / "config.pbtxt")))
    assert (said["name"], said["max_batch_size"], said["outputs"]) == ("digits", 16, ["x"])
    assert said["inputs"] == {"z": ["TYPE_FP32", [16]], "label": ["TYPE_INT64", [1]]}


@pytest.mark.nightly
@pytest.mark.parametrize("negative", [False, True], ids=["wanted", "and unwanted"])
def test_a_real_triton_serves_the_ensemble_of_a_bundle_that_reads_words(build_text: Any, tmp_path: Path, negative: bool) -> None:
    folder = build_text(negative=negative)
    write_triton(folder, bundle := read_bundle(folder), version=3, to=tmp_path)
    encoder, prompts, unwanted = Prompts.open(folder), ["a red cat", ""], ["", "two dogs"]
    z = np.random.default_rng(0).normal(size=(2, 16)).astype(np.float32)
    asked = {"z": ["FP32", z.tolist()], "tokens": ["INT64", encoder.tokens(prompts).tolist()]}
    asked |= {"negative_tokens": ["INT64", encoder.tokens(unwanted).tolist()]} if negative else {}
    script = ("run", "--quiet", "--no-project", "--script", str(CLIENTS / "triton_ensemble.py"))
    said = json.loads(run(UV, *script, str(tmp_path), "digits", json.dumps(asked)))
    rows = np.stack([encoder(prompts), encoder(unwanted)], axis=1) if negative else encoder(prompts)
    (x,) = onnxruntime.InferenceSession(folder / "model.onnx").run([bundle.output], {"z": z, "condition": rows})
    np.testing.assert_allclose(np.array(said["x"], np.float32), x, atol=1e-5)


@pytest.mark.nightly
def test_tritons_client_sends_texts(build_text: Any, start: Any) -> None:
    folder = build_text()
    with start(folder) as server:
        script = ("run", "--quiet", "--no-project", "--script", str(CLIENTS / "triton_texts.py"))
        said = json.loads(run(UV, *script, address(server), "digits").splitlines()[-1])
    assert said["binary"] == said["json"] == said["tokens"]
    assert said["in_place_of"] == ["prompt", "tokens"]


@pytest.mark.nightly
def test_schemathesis_finds_nothing_where_prompts_are_read(build_text: Any, start: Any) -> None:
    with start(build_text(negative=True)) as server:
        assert "No issues found" in searched(server.url)


@pytest.mark.slow
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
    sources = folder / "sources.list"
    sources.write_text(f"deb [signed-by={keyring}] http://deb.debian.org/debian trixie main\n")
    apt = apt_in(folder, **{"Dir::Etc::sourcelist": sources, "Dir::Etc::sourceparts": "/dev/null"})
    run(*apt, "download", "libc6", "libstdc++6", "libgcc-s1", "libssl3t64", "zlib1g", "libzstd1", cwd=folder)
    root = unpacked(folder.glob("*.deb"), folder / "root")
    (loader,) = (root / "usr" / "lib").glob("*-linux-gnu/ld-linux-*.so.*")
    return [str(loader), "--library-path", str(loader.parent), program]


def apt_in(folder: Path, **settings: object) -> list[str]:
    """apt-get with lists and a cache of its own, up to date."""
    for each in ("lists", "cache/archives"):
        (folder / each / "partial").mkdir(parents=True)
    own = {
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "Debug::NoLocking": 1,
        "APT::Sandbox::User": "root",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in (own | settings).items())]
    run(*apt, "update")
    return apt


def unpacked(packages: Iterable[Path], root: Path) -> Path:
    """What Debian's packages hold, in a folder."""
    for package in packages:
        run("dpkg-deb", "-x", str(package), str(root))
    return root


@pytest.mark.nightly
@pytest.mark.parametrize("which", ["server", "class_server"])
def test_schemathesis_finds_nothing(request: pytest.FixtureRequest, which: str) -> None:
    assert "No issues found" in searched(request.getfixturevalue(which).url)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_schemathesis_finds_nothing_where_tokens_guard_two_models(plain: Path, classy: Path, start: Any) -> None:
    with start(plain, models={"other": str(classy)}, tokens=["open sesame"]) as server:
        assert "No issues found" in searched(server.url, "--header", "Authorization: Bearer open sesame")


def searched(url: str, *more: str) -> str:
    """What Schemathesis says of a server."""
    program = (UV, "tool", "run", "--from", SCHEMATHESIS, "schemathesis", "run", f"{url}/openapi.json")
    return run(*program, "--checks", "all", "--max-examples", "50", "--seed", "1", "--no-color", *more)


def chromium(folder: Path) -> str:
    """A program that starts it: this machine's, or Debian's, laid out in the folder with what it needs."""
    if found := shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"):
        return found
    if shutil.which("apt-get") is None:
        pytest.skip("there is no Chromium here, and no apt-get to have it from")
    run(*apt_in(folder), "--yes", "--no-install-recommends", "--download-only", "install", "chromium")
    root = unpacked((folder / "cache" / "archives").glob("*.deb"), folder / "root")
    (libraries,) = (root / "usr" / "lib").glob("*-linux-gnu")
    program = folder / "chromium"
    program.write_text(
        f'#!/bin/sh\nexport LD_LIBRARY_PATH={libraries}:{libraries}/pulseaudio\nexec {root}/usr/lib/chromium/chromium "$@"\n'
    )
    program.chmod(0o755)
    return str(program)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_somebody_uses_the_page_in_a_browser(classy: Path, build: Any, build_text: Any, start: Any, tmp_path: Path) -> None:
    folder = build(scale=2.0)
    seal_bundle(folder, read_bundle(folder).model_copy(update={"model": "walks", "latent": True}))
    with start(classy, models={"walks": str(folder), "words": str(build_text(negative=True))}, tokens=["sesame"]) as server:
        script = ("run", "--quiet", "--no-project", "--script", str(CLIENTS / "page.py"))
        out = run(UV, *script, chromium(tmp_path), server.url, "sesame", str(tmp_path / "page.png"))
        said = json.loads(out.splitlines()[-1])
        command = shlex.split(said["copied"].replace("TOKEN", "sesame"))
        asked = {"headers": dict([command[2].split(": ", 1)]), "content": command[command.index("-d") + 1]}
        reply = server.client.post(command[-1], **asked)
    assert said["refused"] == "a token is needed; send the header 'Authorization: Bearer TOKEN'"
    assert said["heading"] == "digits"
    assert said["at_first"] == [f"{('zero', 'one', 'two')[seed % 3]}, seed {seed}" for seed in range(16)]
    assert said["of_a_class"] == ["two, seed 5", "two, seed 6", "two, seed 7"]
    assert said["next"] == ["two, seed 8", "two, seed 9", "two, seed 10"]
    assert said["of_another_model"] == ["seed 8", "seed 9", "seed 10"]
    assert len(said["walk"]) == 3
    assert len({*map(tuple, said["walk"])}) == 3, "no step of the walk changes the images"
    assert said["walk"][-1][0] == said["walk"][-1][1], "at the end of the walk all are the image of that seed"
    assert said["of_no_prompt"] == ["seed 8", "seed 9", "seed 10"]
    assert [caption.split("\n")[1:] for caption in said["of_prompts"]] == [
        ["a red cat", "not: two dogs"],
        ["a cats on the moon two small dogish bird's", "not: two dogs"],
        ["a red cat", "not: two dogs"],
    ]
    assert said["cut"] == "Not all was read: the encoder takes 8 tokens. Not read: “two small dogish bird's”"
    assert said["struck"] == ["two small dogish bird's"]
    assert said["too_many"].startswith("count: 999 given")
    assert said["errors"] == []
    assert said["copied"] == said["shown"]
    assert (command[0], reply.status_code, reply.headers["content-type"]) == ("curl", 200, "image/png")
    assert reply.content.startswith(b"\x89PNG")
    assert (tmp_path / "page.png").stat().st_size > 10_000

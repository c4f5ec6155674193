"""An installed wheel works from outside the repository: everything the package needs is in it, and nothing of the tests."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

REPO = Path(__file__).parents[2]
NO_BACKEND = ("Failed to fetch", "No solution found", "not found in the package registry", "error sending request")


def uv() -> str | None:
    """The program that builds and installs, beside this Python or on the PATH."""
    return shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as for a release. Skips only where the build backend can neither be found nor fetched."""
    builder = uv()
    if builder is None:
        pytest.skip("uv builds the wheel and is not here")
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [builder, "build", "--wheel", "--quiet", "--out-dir", folder, REPO],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    if built.returncode and "hatchling" in built.stderr and any(said in built.stderr for said in NO_BACKEND):
        pytest.skip("hatchling is neither installed nor can it be fetched")
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel in it, and an empty folder to work from."""

    bin: Path
    work: Path

    def run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PYTHON"))}
        return subprocess.run(
            [self.bin / program, *arguments], cwd=self.work, env=kept, capture_output=True, text=True, check=False, timeout=100
        )

    def out(self, program: str, *arguments: str) -> str:
        ran = self.run(program, *arguments)
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The dependencies are those of the environment that runs the tests, whose own editable install is out of reach.

    A folder named in a .pth file is searched, but the .pth files in it, that of the editable install among them, are not read.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    variables = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", vars=variables))
    python = folder / "venv" / "bin" / "python"
    command = [str(uv()), "pip", "install", "--quiet", "--offline", "--no-deps", "--python", python, wheel]
    subprocess.run(command, check=True, timeout=100)
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (folder / "work").mkdir()
    return Installed(folder / "venv" / "bin", folder / "work")


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"components", "flows"}
    tree = {path.relative_to(REPO).as_posix() for part in ("components", "flows") for path in (REPO / part).rglob("*")}
    wanted = {name for name in tree if name.endswith((".py", ".yaml", ".j2"))}
    briefs = {f"flows/briefs/{path.name}" for path in (REPO / "briefs").glob("*.yaml")}
    assert {"components/evaluation/page.html.j2", "components/policy/rules/choices.yaml", "flows/cli/app.py"} <= wanted
    assert len(briefs) >= 10
    assert wanted | briefs <= names
    assert [name for name in names if "test" in name] == []
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_what_runs_is_the_wheel(installed: Installed) -> None:
    code = (
        "import components.core, flows.cli.app, importlib.metadata as m;"
        "print(flows.cli.app.__file__, components.core.__file__, m.version('genwright'))"
    )
    *files, version = installed.out("python", "-c", code).split()
    assert [file for file in files if not file.startswith(str(installed.bin.parent))] == []
    assert version.count(".") == 2


@pytest.mark.slow
def test_the_command_works_from_an_empty_folder(installed: Installed) -> None:
    assert "produce" in installed.out("genwright", "--help")
    assert "vae/gaussian" in installed.out("genwright", "families")
    brief = installed.work / "brief.yaml"
    shutil.copy(REPO / "briefs" / "digits.yaml", brief)
    assert "vae/gaussian, trained from scratch" in installed.out("genwright", "plan", "brief.yaml")
    said = installed.run("genwright", "data", "prepare", "uci-digits", "--to", "d")
    assert said.returncode == 0, said.stderr
    assert "1,797 items of 8x8x1" in said.stdout
    assert (installed.work / "d" / "dataset.json").is_file()
    brief.write_text("name: d\nmodality: image\ndata: {path: d}\ncompute: {device: cpu}\n")
    assert "1,797 image items of 8 px" in installed.out("genwright", "plan", "brief.yaml")


@pytest.mark.slow
def test_the_page_template_is_found(installed: Installed) -> None:
    code = (
        "from importlib.resources import files; print(len(files('components.evaluation').joinpath('page.html.j2').read_text()))"
    )
    assert int(installed.out("python", "-c", code)) > 500

"""One production through the real command line on real digits, shared by the tests; and homes that begin where it left."""

import importlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import yaml
from specs import image_item

from components.core.brief import Brief
from components.core.record import Record
from components.core.records import Release
from components.pipeline import release_commands
from components.pipeline.backends import Backends
from components.pipeline.resolve import resolve
from components.pipeline.run import Produced, Trained
from flows.settings import Settings

LENIENT = {
    "distance_ratio_max": 1e6, "coverage_lost_max": 1.0, "recall_lost_max": 1.0, "fd_noise_ratio_max": None, "coverage_min": 0.0,
    "recall_min": 0.0, "duplicates_max": 1.0, "memorised_max": 1.0, "heldout_ratio_max": 1e6, "heldout_noise_ratio_max": None,
    "roughness_lost_max": None, "class_ratio_min": 0.0,
}  # fmt: skip
LENIENT_BY_TEXT = LENIENT | {"text_excess_min": None, "memorised_asked_max": 1.0}
SMALL = {"family": "vae", "config": {"width": 16, "latent": 4, "blocks": 1}}
OLDER_HOME = Path(__file__).parent / "pipeline" / "data" / "older_home.tar.xz"  # see the README.md beside it
PLACES = {  # where MLflow's database names folders
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "model_versions": ("source", "storage_location"),
    "model_version_tags": ("value",),
}


@dataclass
class Road:
    """A folder with a DVC repository of digits in data/digits, a home beside it, and ways to produce there."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def brief(self, **changes: Any) -> Brief:
        """The brief of these tests: a small VAE, 4,000 items seen, gates that anything passes."""
        data = {"path": "data/digits", "repo": str(self.folder)}
        known = {"name": "digits", "modality": "image", "data": data, "gates": LENIENT, "override": SMALL}
        return Brief.model_validate(known | {"compute": {"items_seen": 4000, "device": "cpu", "threads": 1}} | changes)

    def write(self, brief: Brief, name: str = "brief.yaml") -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(json.loads(brief.model_dump_json(exclude_unset=True))))
        return path

    def backends(self) -> Backends:
        return Backends(Settings(home=self.home, actor="tester"))

    def cli(self, *arguments: str, timeout_s: float = 850, **environment: str) -> "subprocess.CompletedProcess[str]":
        """The real command line in a process of its own, with no Prefect server named."""
        return subprocess.run(
            [sys.executable, "-m", "flows", *arguments],
            cwd=self.folder,
            env=self.variables(**environment),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def produce_here(self, brief: Brief) -> Produced:
        """A production by the engine of one machine, training too, in this process; a standing one is returned as it is."""
        from components.pipeline import existing, production

        backends = self.backends()
        run = resolve(brief, backends)
        if known := existing.find_existing_result(run, backends):
            return known
        with training_here():
            return production.produce(run, backends, production.in_process(backends))

    def train_here(self, brief: Brief) -> Trained:
        """The training of a production alone, in this process."""
        from components.pipeline import production
        from components.pipeline.lease import lease

        backends = self.backends()
        records: dict[str, Any] = {"run": resolve(brief, backends)}
        with training_here(), lease(brief.name, backends) as records["lease"]:
            production.run_stages(records, production.in_process(backends), through="train")
        trained: Trained = records["train"]
        return trained

    def variables(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GENWRIGHT_", "PREFECT_"))}
        ours = {"GENWRIGHT_HOME": str(self.home), "GENWRIGHT_ACTOR": "tester"}
        return kept | ours | self.environment | more

    def beside(self, folder: Path) -> "Road":
        """Another road on a copy of the data, in a new home that has the extractor and an empty MLflow store already."""
        shutil.copytree(self.folder / "data", folder / "data")
        self.new_home(folder / "home")
        return Road(folder)

    def new_home(self, home: Path) -> Path:
        """Such a home, for the briefs and the data of this road."""
        shutil.copytree(self.home / "extractors", home / "extractors")
        shutil.copy(self.folder / "empty.db", home / "mlflow.db")
        return home


def bundles_of(home: Path) -> list[str]:
    """The digests of the bundles in the store of a home."""
    return sorted(path.name for path in (home / "store" / "bundles").iterdir())


@contextmanager
def served(road: Road, *models: str) -> Iterator[str]:
    """The address of a server of these models, in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows", "serve", *models, "--port", str(port)]
    with subprocess.Popen(command, cwd=road.folder, env=road.variables(), stdout=subprocess.DEVNULL) as server:
        try:
            address, until = f"http://127.0.0.1:{port}", time.monotonic() + 120
            while time.monotonic() < until and server.poll() is None:
                try:
                    if httpx.get(f"{address}/v2/health/ready").status_code == 200:
                        break
                except httpx.TransportError:
                    time.sleep(0.2)
            yield address
        finally:
            server.terminate()


MadeOnce = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def raw_road(made_once: MadeOnce) -> Road:
    """Prepared and tracked digits; nothing produced yet."""

    def fill(folder: Path) -> None:
        from components.data.prepare import prepare
        from components.data.versions import track

        prepare("uci-digits", folder / "data" / "digits", cache=folder / "home" / "data")
        track(folder / "data" / "digits")

    return Road(made_once("road", fill))


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class First:
    """What the first production left: its road, its output, its record, and its home as it was then.

    The road's own home is used by commands of other workers; whoever copies it takes `left`.
    """

    road: Road
    ran: "subprocess.CompletedProcess[str]"
    left: Path

    def record(self, stage: str, kind: type[R]) -> R:
        """The one record of this stage in the store."""
        (path,) = (self.road.home / "store" / "runs" / "digits").glob(f"*/{stage}.json")
        return kind.read(path)


@pytest.fixture(scope="session")
def first(raw_road: Road, made_once: MadeOnce, empty_store: Path) -> First:
    """A real `genwright produce` in a new home, to its end."""

    def fill(folder: Path) -> None:
        shutil.copy(empty_store, raw_road.folder / "empty.db")
        ran = raw_road.cli("produce", str(raw_road.write(raw_road.brief())))
        assert ran.returncode == 0, ran.stdout + ran.stderr
        said = {"args": ran.args, "returncode": ran.returncode, "stdout": ran.stdout, "stderr": ran.stderr}
        (folder / "ran.json").write_text(json.dumps(said))
        shutil.copytree(raw_road.home / "store", folder / "home" / "store")
        shutil.copy(raw_road.home / "mlflow.db", folder / "home" / "mlflow.db")

    folder = made_once("first", fill)
    ran = json.loads((folder / "ran.json").read_text())
    return First(raw_road, subprocess.CompletedProcess(**ran), folder / "home")


@pytest.fixture(scope="module")
def two(first: First, tmp_path_factory: pytest.TempPathFactory) -> Road:
    """A road on which the digits are produced, and in data/paper lie the same in black on white."""
    road = first.road.beside(tmp_path_factory.mktemp("two") / "road")
    begin_with(first, road)
    images, labels = digits()
    lay(road, "paper", 255 - images, labels)
    return road


def begin_with(first: First, road: Road) -> None:
    """Lay what the first production left into the home of a road."""
    shutil.copytree(first.left / "store", road.home / "store")
    shutil.copy(first.left / "mlflow.db", road.home / "mlflow.db")


def digits() -> tuple[Any, Any]:
    """The UCI digits as images, and their labels."""
    import numpy as np
    from sklearn.datasets import load_digits

    raw = load_digits()
    return (raw.images * 255 / 16).round().astype(np.uint8), raw.target


def lay(road: Road, name: str, images: Any, labels: Any) -> None:
    """Prepare images as the data of a road, below data/NAME."""
    import numpy as np

    from components.data.prepare import prepare
    from components.data.versions import track

    np.savez(road.folder / f"{name}.npz", images=images, labels=labels)
    prepare(road.folder / f"{name}.npz", road.folder / "data" / name, cache=road.home / "data", progress=False)
    track(road.folder / "data" / name)


def paper(road: Road, **changes: Any) -> Brief:
    """The brief that fine-tunes the champion of `digits` on the other data of the road `two`."""
    known = {"name": "paper", "data": {"path": "data/paper", "repo": str(road.folder)}, "goal": "latent", "override": None}
    return road.brief(**known | {"pretrained": {"model": "models:/digits@champion", "in_domain": True}} | changes)


class ApartRoad(Road):
    """The same folder of data, with another home."""

    @property
    def home(self) -> Path:
        return self.folder / "apart"


def trained_in_a_fork(brief: Brief, road: Road, *, kill_at: int) -> int:
    """Train in a process of its own that SIGKILL ends in the middle of a step; how it ended."""
    from components.pipeline import training
    from components.training.trainer import Trainer

    pid = os.fork()
    if pid == 0:
        learn = Trainer._train_step

        def step(trainer: Trainer, done: float) -> Any:
            if trainer.step == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return learn(trainer, done)

        plan_of, often = training.train_plan, {"state_every_s": 1e-9}
        try:
            training.train_plan = lambda *given, **named: plan_of(*given, **named).model_copy(update=often)
            Trainer._train_step = step  # type: ignore[method-assign]
            road.produce_here(brief)
        finally:
            os._exit(70)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def unpack_older_home(folder: Path) -> Path:
    """The home that an older commit wrote, as if it had been written in this folder."""
    home = folder / "older"
    with tarfile.open(OLDER_HOME) as packed:
        packed.extractall(home, filter="data")
    with sqlite3.connect(home / "mlflow.db") as database:
        for table, columns in PLACES.items():
            for column in columns:
                database.execute(f"UPDATE {table} SET {column} = replace({column}, '/tmp/older/home', ?)", (str(home),))
    database.close()
    return home


@contextmanager
def training_here() -> Iterator[None]:
    """The training worker's `main` in this process: ten seconds of imports less than in its own, which `first` has."""
    import torch

    def supervise(module: str, arguments: Sequence[str], **_: Any) -> None:
        order, _parent = arguments
        patch.setattr(sys, "argv", [module, order, str(os.getppid()), "0"])
        importlib.import_module(module).main()

    threads = torch.get_num_threads()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("components.training.supervise.supervise", supervise)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            for number, handler in handlers.items():
                signal.signal(number, handler)


@pytest.fixture(scope="session")
def trains_here() -> Callable[[], AbstractContextManager[None]]:
    return training_here


@pytest.fixture
def a_run() -> Any:
    """The inputs of a production, without any data behind them."""
    from components.core.records import Dataset
    from components.pipeline.resolve import decide
    from components.pipeline.run import Run

    brief = Brief.model_validate({"name": "digits", "modality": "image", "data": {"path": "digits", "items": 1797, "side": 8}})
    facts, decision = decide(brief, Backends(Settings(home=Path("nowhere"))), dataset=None)
    dataset = Dataset(
        name="digits", repo=".", rev="HEAD", md5="0" * 32, item=image_item(8, 8, 1), count=1797,
        classes=(), splits={"train": 1438}, mean=(0.0,), std=(1.0,),
    )  # fmt: skip
    return Run(brief=brief, dataset=dataset, facts=facts, decision=decision, genwright="0.1.0")


@pytest.fixture(scope="session")
def road_in() -> type[Road]:
    """A road in a folder of one's own."""
    return Road


@pytest.fixture
def lenient() -> dict[str, Any]:
    """Gates that anything passes."""
    return dict(LENIENT)


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The one strict JSON document on standard output."""
        assert self.code == 0, self.err
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))

    def refused(self, code: int, *names: str) -> str:
        """The one line on standard error, which names each of `names`; nothing was said on standard output. How long a stage will
        take is said before it, where that is long."""
        assert self.code == code, (self.code, self.out, self.err)
        assert self.out == ""
        lines = [line for line in self.err.splitlines() if not line.endswith("(estimated)")]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("genwright")
        assert [name for name in names if name not in lines[0]] == [], lines[0]
        assert len(lines[0]) < 600
        assert "defect" not in lines[0]
        return lines[0]


Command = Callable[..., Said]


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """The command line in this process, from an empty folder, with no settings but those given."""
    from flows.cli.app import main

    for name in os.environ:
        if name.startswith(("GENWRIGHT_", "PREFECT_", "AWS_")):
            monkeypatch.delenv(name)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str | Path, **environment: str | Path) -> Said:
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["genwright", *map(str, arguments)])
            for name, value in environment.items():
                patch.setenv(name, str(value))
            with pytest.raises(SystemExit) as ended:
                main()
        said = capfd.readouterr()
        return Said(int(ended.value.code or 0), said.out, said.err)

    return run


@pytest.fixture
def home(first: First, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Command) -> Path:
    """A copy of the home that holds one produced champion, set as GENWRIGHT_HOME."""
    shutil.copytree(first.left / "store", tmp_path / "home" / "store")
    shutil.copy(first.left / "mlflow.db", tmp_path / "home" / "mlflow.db")
    monkeypatch.setenv("GENWRIGHT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GENWRIGHT_ACTOR", "tester")
    return tmp_path / "home"


@pytest.fixture
def registered_as(home: Path, tmp_path: Path) -> Callable[..., Release]:
    """Registers the champion's bundle with some of its record changed, under a model's name: the next version of it."""
    from components.core.bundles import seal_bundle
    from components.delivery.bundles import bundle_uri, put_bundle

    def register(model: str, **changes: Any) -> Release:
        backends = Backends(Settings(home=home))
        release = backends.versions.resolve("digits/1")
        folder, bundle = release_commands.bundle_of(release, backends)
        copy = tmp_path / f"copy-of-{model}"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        seal_bundle(copy, bundle.model_copy(update={"model": model} | changes))
        sha256 = put_bundle(backends.store, copy).sha256
        uri = bundle_uri(backends.store, sha256)
        return backends.versions.register(model, sha256=sha256, uri=uri, run_id=release.run_id)

    return register

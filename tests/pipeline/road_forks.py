"""Run by the fixture `forks`: imports what the stages need once, then does each job of standard input in a fork.

A job: {"home", "brief", "kill", "look"}. It fetches, then runs the stages after training to the end; `kill` is the event before
which it kills itself with SIGKILL; `look` only says what stands. Answers one line of JSON.

Events are all that changes something for good: a file that appears under its name (by a rename), and each call of MLflow.
"""

import json
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx  # noqa: F401 - loaded here, once
import onnxruntime  # noqa: F401
import onnxscript  # noqa: F401
import torch  # noqa: F401

import components.pipeline.proof  # noqa: F401
from components.core.brief import Brief
from components.core.errors import GenwrightError
from components.core.records import DataSpec
from components.modalities.image.spec import ImageSpec
from components.pipeline import existing, proof, release_commands, stages
from components.pipeline.backends import Backends
from components.pipeline.lease import lease
from components.pipeline.resolve import resolve
from components.registry.versions import Versions
from flows.settings import Settings

proof.SAMPLES.update(one_pass=400)  # the numbers of a proof are not at stake here
CALLS = (
    "create_registered_model", "create_logged_model", "finalize_logged_model", "create_model_version",
    "set_registered_model_alias", "delete_registered_model_alias",
)  # fmt: skip


class Events:
    """Names of what happened, in order; kills this process before the one that is named."""

    def __init__(self, home: Path, kill: str | None) -> None:
        self.home, self.kill, self.names, self.on = str(home), kill, [], False

    def __call__(self, name: str) -> None:
        if not self.on:
            return
        if name == self.kill:
            os.kill(os.getpid(), signal.SIGKILL)
        self.names.append(name)

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "os.rename" and str(arguments[1]).startswith(self.home):
            parts = Path(str(arguments[1])).relative_to(self.home).parts
            if parts[0] == "mlartifacts" or any(part.startswith(".") for part in parts):
                return  # MLflow's own files, which repeat what the store has; of a scratch folder
            self("/".join("SHA" if len(part) == 64 else "MD5" if part.endswith(".dir") else part for part in parts))

    def watch(self, client: Any) -> None:
        for call in CALLS:
            setattr(client, call, self._noting(call, getattr(client, call)))

    def _noting(self, name: str, call: Any) -> Any:
        def noted(*positional: Any, **named: Any) -> Any:
            alias = f" {positional[1]}" if "alias" in name else ""
            self(f"{name}{alias}")
            return call(*positional, **named)

        return noted


def produce(job: dict[str, Any], events: Events) -> dict[str, Any]:
    backends = Backends(Settings(home=Path(job["home"]), actor="fork"))
    for part in (backends.versions, backends.logged_models):
        events.watch(part._client)
    run = resolve(Brief.model_validate(job["brief"]), backends)
    with lease(run.brief.name, backends) as held:
        trained = stages.train(run, held, backends)
        events.on = True
        exported = stages.export(run, trained, backends)
        proof = stages.prove(run, trained, exported, backends)
        stored = stages.seal(run, trained, exported, proof, backends)
        release = stages.register(run, held, trained, stored, proof, backends)
        produced = stages.promote(run, held, trained, stored, release, proof, backends)
        events.on = False
    return produced.model_dump(mode="json")


def look(job: dict[str, Any]) -> dict[str, Any]:
    """What stands: in a process of its own, because one that saw the store before would go on with the database it had open."""
    backends = Backends(Settings(home=Path(job["home"]), actor="fork"))
    releases = backends.versions.releases("digits")
    channel = backends.channels.read("digits")
    run = resolve(Brief.model_validate(job["brief"]), backends)
    known = existing.find_existing_result(run, backends)
    for release in releases:
        release_commands.bundle_of(release, backends)  # raises unless every digest is right
    return {
        "releases": [release.model_dump(mode="json") for release in releases],
        "entries": [entry.model_dump(mode="json") for entry in backends.registry.ledger.entries("digits")],
        "channel": channel and channel[0].model_dump(mode="json"),
        "bundles": sorted({key.split("/")[1] for key in backends.store.list("bundles/")}),
        "standing": known and known.release.model_dump(mode="json"),
    }


def child(job: dict[str, Any], writer: int) -> int:
    events = Events(Path(job["home"]), job["kill"])
    sys.addaudithook(events.audit)
    try:
        told = look(job) if job["look"] else {"produced": produce(job, events), "events": events.names}
    except GenwrightError as error:
        told, code = {"error": str(error)}, error.exit_code
    else:
        code = 0
    with os.fdopen(writer, "w") as pipe:
        json.dump(told, pipe)
    return code


def fork(job: dict[str, Any]) -> dict[str, Any]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        try:
            os._exit(child(job, writer))
        except BaseException as error:  # noqa: BLE001
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(70)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {"code": code, **(json.loads(told) if told else {})}


def warm(database: str) -> None:
    """What every fork would otherwise load again: MLflow's store, and all that an export pulls in."""
    from components.export.graph import export_graph
    from components.families import find

    Versions(f"sqlite:///{database}").models()
    family = find("vae", "gaussian").build(
        {"width": 16, "latent": 4, "blocks": 1}, DataSpec(item=ImageSpec(channels=1, height=8, width=8))
    )
    with tempfile.TemporaryDirectory() as folder:
        export_graph(family.eval(), Path(folder) / "model.onnx")


def main() -> None:
    warm(sys.argv[1])
    for line in sys.stdin:
        print(json.dumps(fork(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

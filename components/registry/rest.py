"""The calls of MlflowClient that commands on releases make, as MLflow's REST API has them: the same names, replies and errors.

https://mlflow.org/docs/latest/api_reference/rest-api.html. A test asks both clients the same of a real server.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from components.registry.mlflow_http import RestError, Server

PROMPT = "mlflow.prompt.is_prompt"  # the tag of what lies in the registry and is no model
T = TypeVar("T")


class Page(list[T]):
    """A part of what was found; `token` asks for the next."""

    token: str | None = None


@dataclass(frozen=True)
class RegisteredModel:
    name: str
    description: str
    aliases: dict[str, str]


@dataclass(frozen=True)
class ModelVersion:
    name: str
    version: str
    run_id: str
    tags: dict[str, str]


@dataclass(frozen=True)
class RunInfo:
    run_id: str
    run_name: str
    experiment_id: str
    status: str
    lifecycle_stage: str
    start_time: int


@dataclass(frozen=True)
class Point:
    """The last value of a metric."""

    key: str
    value: float
    timestamp: int
    step: int


@dataclass(frozen=True)
class RunData:
    tags: dict[str, str]
    params: dict[str, str]
    _metric_objs: tuple[Point, ...]  # as MLflow names it

    @property
    def metrics(self) -> dict[str, float]:
        return {point.key: point.value for point in self._metric_objs}


@dataclass(frozen=True)
class Run:
    info: RunInfo
    data: RunData


@dataclass(frozen=True)
class Experiment:
    experiment_id: str
    name: str
    lifecycle_stage: str
    artifact_location: str


@dataclass(frozen=True)
class KnownModel:
    """A LoggedModel."""

    experiment_id: str
    tags: dict[str, str]


class RestClient:
    """A client of the server at an address. Raises RestError."""

    def __init__(self, address: str) -> None:
        self._server = Server(address)

    def create_registered_model(self, name: str, *, description: str | None = None) -> RegisteredModel:
        asked = {"name": name, "description": description}
        return _model(self._server.ask("POST", "registered-models/create", asked)["registered_model"])

    def delete_registered_model(self, name: str) -> None:
        self._server.ask("DELETE", "registered-models/delete", {"name": name})

    def get_registered_model(self, name: str) -> RegisteredModel:
        found = self._server.ask("GET", "registered-models/get", {"name": name})["registered_model"]
        if PROMPT in _pairs(found.get("tags")):
            raise RestError(f"Registered Model with name={name!r} not found.", "RESOURCE_DOES_NOT_EXIST")
        return _model(found)

    def update_registered_model(self, name: str, description: str) -> RegisteredModel:
        asked = {"name": name, "description": description}
        return _model(self._server.ask("PATCH", "registered-models/update", asked)["registered_model"])

    def search_registered_models(self, *, max_results: int = 100, page_token: str | None = None) -> Page[RegisteredModel]:
        asked = {"filter": f"tag.`{PROMPT}` != 'true'", "max_results": max_results, "page_token": page_token}
        found = self._server.ask("GET", "registered-models/search", asked)
        return _page([_model(each) for each in found.get("registered_models", ())], found)

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._server.ask("POST", "registered-models/alias", {"name": name, "alias": alias, "version": version})

    def delete_registered_model_alias(self, name: str, alias: str) -> None:
        self._server.ask("DELETE", "registered-models/alias", {"name": name, "alias": alias})

    def create_model_version(
        self, name: str, source: str, run_id: str, *, tags: Mapping[str, str], description: str, model_id: str | None
    ) -> ModelVersion:
        own = {"run_id": run_id, "description": description, "model_id": model_id, "tags": _rows(tags)}
        return _version(
            self._server.ask("POST", "model-versions/create", {"name": name, "source": source, **own})["model_version"]
        )

    def get_model_version(self, name: str, version: str) -> ModelVersion:
        return _version(self._server.ask("GET", "model-versions/get", {"name": name, "version": version})["model_version"])

    def delete_model_version(self, name: str, version: str) -> None:
        self._server.ask("DELETE", "model-versions/delete", {"name": name, "version": version})

    def search_model_versions(
        self, filter_string: str, *, max_results: int = 10_000, page_token: str | None = None
    ) -> Page[ModelVersion]:
        asked = {"filter": filter_string, "max_results": max_results, "page_token": page_token}
        found = self._server.ask("GET", "model-versions/search", asked)
        return _page([_version(each) for each in found.get("model_versions", ())], found)

    def get_run(self, run_id: str) -> Run:
        return _run(self._server.ask("GET", "runs/get", {"run_id": run_id})["run"])

    def search_runs(self, experiment_ids: Sequence[str], filter_string: str, *, max_results: int = 1000) -> Page[Run]:
        asked = {"experiment_ids": [*experiment_ids], "filter": filter_string, "max_results": max_results}
        found = self._server.ask("POST", "runs/search", asked | {"run_view_type": "ACTIVE_ONLY"})
        return _page([_run(each) for each in found.get("runs", ())], found)

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._server.ask("POST", "runs/set-tag", {"run_id": run_id, "key": key, "value": value})

    def set_terminated(self, run_id: str, status: str) -> None:
        ended = {"status": status, "end_time": time.time_ns() // 1_000_000}
        self._server.ask("POST", "runs/update", {"run_id": run_id, **ended})

    def search_experiments(self, *, filter_string: str | None = None, max_results: int = 1000) -> Page[Experiment]:
        asked = {"filter": filter_string, "max_results": max_results, "view_type": "ACTIVE_ONLY"}
        found = self._server.ask("POST", "experiments/search", asked)
        return _page([_experiment(each) for each in found.get("experiments", ())], found)

    def get_logged_model(self, model_id: str) -> KnownModel:
        found = self._server.ask("GET", f"logged-models/{model_id}", {})["model"]["info"]
        return KnownModel(experiment_id=found["experiment_id"], tags=_pairs(found.get("tags")))

    def set_logged_model_tags(self, model_id: str, tags: Mapping[str, str]) -> None:
        self._server.ask("PATCH", f"logged-models/{model_id}/tags", {"tags": _rows(tags)})


def _page(found: list[T], reply: Mapping[str, Any]) -> Page[T]:
    page = Page(found)
    page.token = reply.get("next_page_token") or None
    return page


def _pairs(rows: Sequence[Mapping[str, str]] | None) -> dict[str, str]:
    return {row["key"]: row.get("value", "") for row in rows or ()}


def _rows(pairs: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in pairs.items()]


def _model(reply: Mapping[str, Any]) -> RegisteredModel:
    aliases = {each["alias"]: str(each["version"]) for each in reply.get("aliases", ())}
    return RegisteredModel(name=reply["name"], description=reply.get("description", ""), aliases=aliases)


def _version(reply: Mapping[str, Any]) -> ModelVersion:
    tags = _pairs(reply.get("tags"))
    return ModelVersion(name=reply["name"], version=str(reply["version"]), run_id=reply.get("run_id", ""), tags=tags)


def _experiment(reply: Mapping[str, Any]) -> Experiment:
    return Experiment(
        experiment_id=reply["experiment_id"],
        name=reply["name"],
        lifecycle_stage=reply["lifecycle_stage"],
        artifact_location=reply.get("artifact_location", ""),
    )


def _run(reply: Mapping[str, Any]) -> Run:
    info, data = reply["info"], reply.get("data", {})
    points = tuple(
        Point(each["key"], float(each["value"]), int(each.get("timestamp", 0)), int(each.get("step", 0)))
        for each in data.get("metrics", ())
    )
    return Run(
        info=RunInfo(
            run_id=info["run_id"],
            run_name=info.get("run_name", ""),
            experiment_id=info["experiment_id"],
            status=info["status"],
            lifecycle_stage=info["lifecycle_stage"],
            start_time=int(info.get("start_time", 0)),
        ),
        data=RunData(tags=_pairs(data.get("tags")), params=_pairs(data.get("params")), _metric_objs=points),
    )

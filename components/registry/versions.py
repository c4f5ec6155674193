"""Registered versions of models in MLflow and their aliases. A version points at a bundle by digest and URI.

The alias `champion` is the truth about which version is champion; `candidate` is the newest, `previous` the one to roll back to.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Any

from components.core import store_keys
from components.core.errors import RegistryError, UnknownModel
from components.core.records import Release
from components.registry.mlflow_store import EXISTS, MISSING, came_second, code_of, light_client, translated

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
PAGE = "<!-- Written by genwright from here on; what stands above stays. -->"
DESCRIPTION_MAX = 5000  # characters that MLflow keeps
NAMED_BY = "mlflow.modelVersions"  # MLflow's tag of a LoggedModel: the versions that are it
BUNDLE, URI, MODEL_ID, BASE = "bundle_sha256", "bundle_uri", "model_id", "base"


@dataclass(frozen=True)
class LoggedModel:
    """A model that MLflow can load: its id, and where MLflow keeps its files."""

    model_id: str
    location: str


class Versions:
    """The model registry at a tracking URI. Raises RegistryError when MLflow refuses or cannot be reached."""

    def __init__(self, tracking_uri: str) -> None:
        self._client = light_client(tracking_uri)
        self._tracking_uri = tracking_uri

    def register(
        self,
        model: str,
        *,
        sha256: str,
        uri: str,
        run_id: str,
        description: str = "",
        tags: Mapping[str, str] | None = None,
        log: Callable[[], LoggedModel] | None = None,
    ) -> Release:
        """The version of `model` that holds the bundle of this digest, created when there is none: one bundle has one version.

        `uri`: where it is, which MLflow shows. `log` gives what MLflow loads as this version; asked for a new one alone.
        """
        try:
            with self._translated():
                self._client.create_registered_model(model)
        except RegistryError as error:
            if code_of(error) != EXISTS:
                raise
        if not self._holding(model, sha256):
            logged = log() if log else None
            source, model_id = (logged.location, logged.model_id) if logged else (self._source(sha256, uri), None)
            every = {**(tags or {}), BUNDLE: sha256, URI: uri, **({MODEL_ID: model_id} if model_id else {})}
            with self._translated():  # the tags in the same call: a kill leaves a version that is found, or none
                self._client.create_model_version(model, source, run_id, tags=every, description=description, model_id=model_id)
        version = self._settle(model, sha256)
        self._point_back(model, version)
        return self.get(model, version)

    def get(self, model: str, version: int) -> Release:
        """One version. Raises UnknownModel."""
        for release in self.releases(model):
            if release.version == version:
                return release
        raise UnknownModel(f"{model}/{version}: no such version of a bundle", allowed=self._what(model))

    def by_alias(self, model: str, alias: str) -> Release | None:
        """The version an alias points at; None without one, and on a version that genwright did not register."""
        version = self.aliases(model).get(alias)
        return next((release for release in self.releases(model) if release.version == version), None)

    def aliases(self, model: str) -> dict[str, int]:
        """Every alias and the version it points at, whoever registered that. Raises UnknownModel."""
        try:
            with self._translated():
                found = self._client.get_registered_model(model).aliases
        except RegistryError as error:
            if code_of(error) not in (MISSING, "INVALID_PARAMETER_VALUE"):
                raise
            known = ", ".join(self.models()[:10]) or "none yet: genwright produce BRIEF makes the first"
            raise UnknownModel(f"no model named {model!r}", allowed=known) from error
        return {alias: int(version) for alias, version in found.items()}

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Point an alias at a version. Raises UnknownModel when there is no such version.

        MLflow looks whether there is such an alias and then inserts one: of two that do so at once, one fails and tries again.
        """
        for last in (False, False, True):
            try:
                with self._translated():
                    self._client.set_registered_model_alias(model, alias, str(version))
            except RegistryError as error:
                if code_of(error) == MISSING:
                    raise UnknownModel(f"{model}/{version}: no such version", allowed=self._what(model)) from error
                if last or not came_second(error):
                    raise
            else:
                return

    def drop_alias(self, model: str, alias: str) -> None:
        """Remove an alias; nothing happens when there is none."""
        with self._translated():
            self._client.delete_registered_model_alias(model, alias)

    def releases(self, model: str) -> list[Release]:
        """All versions that genwright registered, oldest first. Raises UnknownModel."""
        aliases = self.aliases(model)
        found = [self._release(version, aliases) for version in self._search(f"name = '{model}'") if BUNDLE in version.tags]
        return sorted(found, key=lambda release: release.version)

    def begun_with(self, base: str) -> list[tuple[Release, dict[str, str]]]:
        """The releases whose base is a version of this model, or a model of this name that was made elsewhere, with their tags:
        one search, and one for all aliases."""
        with self._translated():
            models = self._client.search_registered_models(max_results=1000)
        aliases = {each.name: {alias: int(version) for alias, version in each.aliases.items()} for each in models}
        begun = (f"{base}/", f"{base}@", f"{base} ")
        found = [
            (self._release(version, aliases.get(version.name, {})), dict(version.tags))
            for version in self._search(f"tags.{BASE} LIKE '{base}%'")
            if BUNDLE in version.tags and f"{version.tags[BASE]} ".startswith(begun)
        ]
        return sorted(found, key=lambda each: (each[0].model, each[0].version))

    def model_id(self, model: str, version: int) -> str | None:
        """The id of the LoggedModel of a version; None where it has none, or is gone."""
        try:
            with self._translated():
                found = self._client.get_model_version(model, str(version)).tags.get(MODEL_ID)
        except RegistryError as error:
            if code_of(error) != MISSING:
                raise
            return None
        return found and str(found)

    def links(self, release: Release) -> dict[str, str]:
        """Where MLflow's page has the run and the LoggedModel of a release, as far as they are still there."""
        model_id, run, model = self.model_id(release.model, release.version), None, None
        with suppress(RegistryError), self._translated():
            run = self._client.get_run(release.run_id)
        with suppress(RegistryError), self._translated():
            model = self._client.get_logged_model(model_id) if model_id else None
        found = {"run": f"#/experiments/{run.info.experiment_id}/runs/{release.run_id}"} if run else {}
        return found | ({"model": f"#/experiments/{model.experiment_id}/models/{model_id}"} if model else {})

    def describe(self, model: str, page: str) -> None:
        """Let MLflow show a page in markdown as the description of a model, below what people wrote there themselves.

        It is cut where it is longer than MLflow keeps. Raises RegistryError.
        """
        with self._translated():
            known = self._client.get_registered_model(model).description or ""
            own = known.partition(PAGE)[0].rstrip()
            text = f"{own}\n\n{PAGE}\n\n{page}".lstrip()
            if len(text) > DESCRIPTION_MAX:
                text = text[: DESCRIPTION_MAX - 2].rpartition("\n")[0] + "\n…"
            if text != known:
                self._client.update_registered_model(model, text)

    def tags(self, model: str, version: int) -> dict[str, str]:
        """The tags of a version, as people and genwright set them. Raises UnknownModel."""
        try:
            with self._translated():
                found = self._client.get_model_version(model, str(version)).tags
        except RegistryError as error:
            if code_of(error) != MISSING:
                raise
            raise UnknownModel(f"{model}/{version}: no such version", allowed=self._what(model)) from error
        return dict(found)

    def models(self) -> list[str]:
        """The names of all registered models, sorted."""
        with self._translated():
            return sorted(model.name for model in self._client.search_registered_models(max_results=1000))

    def resolve(self, reference: str) -> Release:
        """`name@alias`, `name/version`, or `name` for its champion. Raises UnknownModel with what exists."""
        name, at, alias = reference.partition("@")
        if not at and "/" in reference:
            name, _, version = reference.rpartition("/")
            if not version.isdecimal():
                raise UnknownModel(f"{reference!r}: {version!r} is not a version", allowed="NAME, NAME@ALIAS or NAME/VERSION")
            return self.get(name, int(version))
        wanted = alias or CHAMPION
        if release := self.by_alias(name, wanted):
            return release
        if stranger := self.aliases(name).get(wanted):
            do = f"put the ledger's champion back: genwright reconcile {name}" if wanted == CHAMPION else None
            raise UnknownModel(
                f"{name}@{wanted} is version {stranger}, which genwright did not make", allowed=self._what(name), do=do
            )
        do = f"promote one: genwright promote {name}" if wanted == CHAMPION else None
        raise UnknownModel(f"{name} has no {wanted}", allowed=self._what(name), do=do)

    def _translated(self) -> AbstractContextManager[None]:
        return translated(self._tracking_uri)

    def _source(self, sha256: str, uri: str) -> str:
        """What MLflow shows as the version's source. Its server refuses folders of ours, so it gets a name in their place."""
        local = uri.startswith(("file:", "/")) and self._tracking_uri.startswith("http")
        return f"genwright:///{store_keys.bundle(sha256)}" if local else uri

    def _what(self, model: str) -> str:
        """What can be named, for an error line."""
        versions = ", ".join(f"{model}/{release.version}" for release in self.releases(model)[-10:]) or "no version yet"
        aliases = ", ".join(f"@{alias} = {version}" for alias, version in sorted(self.aliases(model).items())) or "no alias"
        return f"{versions} ({aliases})"

    def _search(self, asked: str) -> Iterator[Any]:
        token: str | None = None
        while token != "":
            with self._translated():
                page = self._client.search_model_versions(asked, max_results=1000, page_token=token)
            yield from page
            token = page.token or ""

    def _holding(self, model: str, sha256: str) -> list[int]:
        return sorted(int(found.version) for found in self._search(f"name = '{model}' and tags.{BUNDLE} = '{sha256}'"))

    def _settle(self, model: str, sha256: str) -> int:
        """Two processes may register one bundle at the same moment: the lowest version stays, others without an alias go."""
        first, *others = self._holding(model, sha256)
        for other in others:
            if other not in self.aliases(model).values():
                try:
                    with self._translated():
                        self._client.delete_model_version(model, str(other))
                except RegistryError as error:
                    if code_of(error) != MISSING:  # else another process has just deleted it
                        raise
        return first

    def _point_back(self, model: str, version: int) -> None:
        """Let the LoggedModel of a version name it, as MLflow's page shows; its server does so by itself."""
        with self._translated():
            model_id = self._client.get_model_version(model, str(version)).tags.get(MODEL_ID)
        if model_id is None:
            return  # of a version of genwright that logged none
        try:
            with self._translated():
                known = json.loads(self._client.get_logged_model(model_id).tags.get(NAMED_BY, "[]"))
                if (model, str(version)) not in {(each["name"], str(each["version"])) for each in known}:
                    named = json.dumps([*known, {"name": model, "version": version}])
                    self._client.set_logged_model_tags(model_id, {NAMED_BY: named})
        except RegistryError as error:
            if code_of(error) != MISSING:  # else a hand deleted it in MLflow
                raise

    def _release(self, version: Any, aliases: Mapping[str, int]) -> Release:
        number = int(version.version)
        held = tuple(sorted(alias for alias, of in aliases.items() if of == number))
        return Release(
            model=version.name,
            version=number,
            bundle_sha256=version.tags[BUNDLE],
            run_id=version.run_id or "",
            aliases=held,
        )

"""What the stages of a run read and write: home, object store, model registry, channels. Each is opened when first used."""

from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from components.core.home import Home
from components.runtime.machines import ALONE, Machine

if TYPE_CHECKING:
    from components.core.records import Bundle
    from components.core.stores import ObjectStore
    from components.delivery.channel import ChannelStore
    from components.pipeline.workspace import Workspace
    from components.registry.aliases import Judge, Moves
    from components.registry.logged_models import LoggedModels
    from components.registry.steps import Registry
    from components.registry.versions import Versions


class Settings(Protocol):
    """What the pipeline must be told; flows/settings.py reads it from the environment."""

    @property
    def home(self) -> Path: ...  # as it was given; nothing is written there
    @property
    def root(self) -> Path: ...  # the same as an absolute folder that can be written; raises SettingsError
    @property
    def store(self) -> str | None: ...  # as it was given; None: a folder of the home
    @property
    def store_uri(self) -> str: ...
    @property
    def s3_endpoint(self) -> str | None: ...
    @property
    def tracking_uri(self) -> str | None: ...
    @property
    def mlflow_uri(self) -> str: ...
    @property
    def artifact_root(self) -> Path | None: ...  # None: where MLflow's server keeps them
    @property
    def placed_on(self) -> str | None: ...  # the pool where the engine has stages trained and GPUs used
    @property
    def data_mirror(self) -> str | None: ...
    @property
    def hub_mirror(self) -> str | None: ...  # a folder laid out as ORG/NAME, in place of the hub
    @property
    def usd_per_gpu_hour(self) -> float: ...
    @property
    def policy(self) -> Path | None: ...
    @property
    def who(self) -> str: ...
    @property
    def hand_moves(self) -> "Moves": ...  # whether an alias that a hand moved in MLflow is followed
    @property
    def required_tag(self) -> str | None: ...  # that people set on a version before it may be promoted
    @property
    def told(self) -> tuple[str, ...]: ...  # addresses of servers that hear at once of a new champion
    @property
    def token(self) -> str | None: ...  # which these ask for


class Backends:
    """Object store, model registry and channels of one configuration."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.machine: Machine = ALONE  # of several that carry out one training
        self.run_by: dict[str, str] = {}  # tags by which MLflow's page names the engine's run that asks for a stage

    @property
    def home(self) -> Home:
        """The home, which is made where there is none. Raises SettingsError where it cannot be written."""
        return Home(self.settings.root)

    @property
    def named_home(self) -> Home:
        """The same to look into before anything is made."""
        home = self.settings.home
        with suppress(RuntimeError):  # of a user who is not here: said when it is to be written
            home = home.expanduser()
        return Home(home.absolute())

    @cached_property
    def store(self) -> "ObjectStore":
        from components.delivery.store import open_store

        return open_store(self.settings.store_uri, s3_endpoint=self.settings.s3_endpoint)

    @property
    def named_store(self) -> "ObjectStore | None":
        """The home's own store, to look into before anything is made; None where there is none. Not one that another URI names:
        a plan asks no server."""
        from components.delivery.local import LocalStore

        folder = self.named_home.store
        return LocalStore(folder) if folder.is_dir() else None

    @cached_property
    def workspace(self) -> "Workspace":
        from components.pipeline.workspace import Workspace

        return Workspace(self.store, self.home.artifacts)

    @cached_property
    def versions(self) -> "Versions":
        from components.registry.versions import Versions

        _ = self.settings.root
        return Versions(self.settings.mlflow_uri)

    @cached_property
    def logged_models(self) -> "LoggedModels":
        from components.registry.logged_models import LoggedModels

        return LoggedModels(self.settings.mlflow_uri, artifact_root=self.settings.artifact_root)

    @cached_property
    def channels(self) -> "ChannelStore":
        from components.delivery.channel import ChannelStore

        return ChannelStore(self.store)

    @cached_property
    def judge(self) -> "Judge":
        from components.core import store_keys
        from components.core.records import Bundle
        from components.registry.aliases import Judge
        from components.registry.approval import RequiredTag

        def bundle_of(sha256: str) -> "Bundle | None":
            return self.workspace.read(store_keys.bundle_file(sha256), Bundle)

        asked = self.settings.required_tag
        tag = RequiredTag.parse(asked) if asked else None
        return Judge(moves=self.settings.hand_moves, tag=tag, bundle_of=bundle_of, tags_of=self.versions.tags)

    @cached_property
    def registry(self) -> "Registry":
        from components.delivery.bundles import holds_bundle
        from components.registry.ledger import Ledger
        from components.registry.steps import Registry

        return Registry(
            versions=self.versions,
            ledger=Ledger(self.store),
            channels=self.channels,
            has_bundle=partial(holds_bundle, self.store),
            judge=self.judge,
            settled=self._settled,
        )

    def _settled(self, model: str) -> None:
        """Another champion is in effect: who serves it and who reads of it should know."""
        from components.pipeline.model_page import write_page

        if self.settings.told:
            from components.pipeline import servers

            servers.tell(self.settings.told, token=self.settings.token)
        write_page(model, versions=self.versions, workspace=self.workspace)

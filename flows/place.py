"""The places a stage reads and writes, opened from the settings when first used."""

from functools import cached_property, partial
from typing import TYPE_CHECKING

from flows.settings import Settings

if TYPE_CHECKING:
    from components.core.protocols import ObjectStore
    from components.delivery.channel import ChannelStore
    from components.registry.steps import Registry
    from components.registry.versions import Versions


class Place:
    """Object store, model registry and channels of one configuration."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.load()

    @cached_property
    def store(self) -> "ObjectStore":
        from components.delivery.store import open_store

        return open_store(self.settings.store_uri, s3_endpoint=self.settings.s3_endpoint)

    @cached_property
    def versions(self) -> "Versions":
        from components.registry.versions import Versions

        _ = self.settings.root
        return Versions(self.settings.mlflow_uri)

    @cached_property
    def channels(self) -> "ChannelStore":
        from components.delivery.channel import ChannelStore

        return ChannelStore(self.store)

    @cached_property
    def registry(self) -> "Registry":
        from components.delivery.bundles import holds_bundle
        from components.registry.ledger import Ledger
        from components.registry.steps import Registry

        has_bundle = partial(holds_bundle, self.store)
        return Registry(versions=self.versions, ledger=Ledger(self.store), channels=self.channels, has_bundle=has_bundle)

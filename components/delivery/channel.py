"""The channel of a model: the one small object that names the bundle being served."""

from pydantic import ValidationError

from components.core import store_keys
from components.core.errors import StorageError
from components.core.record import first_complaint
from components.core.records import Channel
from components.core.stores import ObjectStore


class ChannelStore:
    """Implements core.protocols.ChannelPort over an object store."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    def read(self, model: str) -> tuple[Channel, str] | None:
        """The channel and its tag for `swap`, or None. Raises StorageError when the object there is no channel of this model."""
        key = store_keys.channel(model)
        found = self.store.get(key)
        if found is None:
            return None
        data, tag = found
        try:
            channel = Channel.model_validate_json(data)
        except ValidationError as error:
            raise StorageError(f"{self.store.uri}/{key}: not a channel: {first_complaint(error)}", do="run reconcile") from error
        if channel.model != model:
            raise StorageError(f"{self.store.uri}/{key}: the channel of {channel.model!r}", do="run reconcile")
        return channel, tag

    def swap(self, channel: Channel, *, expected: str | None) -> str:
        """Move the channel when its tag still is `expected` (None: absent) and return the new tag. Raises Conflict."""
        return self.store.swap(store_keys.channel(channel.model), channel.canonical(), expected=expected)

"""The channel moves by compare-and-swap alone."""

import pytest

from components.core.errors import Conflict, StorageError
from components.core.records import Channel
from components.core.stores import ObjectStore
from components.delivery.channel import ChannelStore


def channel(version: int, model: str = "digits") -> Channel:
    return Channel(model=model, version=version, bundle_sha256=f"{version:064x}", sequence=version)


def test_a_channel_moves(store: ObjectStore) -> None:
    channels = ChannelStore(store)
    assert channels.read("digits") is None
    first = channels.swap(channel(1), expected=None)
    assert channels.read("digits") == (channel(1), first)
    second = channels.swap(channel(2), expected=first)
    assert channels.read("digits") == (channel(2), second)
    assert channels.read("faces") is None
    assert store.list("channels/") == ["channels/digits.json"]


def test_a_late_writer_is_told(store: ObjectStore) -> None:
    channels = ChannelStore(store)
    first = channels.swap(channel(1), expected=None)
    channels.swap(channel(2), expected=first)
    for expected in (first, None):
        with pytest.raises(Conflict, match=r"channels/digits\.json: another writer was first"):
            channels.swap(channel(3), expected=expected)
    found = channels.read("digits")
    assert found is not None
    assert found[0] == channel(2)


@pytest.mark.parametrize(
    ("data", "says"), [(b"{}", "not a channel"), (channel(1, "faces").canonical(), "the channel of 'faces'")]
)
def test_an_object_that_is_no_channel(store: ObjectStore, data: bytes, says: str) -> None:
    store.put_if_absent("channels/digits.json", data)
    with pytest.raises(StorageError, match=says) as caught:
        ChannelStore(store).read("digits")
    assert "\n" not in str(caught.value)

"""Deliveries of MLflow: what is signed by its secret, now and for the first time, and nothing else."""

import hashlib
import hmac
import json
import time
import uuid

import pytest

from components.core.errors import SettingsError
from components.registry.webhooks import DELIVERY, SIGNATURE, TIMESTAMP, WINDOW_S, Forged, Webhooks, check, signature_of

SECRET, NOW = "a secret of sixteen or more", 1_764_480_000.0
BODY = json.dumps(
    {"entity": "model_version_alias", "action": "created", "data": {"name": "digits", "alias": "champion"}}
).encode()


def delivery(body: bytes = BODY, *, secret: str = SECRET, at_s: float = NOW, name: str | None = None) -> dict[str, str]:
    name, time_s = name or str(uuid.uuid4()), str(int(at_s))
    return {DELIVERY: name, TIMESTAMP: time_s, SIGNATURE: signature_of(secret, name, time_s, body)}


def test_mlflow_signs_as_we_check() -> None:
    """By MLflow's own function."""
    from mlflow.webhooks.delivery import _generate_hmac_signature

    name, time_s = str(uuid.uuid4()), str(int(NOW))
    assert _generate_hmac_signature(SECRET, name, time_s, BODY.decode()) == signature_of(SECRET, name, time_s, BODY)
    assert check(delivery(name=name), BODY, secret=SECRET, now_s=NOW) == name


@pytest.mark.parametrize("off_s", [-WINDOW_S, 0, WINDOW_S])
def test_clocks_may_differ_by_the_window(off_s: int) -> None:
    assert check(delivery(at_s=NOW + off_s), BODY, secret=SECRET, now_s=NOW)


@pytest.mark.parametrize("off_s", [-WINDOW_S - 1, WINDOW_S + 1, -86_400, 10**9])
def test_another_time_is_refused(off_s: int) -> None:
    with pytest.raises(Forged, match="its time is not now"):
        check(delivery(at_s=NOW + off_s), BODY, secret=SECRET, now_s=NOW)


@pytest.mark.parametrize("name", [DELIVERY, TIMESTAMP, SIGNATURE])
@pytest.mark.parametrize("value", [None, "", "0", "x", "v1,", "v1,AAAA", "ü", "-1", "1e9", "1764480000.0", "\u0661"])
def test_a_header_that_is_missing_or_another_is_refused(name: str, value: str | None) -> None:
    headers = delivery() | ({} if value is None else {name: value})
    if value is None:
        del headers[name]
    with pytest.raises(Forged):
        check(headers, BODY, secret=SECRET, now_s=NOW)


def test_each_changed_byte_is_refused() -> None:
    headers = delivery()
    for at in range(len(BODY)):
        changed = BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :]
        with pytest.raises(Forged):
            check(headers, changed, secret=SECRET, now_s=NOW)


def test_bytes_cannot_be_moved_between_id_time_and_body() -> None:
    """The three are signed with dots between them: a tag's value that has dots and digits in it could else become a new id."""
    name = str(uuid.uuid4())
    body = b'{"data": {"value": "x.1764480000.y"}}'
    headers = delivery(body, name=name)
    start, _, rest = body.partition(b".1764480000.")
    moved = {DELIVERY: f"{name}.{headers[TIMESTAMP]}.{start.decode()}", TIMESTAMP: "1764480000", SIGNATURE: headers[SIGNATURE]}
    signed = f"{moved[DELIVERY]}.{moved[TIMESTAMP]}.".encode() + rest
    assert (
        hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()
        == hmac.new(SECRET.encode(), f"{name}.{headers[TIMESTAMP]}.".encode() + body, hashlib.sha256).digest()
    )  # the signature does hold
    with pytest.raises(Forged, match="no delivery of MLflow"):
        check(moved, rest, secret=SECRET, now_s=NOW)


def test_a_database_has_no_webhooks(tracking_uri: str) -> None:
    with pytest.raises(SettingsError, match="is a database, and only an MLflow server has webhooks; name the server"):
        Webhooks(tracking_uri)


def test_the_window_is_of_seconds() -> None:
    assert check(delivery(at_s=time.time()), BODY, secret=SECRET, now_s=time.time())

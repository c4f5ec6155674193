"""MLflow's webhooks: how a delivery is told from a forgery, and how an MLflow server is asked to deliver.

MLflow signs `ID.TIMESTAMP.BODY` by HMAC-SHA256 with the secret of the webhook and sends, of mlflow/webhooks/delivery.py (3.17):

    X-MLflow-Delivery-Id: a UUID          the same when it tries again
    X-MLflow-Timestamp: seconds of Unix time
    X-MLflow-Signature: v1,BASE64

The id must be a UUID and the time digits: else bytes could be moved between the three parts and the signature would still hold.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

from components.core.addresses import without_password
from components.core.errors import RegistryError, SettingsError
from components.registry.mlflow_store import connect, translated

SIGNATURE, DELIVERY, TIMESTAMP = "x-mlflow-signature", "x-mlflow-delivery-id", "x-mlflow-timestamp"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SECONDS = re.compile(r"[0-9]{1,12}")
WINDOW_S = 300  # between the time of a delivery and ours
NAME = "genwright"  # of our webhook at the server
EVENTS = ("model_version_alias.created", "model_version_alias.deleted", "model_version_tag.set")
REMEDIES = {  # by what MLflow's message says
    "URL scheme": "give --register an https address, or set MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https where MLflow's server runs",
    "public IP": "set MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true where MLflow's server runs, which then reaches private addresses",
    "error code 500": "see the log of MLflow's server; webhooks that were written under another "
    "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY cannot be read: set that one there",
}


class Forged(Exception):
    """A delivery that MLflow did not make, or not now. `status`: of HTTP."""

    def __init__(self, why: str, status: int = 401) -> None:
        super().__init__(why)
        self.status = status


def signature_of(secret: str, delivery: str, timestamp: str, body: bytes) -> str:
    """What MLflow sends as X-MLflow-Signature."""
    signed = f"{delivery}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(secret.encode(), signed, hashlib.sha256).digest()).decode()


def check(headers: Mapping[str, str], body: bytes, *, secret: str, now_s: float) -> str:
    """The id of an authentic delivery of now. `headers` by their names in small letters, each once. Raises Forged.

    Whether it was delivered before is for the one to say who remembers ids.
    """
    delivery, timestamp, given = (headers.get(name, "") for name in (DELIVERY, TIMESTAMP, SIGNATURE))
    if not UUID.fullmatch(delivery) or not SECONDS.fullmatch(timestamp):
        raise Forged("no delivery of MLflow")
    wanted = signature_of(secret, delivery, timestamp, body)
    if not hmac.compare_digest(wanted.encode(), given.encode()):
        raise Forged("the signature is not of this body and secret")
    if abs(now_s - int(timestamp)) > WINDOW_S:
        raise Forged("its time is not now")
    return delivery


class Webhooks:
    """The webhooks of an MLflow server. Raises SettingsError where there is a database alone, RegistryError."""

    def __init__(self, tracking_uri: str) -> None:
        if not tracking_uri.startswith(("http://", "https://")):
            what = (
                f"GENWRIGHT_TRACKING_URI: {without_password(tracking_uri)} is a database, and only an MLflow server has webhooks"
            )
            raise SettingsError(
                what, do="name the server, http://HOST:PORT, or watch without --register, which asks it now and then"
            )
        self._client = connect(tracking_uri)
        self._tracking_uri = tracking_uri

    def register(self, url: str, secret: str) -> str:
        """Have the server tell an address of aliases and tags; one webhook, however often it is asked. Returns its id."""
        asked = {"name": NAME, "url": url, "events": [*EVENTS], "secret": secret, "status": "ACTIVE"}
        about = "genwright watch is told of aliases and tags"
        found = self._ours()
        for each in found[1:]:  # of two that registered at once
            self._delete(each)
        with self._translated():
            if not found:
                return str(self._client.create_webhook(**asked, description=about).webhook_id)
            return str(self._client.update_webhook(found[0], **asked, description=about).webhook_id)

    def unregister(self) -> int:
        """Remove ours; how many there were."""
        found = self._ours()
        for each in found:
            self._delete(each)
        return len(found)

    def test(self, webhook_id: str) -> str:
        """Have the server deliver an example; why it could not, or an empty line."""
        with self._translated():
            done = self._client.test_webhook(webhook_id, EVENTS[0])
        if done.success:
            return ""
        return str(done.error_message or f"it answers {done.response_status}")

    def _ours(self) -> list[str]:
        found: list[str] = []
        token: str | None = None
        while token != "":
            with self._translated():
                page = self._client.list_webhooks(max_results=100, page_token=token)
            found += [str(each.webhook_id) for each in page if each.name == NAME]
            token = page.token or ""
        return found

    def _delete(self, webhook_id: str) -> None:
        with self._translated():
            self._client.delete_webhook(webhook_id)

    def _translated(self) -> AbstractContextManager[None]:
        return _with_remedies(self._tracking_uri)


@contextmanager
def _with_remedies(what: str) -> Iterator[None]:
    """`translated`, with what to do about the refusals that MLflow's settings cause."""
    try:
        with translated(what):
            yield
    except RegistryError as error:
        do = next((do for words, do in REMEDIES.items() if words in str(error)), None)
        if do is None:
            raise
        raise RegistryError(str(error), do=do) from error

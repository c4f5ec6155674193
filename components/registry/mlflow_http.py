"""An MLflow server over HTTP, asked as MLflow's own client asks it, without MLflow: to import that takes seconds.

Credentials, certificates, timeouts, retries and errors are those of mlflow/utils/rest_utils.py and credentials.py (3.17):

| variable | is |
|---|---|
| MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD | of basic authentication; else of ~/.mlflow/credentials |
| MLFLOW_TRACKING_TOKEN | the bearer token where there is no user with a password |
| MLFLOW_TRACKING_INSECURE_TLS, MLFLOW_TRACKING_SERVER_CERT_PATH, MLFLOW_TRACKING_CLIENT_CERT_PATH | how TLS is checked |
| MLFLOW_HTTP_REQUEST_TIMEOUT, ..._MAX_RETRIES, ..._BACKOFF_FACTOR, ..._BACKOFF_JITTER | in seconds, and how often |
| MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER, MLFLOW_ALLOW_HTTP_REDIRECTS | whether |

What it cannot do is for MLflow's client: see `is_enough`.
"""

import configparser
import json
import os
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from components.core.errors import SettingsError

RETRIED = (408, 429, 500, 502, 503, 504)
BEYOND = ("MLFLOW_TRACKING_AUTH", "MLFLOW_TRACKING_AWS_SIGV4", "MLFLOW_WORKSPACE", "DATABRICKS_RUNTIME_VERSION")
PLUGINS = ("mlflow.request_header_provider", "mlflow.tracking_store", "mlflow.model_registry_store")
CODES = {  # of a reply that is no JSON, by its status
    400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "ENDPOINT_NOT_FOUND", 409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED", 499: "CANCELLED", 501: "NOT_IMPLEMENTED", 503: "TEMPORARILY_UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


class RestError(Exception):
    """What an MLflow server refused, or that it did not answer, in the words of MLflow's client. `error_code`: MLflow's."""

    def __init__(self, text: str, error_code: str = "INTERNAL_ERROR") -> None:
        super().__init__(text)
        self.error_code = error_code


def is_enough() -> bool:
    """Whether the environment asks for nothing but what is done here: no signatures, no workspaces, no plugin of MLflow's."""
    if any(os.environ.get(name) for name in BEYOND):
        return False
    found = entry_points()
    return not any(found.select(group=group) for group in PLUGINS)


class Server:
    """The server at an address. Raises SettingsError for variables that cannot be used."""

    def __init__(self, address: str) -> None:
        import requests
        from requests.adapters import HTTPAdapter
        from urllib3.util import Retry

        self._address = address.rstrip("/")
        self._timeout_s = _number("MLFLOW_HTTP_REQUEST_TIMEOUT", 120)
        self._redirects = _flag("MLFLOW_ALLOW_HTTP_REDIRECTS", default=True)
        times = int(_number("MLFLOW_HTTP_REQUEST_MAX_RETRIES", 7))
        retry = Retry(
            total=times,
            connect=times,
            read=times,
            redirect=times,
            status=times,
            status_forcelist=RETRIED,
            backoff_factor=_number("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", 2),
            backoff_jitter=_number("MLFLOW_HTTP_REQUEST_BACKOFF_JITTER", 1.0),
            respect_retry_after_header=_flag("MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER", default=True),
            allowed_methods=None,
        )
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(max_retries=retry))
        self._session.headers["User-Agent"] = "genwright"
        self._verify: str | bool = _verify()
        self._certificate = os.environ.get("MLFLOW_TRACKING_CLIENT_CERT_PATH") or None
        self._headers = _authorization()

    def ask(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What it replies. `path`: as `runs/get`; `body`: what is None is left out. Raises RestError."""
        import requests

        endpoint = f"/api/2.0/mlflow/{path}"
        given = {key: value for key, value in body.items() if value is not None}
        try:
            reply = self._session.request(
                method,
                url := f"{self._address}{endpoint}",
                headers=self._headers,
                timeout=self._timeout_s,
                verify=self._verify,
                cert=self._certificate,
                allow_redirects=self._redirects,
                **{"params" if method == "GET" else "json": given},
            )
        except requests.Timeout as error:
            raise RestError(f"API request to {url} failed with timeout exception {error}") from error
        except (requests.RequestException, OSError, ValueError) as error:  # OSError: a certificate's file that is not there
            raise RestError(f"API request to {url} failed with exception {error}") from error
        return _read(reply.status_code, reply.text, endpoint)


def _read(status: int, text: str, endpoint: str) -> dict[str, Any]:
    """The JSON object of a reply. Raises RestError for a refusal, and for what is no reply of MLflow's."""
    if status == 200 and not text.strip():
        return {}
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if isinstance(document, dict):
        if status == 200:
            return document
        code = str(document.get("error_code") or "INTERNAL_ERROR")
        said = document.get("message", f"Response: {document}")
        raise RestError(f"{code}: {said}", CODES.get(int(code), "INTERNAL_ERROR") if code.isdecimal() else code)
    if status == 200:
        what = "API request to endpoint was successful but the response body was not in a valid JSON format"
        raise RestError(f"{what}. Response body: '{text}'")
    what = f"API request to endpoint {endpoint} failed with error code {status} != 200"
    raise RestError(f"{what}. Response body: '{text}'", CODES.get(status, "INTERNAL_ERROR"))


def _authorization() -> dict[str, str]:
    """The header of who asks, where the environment or MLflow's file of credentials says who."""
    import base64

    user, password = (_credential(name) for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"))
    if user and password:
        return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _credential(name: str) -> str | None:
    if given := os.environ.get(name):
        return given
    parser = configparser.ConfigParser()
    try:
        parser.read(path := Path("~/.mlflow/credentials").expanduser())
    except RuntimeError:  # a user without a home
        return None
    except (configparser.Error, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not readable as MLflow's credentials", do="correct it, or remove it") from error
    return parser.get("mlflow", name.lower(), fallback=None)


def _verify() -> str | bool:
    insecure, certificates = (
        _flag("MLFLOW_TRACKING_INSECURE_TLS", default=False),
        os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"),
    )
    if insecure and certificates:
        raise SettingsError("MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH: both are set", do="unset one")
    return certificates or not insecure


def _number(name: str, default: float) -> float:
    given = os.environ.get(name) or default
    try:
        number = float(given)
        if number < 0:
            raise ValueError
    except ValueError:
        raise SettingsError(f"{name}: {given!r}", allowed="a number of 0 or more") from None
    return number


def _flag(name: str, *, default: bool) -> bool:
    given = os.environ.get(name) or str(default)
    if given.lower() not in ("true", "false", "1", "0"):
        raise SettingsError(f"{name}: {given!r}", allowed="true, false, 1, 0")
    return given.lower() in ("true", "1")

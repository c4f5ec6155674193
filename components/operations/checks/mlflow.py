"""MLflow: whether it answers, its version, and whether models may be read and registered there."""

from collections.abc import Iterator
from importlib.metadata import version

import httpx

from components.core.addresses import without_password
from components.operations.finding import Finding, Installation, fail, ok, warn

TIMEOUT_S = 4.0


def check(installation: Installation) -> Iterator[Finding]:
    """Whether it answers, and what may be done there."""
    backends = installation.backends
    uri = backends.settings.mlflow_uri
    shown = without_password(uri)
    if uri.startswith(("http://", "https://")):
        try:
            its = httpx.get(f"{uri.rstrip('/')}/version", timeout=TIMEOUT_S)
        except httpx.HTTPError as error:
            yield fail(f"{shown}: nothing answers there: {error}", "start it (genwright up), or correct GENWRIGHT_TRACKING_URI")
            return
        yield from _version(shown, its.text.strip() if its.is_success else "")
    elif uri.startswith("sqlite") and not backends.named_home.mlflow_database.exists() and _is_default(installation):
        yield ok(f"{shown}: made by the first production")
        return
    from components.registry.probe import probe

    probe(uri)
    yield ok(f"{shown}: models may be read and registered")


def _is_default(installation: Installation) -> bool:
    """Whether MLflow is the file of the home."""
    return installation.backends.settings.tracking_uri is None


def _version(shown: str, its: str) -> Iterator[Finding]:
    own = version("mlflow")
    if not its:
        yield warn(f"{shown}: does not say its version", "look whether that is an MLflow server")
    elif its.split(".")[:2] != own.split(".")[:2]:
        yield warn(f"the MLflow server is {its}, and {own} is installed here", "bring both to one version")
    else:
        yield ok(f"MLflow {its} at {shown}")

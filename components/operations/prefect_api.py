"""What a Prefect server tells, by its REST API: plain JSON, without Prefect's own packages, which take seconds to load."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx

from components.core.errors import RunError

TIMEOUT_S = 4.0


@dataclass(frozen=True)
class PrefectApi:
    """A server at the address that PREFECT_API_URL has. `auth`: USER:PASSWORD, or a key, where the server asks for one."""

    url: str
    auth: str = ""

    def get(self, path: str) -> Any:
        """Raises RunError."""
        return self._ask("GET", path)

    def post(self, path: str, **document: Any) -> Any:
        """Raises RunError."""
        return self._ask("POST", path, json=document)

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        try:
            reply = self._client.request(method, f"{self.url.rstrip('/')}/{path}", **more)
        except httpx.HTTPError as error:
            raise RunError(f"{self.url}: no Prefect server answers: {error or type(error).__name__}") from error
        if not reply.is_success:
            raise RunError(f"{self.url}/{path}: the Prefect server answers {reply.status_code}")
        return reply.json()

    @cached_property
    def _client(self) -> httpx.Client:
        user, colon, password = self.auth.partition(":")
        if colon:
            return httpx.Client(timeout=TIMEOUT_S, auth=(user, password))
        headers = {"Authorization": f"Bearer {self.auth}"} if self.auth else {}
        return httpx.Client(timeout=TIMEOUT_S, headers=headers)

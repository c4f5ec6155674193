"""Whether an MLflow lets us read and register: a model of a name that nobody has is made and removed again."""

import secrets
from contextlib import suppress

from components.registry.mlflow_store import light_client, translated


def probe(tracking_uri: str) -> None:
    """Raises RegistryError or SettingsError where it does not."""
    client, name = light_client(tracking_uri), f"genwright-doctor-{secrets.token_hex(6)}"
    with translated(tracking_uri):
        client.search_registered_models(max_results=1)
        client.search_experiments(max_results=1)
        client.create_registered_model(name, description="made by `genwright doctor`, and removed at once")
        try:
            client.delete_registered_model(name)
        except Exception:
            with suppress(Exception):
                client.delete_registered_model(name)
            raise

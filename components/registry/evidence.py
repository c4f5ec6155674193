"""Rows of evidence as tags of the MLflow runs that trained: one search finds those of all experiments."""

from collections.abc import Iterator

from components.registry.mlflow_store import connect, light_client, translated

TAG = "genwright.evidence"  # of a run that has rows; and with a full stop and the kind of a row: that row
PAGE = 500


def put_row(tracking_uri: str, run_id: str, kind: str, text: str) -> None:
    """Set the tag of a run that holds its row of this kind. Raises RegistryError."""
    client = light_client(tracking_uri)
    with translated(tracking_uri):
        client.set_tag(run_id, f"{TAG}.{kind}", text)
        client.set_tag(run_id, TAG, "yes")


def rows(tracking_uri: str) -> Iterator[str]:
    """Every row of every run that is not deleted. Raises RegistryError."""
    client, token = connect(tracking_uri), None
    with translated(tracking_uri):
        experiments = [str(each.experiment_id) for each in client.search_experiments(max_results=PAGE * 10)]
    while experiments:
        with translated(tracking_uri):
            found = client.search_runs(experiments, f"tags.`{TAG}` = 'yes'", max_results=PAGE, page_token=token)
        for run in found:
            yield from (text for name, text in sorted(run.data.tags.items()) if name.startswith(f"{TAG}."))
        token = found.token
        if not token:
            return

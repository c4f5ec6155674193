"""Rows of evidence as tags of the MLflow runs that trained: one search finds those of all experiments."""

from collections.abc import Iterator

from components.core.records import EvidenceRow
from components.registry.mlflow_store import connect, light_client, translated

TAG = "genwright.evidence"  # of a run that has rows; and with a full stop and a row's measurement: that row
PAGE = 500


def put_row(tracking_uri: str, row: EvidenceRow) -> None:
    """Set the tag of a run that holds its row of this measurement, unless what it holds was measured later. Raises
    RegistryError."""
    client, tag = light_client(tracking_uri), f"{TAG}.{row.measurement}"
    with translated(tracking_uri):
        if _is_later(client.get_run(row.run_id).data.tags.get(tag, ""), row):
            return
        client.set_tag(row.run_id, tag, row.canonical().decode())
        client.set_tag(row.run_id, TAG, "yes")


def _is_later(text: str, row: EvidenceRow) -> bool:
    try:
        return EvidenceRow.model_validate_json(text).age > row.age
    except ValueError:  # none, or of another version
        return False


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

"""The object store: where in it each thing stands. Its keys are spelt here and nowhere else.

artifacts/SHA256/NAME              files by their digests: weights, graphs, pages, pictures
bundles/SHA256/NAME                what is served, bundle.json put last
runs/MODEL/KEY/STAGE.json          the record of a stage, KEY the digest of what the stage depends on
runs/MODEL/KEY/state/...           the state of a training that is under way
extractors/MD5/version-N.json      the feature extractor of a dataset version
extractors/MD5/judge-NAME-N.json   the judge of its captions by the encoder of this name
extractors/MD5/proof-PART-N.json   a network that only proofs use, trained on a part of its held-out items
curves/MODEL.json                  the students that were tried last
bakeoffs/MODEL.json                the candidates that were tried last, and their page
bakeoffs/MODEL/KEY.json            what a bake-off tries, KEY the digest of what it was begun with
evidence/table.json                what was measured of all models
evidence/SHA256.json               the rows that a decision looked at
ledger/MODEL/NUMBER.json           promotions and rollbacks, counted from 1
channels/MODEL.json                what is served now
leases/MODEL.json                  who produces the model
leases/slots/MODEL/SLOT.json       who runs a slot of its brief
leases/stages/FLOW_RUN/TIMES.json  who carries out a stage elsewhere, while it is waited for
slots/MODEL/SLOT.json              how the run of a slot ended: a time of its cron line, or its data
probes/NAME                        what `genwright doctor` writes, and removes again
webhooks/MINUTE/SHA256             a delivery of MLflow that was let in, by the minute of its time and the digest of its id

What is found by its digest, or by that of its inputs, is put if absent. What says how things are now (a lease, a channel, the
last curve, the end of a run) is changed by compare-and-swap.
"""

from components.core.bundles import BUNDLE_JSON

CHANNELS, LEASES, LEDGERS = "channels/", "leases/", "ledger/"
BUNDLES, ARTIFACTS, RUNS, EXTRACTORS = "bundles/", "artifacts/", "runs/", "extractors/"
WEBHOOK_DELIVERIES = "webhooks/"


def artifact(sha256: str, name: str) -> str:
    """A file under its digest."""
    return f"artifacts/{sha256}/{name}"


def bundle(sha256: str) -> str:
    """The folder of a bundle, without a slash at its end."""
    return f"bundles/{sha256}"


def bundle_file(sha256: str, name: str = BUNDLE_JSON) -> str:
    """A file of a bundle; by default its record."""
    return f"{bundle(sha256)}/{name}"


def run_record(model: str, key: str, stage: str) -> str:
    """What a stage left; of the stage `run` the inputs of the run, of `tracked` the MLflow run of a training."""
    return f"runs/{model}/{key}/{stage}.json"


def training_state(model: str, key: str) -> str:
    """The folder of the saved state of a training, without a slash at its end."""
    return f"runs/{model}/{key}/state"


def extractor(dataset_md5: str, version: int) -> str:
    """The extractor of a dataset version, by the version of how extractors are made."""
    return f"extractors/{dataset_md5}/version-{version}.json"


def judge(dataset_md5: str, name: str, version: int) -> str:
    """The judge of a dataset version's captions by an encoder, by the version of how judges are made."""
    return f"extractors/{dataset_md5}/judge-{name}-{version}.json"


def proof_network(dataset_md5: str, part: int, version: int) -> str:
    """The network that judges a part of a dataset version's held-out items, by the version of how such are made."""
    return f"extractors/{dataset_md5}/proof-{part}-{version}.json"


def curve(model: str) -> str:
    """The students of a model that were tried last."""
    return f"curves/{model}.json"


def bakeoff(model: str) -> str:
    """The candidates of a model that were tried last."""
    return f"bakeoffs/{model}.json"


def contenders(model: str, key: str) -> str:
    """What a bake-off of a model tries, by the digest of what it was begun with."""
    return f"bakeoffs/{model}/{key}.json"


def evidence(sha256: str | None = None) -> str:
    """What was measured of all models; or the rows that a decision looked at, by their digest."""
    return f"evidence/{sha256 or 'table'}.json"


def ledger(model: str) -> str:
    """The folder of a model's ledger, with a slash at its end."""
    return f"ledger/{model}/"


def ledger_entry(model: str, sequence: int) -> str:
    """One entry of it."""
    return f"{ledger(model)}{sequence:08d}.json"


def channel(model: str) -> str:
    """The channel of a model."""
    return f"channels/{model}.json"


def lease(model: str) -> str:
    """The lease of a model."""
    return f"leases/{model}.json"


def beat(flow_run: str, times: int) -> str:
    """The name of the lease that the process of a flow run of one stage holds, begun so many times."""
    return f"stages/{flow_run}/{times}"


def beats(flow_run: str) -> str:
    """The folder of these leases, with a slash at its end."""
    return f"leases/stages/{flow_run}/"


def probe(name: str) -> str:
    """An object that is there for a moment."""
    return f"probes/{name}"


def slot(model: str, name: str) -> str:
    """How the run of a slot of a model's brief ended."""
    return f"slots/{model}/{name}.json"


def webhook_delivery(minute: int, digest: str) -> str:
    """A delivery of MLflow that was let in: by the minute of its time, counted from 1970, and the digest of its id."""
    return f"{WEBHOOK_DELIVERIES}{minute}/{digest}"

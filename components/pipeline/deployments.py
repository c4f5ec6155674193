"""A schedule as the document of a Prefect deployment, and what a Prefect server tells of its deployments: plain JSON, no Prefect.

https://docs.prefect.io/v3/api-ref/rest-api has the documents: `POST /deployments/` and `POST /deployments/filter`.
"""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from components.pipeline.schedules import WHY, Planned, Schedule, Timing

TAG, STAGE_TAG = "genwright", "genwright-stage"  # of the deployments that retrain a brief, and of those that run its stages
GPU_POOL = "GENWRIGHT_GPU_POOL"  # the setting by which a flow places its stages
STEPS = "prefect.deployments.steps"
HISTORY = "git fetch --quiet --depth 2147483647 --tags --update-head-ok origin +refs/heads/*:refs/heads/*"  # all of it

Document = dict[str, Any]


def document(
    schedule: Schedule, *, entrypoint: str, pool: str, gpu_pool: str | None = None, variables: Document | None = None
) -> Document:
    """The deployment of a schedule; of its flow there is only the entrypoint. `variables`: those of its pool's jobs."""
    where = f"{schedule.repository} at {schedule.rev}" if schedule.rev else f"the folder {schedule.repository}"
    return {
        "name": schedule.name,
        "entrypoint": entrypoint,
        "parameters": {"brief": schedule.brief},
        "pull_steps": _pull_steps(schedule),
        "schedules": [
            {"schedule": _schedule(each), "slug": each.kind, "parameters": {"trigger": each.kind}, "active": True}
            for each in schedule.timings
        ],
        "work_pool_name": pool,
        "job_variables": {**(variables or {}), **({"env": {GPU_POOL: gpu_pool}} if gpu_pool else {})},
        "tags": [TAG],
        "description": f"Retrains {schedule.brief} of {where}; `genwright schedule` wrote it.",
    }


def stage_document(
    name: str, *, entrypoint: str, pool: str, folder: str | None = None, variables: Document | None = None
) -> Document:
    """The deployment by which the stages of a brief are carried out in a pool, from what the store has of a run.

    `folder`: of a brief that is run where it lies, where its data is found.
    """
    return {
        "name": name,
        "entrypoint": entrypoint,
        "parameters": {},
        "pull_steps": [{f"{STEPS}.set_working_directory": {"directory": folder}}] if folder else [],
        "schedules": [],
        "work_pool_name": pool,
        "job_variables": variables or {},
        "tags": [STAGE_TAG],
        "description": f"Carries out stages of the runs of {name}, as flows ask for them.",
    }


def _pull_steps(schedule: Schedule) -> list[Document]:
    if schedule.rev is None:
        return [{f"{STEPS}.set_working_directory": {"directory": schedule.repository}}]
    is_commit = re.fullmatch("[0-9a-f]{40}", schedule.rev) is not None
    at = {"commit_sha" if is_commit else "branch": schedule.rev}
    clone = {f"{STEPS}.git_clone": {"id": "clone", "repository": schedule.repository, **at}}
    fetch = {f"{STEPS}.run_shell_script": {"script": HISTORY, "directory": "{{ clone.directory }}"}}
    return [clone, fetch] if schedule.deep and not is_commit else [clone]


def _schedule(timing: Timing) -> Document:
    if timing.cron:
        return {"cron": timing.cron, "timezone": timing.timezone}
    return {"interval": 60 * (timing.minutes or 0), "timezone": "UTC", "anchor_date": datetime.now(UTC).isoformat()}


def lines(
    deployment: Mapping[str, Any], last: Mapping[str, Any] | None, event: Mapping[str, Any] | None = None
) -> Iterator[Planned]:
    """What a deployment will run when; one line where nothing starts it. `last`: its flow run that ended last; `event`: the
    automation by which an event starts it."""
    pulled = next(iter(deployment["pull_steps"][0].values()))
    about = {
        "name": deployment["name"],
        "brief": deployment["parameters"]["brief"],
        "repository": pulled.get("repository") or pulled["directory"],
        "rev": pulled.get("branch") or pulled.get("commit_sha"),
        "pool": deployment["work_pool_name"],
        "gpu_pool": (deployment.get("job_variables") or {}).get("env", {}).get(GPU_POOL),
    }
    if last is not None:
        about |= {"last": last["state_name"], "last_sentence": last["state"]["message"], "last_at": last["end_time"]}
    for each in sorted(deployment["schedules"], key=lambda one: one["slug"] or "") or ([] if event else [None]):
        timing, anchor = _timing(each)
        goes = not deployment["paused"] and (each is None or each["active"])
        coming = timing.next(datetime.now(UTC), anchor=anchor) if goes else None
        paused = not goes and each is not None
        yield Planned(trigger=timing.kind, when=timing.text, next=coming, paused=paused, why=WHY[timing.kind], **about)
    if event is not None:  # a deployment that is paused runs when it is asked to, so only the automation counts
        (name,) = event["trigger"]["expect"]
        yield Planned(trigger="event", when=name, next=None, paused=not event["enabled"], why=WHY["event"], **about)


def _timing(found: Mapping[str, Any] | None) -> tuple[Timing, datetime | None]:
    """A schedule of a deployment, and from when its minutes are counted."""
    if found is None:
        return Timing(kind="hand"), None
    its, kind = found["schedule"], found["parameters"].get("trigger", "cron")
    if "cron" in its:
        return Timing(kind=kind, cron=its["cron"], timezone=its.get("timezone") or "UTC"), None
    return Timing(kind=kind, minutes=its["interval"] / 60), datetime.fromisoformat(its["anchor_date"])

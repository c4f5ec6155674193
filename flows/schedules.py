"""A schedule put on a Prefect server: a deployment that retrains its brief, what starts it, and one that carries out stages of it
elsewhere."""

from components.core.errors import InputError
from components.pipeline.deployments import document
from components.pipeline.placement import Pods
from components.pipeline.schedules import Schedule
from flows.deployments import pool_of, post, put_event, put_stage, remove_stage, server


def put(schedule: Schedule, *, pool: str, gpu_pool: str | None = None, pods: Pods = Pods()) -> None:  # noqa: B008 (frozen)
    """Create or update the deployment; the server replaces all schedules that it had. With a `gpu_pool` there is another one,
    stage/NAME, without it none.

    Raises InputError for an unknown pool, and for what its jobs do not know.
    """
    if gpu_pool == pool:
        what = f"--gpu-pool {gpu_pool}: is --pool too, where a flow that waits for its stage could stand in its way"
        raise InputError(what, allowed="another work pool")
    with server() as client:
        from flows.produce import retrain

        variables = pods.of_flow(pool_of(pool, client, where="--pool"), placed=gpu_pool is not None)
        if gpu_pool is None:
            remove_stage(schedule.name, client)
        else:
            placed = pods.variables(pool_of(gpu_pool, client, where="--gpu-pool"))
            put_stage(
                schedule.name, client, pool=gpu_pool, folder=None if schedule.rev else schedule.repository, variables=placed
            )
        entrypoint = "flows.produce.retrain"
        asked = document(schedule, entrypoint=entrypoint, pool=pool, gpu_pool=gpu_pool, variables=variables)
        made = post(asked, retrain, client)
        put_event(schedule.name, schedule.event, client, deployment=str(made["id"]))

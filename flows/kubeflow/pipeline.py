"""The stages of a brief as a Kubeflow pipeline (KFP v2), in the order of components/pipeline/order.py: those that need the same
are one step, by `steps_of` in components/pipeline/needs.py.

What is cached is what the stages' own keys say, so KFP's cache is off. The functions below are copied into the pipeline as text,
hence their imports and their plain types.
"""

from pathlib import Path
from typing import Any, NamedTuple

from kfp import compiler, dsl, kubernetes

from components.core.brief import Brief
from components.pipeline.needs import gpus_of, steps_of
from components.pipeline.order import Stage
from flows.kubeflow.cluster import SECRETS, SETTINGS, Cluster

RETRIES = 3  # of a step whose pod was lost, or which passes through networks: a training goes on where it was saved


def begin(text: str, base: str) -> NamedTuple("Begun", [("run", str), ("nothing_to_do", str)]):  # type: ignore[valid-type]
    from flows.kubeflow import steps

    return steps.said("begin", text, base)


def carry_out(first: str, last: str, run: str) -> str:
    from flows.kubeflow import steps

    return steps.said("carry_out", first, last, run)  # type: ignore[return-value]


def say(line: str) -> str:
    print(line)  # noqa: T201
    return line


def text_of(brief: Brief) -> str:
    """A brief on one line: KFP writes defaults into a comment, which a second line would leave."""
    return brief.model_dump_json(exclude_defaults=True)


def pipeline_of(brief: Brief, text: str, cluster: Cluster, *, base: str = "") -> Any:
    """The pipeline of a brief, whose `text` is the default of its parameter; `base` on this machine: see steps.begin."""

    def step(function: Any, **arguments: Any) -> Any:
        made = dsl.component(function, base_image=cluster.image, install_kfp_package=False)
        return _settings(made(**arguments).set_caching_options(False), cluster)

    @dsl.pipeline(name=brief.name, description=f"genwright: from the brief of {brief.name} to a promoted version")
    def pipeline(brief_text: str = text) -> str:
        begun = step(begin, text=brief_text, base=base).set_retry(RETRIES, backoff_duration="5s")
        with dsl.If(begun.outputs["nothing_to_do"] == "", name="changed"):
            before = None
            for stages in steps_of(brief.compute.device, brief.compute.workers):
                named = {"first": stages[0].name, "last": stages[-1].name}
                task = _placed(step(carry_out, **named, run=begun.outputs["run"]), stages, brief, cluster)
                if before is not None:
                    task.after(before)
                before = task
        with dsl.Else(name="unchanged"):
            unchanged = step(say, line=begun.outputs["nothing_to_do"])
        return dsl.OneOf(before.output, unchanged.output)  # type: ignore[union-attr, no-any-return]

    return pipeline


def write(pipeline: Any, path: Path) -> None:
    """Compile it to a file that KFP takes."""
    compiler.Compiler().compile(pipeline, str(path))


def _settings(task: Any, cluster: Cluster) -> Any:
    """By reference: no value of a secret stands in a pipeline."""
    kubernetes.use_config_map_as_env(task, cluster.config, {name: name for name in SETTINGS}, optional=True)
    kubernetes.use_secret_as_env(task, cluster.secret, {name: name for name in SECRETS}, optional=True)
    return task


def _placed(task: Any, stages: tuple[Stage, ...], brief: Brief, cluster: Cluster) -> Any:
    """A step with the accelerators that its stages need, tried again where that helps."""
    task.set_display_name(", ".join(stage.name for stage in stages))
    if any(stage.retried or stage.device for stage in stages):
        task.set_retry(RETRIES, backoff_duration="30s", backoff_factor=2.0)
    gpus = gpus_of(stages[0], brief.compute.device, brief.compute.workers)
    if not gpus:
        return task
    task.set_accelerator_type(cluster.accelerator)
    task.set_accelerator_limit(gpus)
    kubernetes.empty_dir_mount(task, "shared-memory", "/dev/shm", medium="Memory", size_limit=cluster.shared_memory)  # noqa: S108
    for name, value in cluster.node_selector:
        kubernetes.add_node_selector(task, name, value)
    for key in cluster.tolerations:
        kubernetes.add_toleration(task, key=key, operator="Exists")
    return task

"""A brief as a Kubeflow pipeline: compile it, run it on this machine, send it to a cluster."""

from pathlib import Path
from typing import Annotated, Any

import typer

from flows.cli.arguments import AsJson, BriefFile, print_json, say, working
from flows.settings import Settings, load_backends

kubeflow_app = typer.Typer(callback=working, no_args_is_help=True, help="A brief as a Kubeflow pipeline.")

Image = Annotated[str, typer.Option(help="of genwright, as infra/Dockerfile builds it")]
Config = Annotated[str, typer.Option(help="a ConfigMap with GENWRIGHT_* settings")]
Secret = Annotated[str, typer.Option(help="a Secret with AWS_* and MLFLOW_TRACKING_* credentials")]
NodeSelector = Annotated[list[str], typer.Option(metavar="LABEL=VALUE", help="of the nodes with GPUs; may be given again")]
Toleration = Annotated[list[str], typer.Option(metavar="KEY", help="of a taint of the nodes with GPUs; may be given again")]


@kubeflow_app.command("compile")
def compile_(
    brief: BriefFile,
    image: Image = "genwright",
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="by default NAME.pipeline.yaml")] = None,
    config: Config = "genwright",
    secret: Secret = "genwright",  # noqa: S107
    node_selector: NodeSelector = [],  # noqa: B006
    toleration: Toleration = [],  # noqa: B006
) -> None:
    """Write the pipeline of a brief, for a cluster."""
    from flows.kubeflow.pipeline import write

    name, pipeline = _for_cluster(brief, image, config, secret, node_selector, toleration)
    path = to or Path(f"{name}.pipeline.yaml")
    write(pipeline, path)
    say(f"{path}: upload it to Kubeflow Pipelines, or `genwright kubeflow submit {brief}` sends it")


@kubeflow_app.command()
def submit(
    brief: BriefFile,
    host: Annotated[str, typer.Option(metavar="URL", help="of Kubeflow Pipelines")],
    image: Image = "genwright",
    config: Config = "genwright",
    secret: Secret = "genwright",  # noqa: S107
    node_selector: NodeSelector = [],  # noqa: B006
    toleration: Toleration = [],  # noqa: B006
) -> None:
    """Run the pipeline of a brief on a cluster."""
    from flows.kubeflow.submit import submit as send

    name, pipeline = _for_cluster(brief, image, config, secret, node_selector, toleration)
    say(send(pipeline, name, host=host))


@kubeflow_app.command("run-local")
def run_local(brief: BriefFile, as_json: AsJson = False) -> None:
    """Run the pipeline of a brief on this machine, a process a step."""
    from components.core.brief import base_of
    from components.core.errors import GateRefused
    from components.pipeline.briefs import load_brief
    from flows.kubeflow.cluster import Cluster
    from flows.kubeflow.local import run
    from flows.kubeflow.pipeline import pipeline_of, text_of
    from flows.kubeflow.steps import REFUSED

    read = load_brief(brief, load_backends())
    here = Cluster(image="python", config="genwright", secret="genwright")  # noqa: S106
    pipeline = pipeline_of(read, text_of(read), here, base=str(base_of(brief)))
    line = run(pipeline, Settings.load().root / "kubeflow")
    if as_json:
        print_json({"model": read.name, "said": line})
    if line.startswith(REFUSED):
        raise GateRefused(line.removeprefix(REFUSED))
    if not as_json:
        say(line)


@kubeflow_app.command()
def trainjob(
    brief: BriefFile,
    nodes: Annotated[int, typer.Option(help="machines that share compute.workers")] = 1,
    image: Image = "genwright",
    to: Annotated[Path | None, typer.Option(metavar="FILE", help="by default NAME.trainjob.yaml")] = None,
    config: Config = "genwright",
    secret: Secret = "genwright",  # noqa: S107
    node_selector: NodeSelector = [],  # noqa: B006
    toleration: Toleration = [],  # noqa: B006
) -> None:
    """Leave the run of a brief in the store, and write its training as a TrainJob of Kubeflow Trainer."""
    from components.core.brief import base_of
    from components.pipeline.briefs import load_brief
    from components.pipeline.origins import for_pods
    from components.pipeline.production import put_run
    from components.pipeline.resolve import resolve
    from flows.kubeflow.cluster import Cluster
    from flows.kubeflow.trainjob import trainjob_of, write

    cluster, backends = Cluster.of(image, config, secret, node_selector, toleration), load_backends()
    run = resolve(for_pods(load_brief(brief, backends), base_of(brief)), backends, elsewhere=True)
    document, path = trainjob_of(run, cluster, nodes=nodes), to or Path(f"{run.brief.name}.trainjob.yaml")
    put_run(run, backends)
    write(document, path)
    say(f"{path}: kubectl apply -f {path} trains {run.reference}, from {backends.store.uri} and back")


def _for_cluster(
    path: Path, image: str, config: str, secret: str, node_selector: list[str], toleration: list[str]
) -> tuple[str, Any]:
    from components.core.brief import base_of
    from components.pipeline.briefs import load_brief
    from components.pipeline.origins import for_pods
    from flows.kubeflow.cluster import Cluster
    from flows.kubeflow.pipeline import pipeline_of, text_of

    cluster = Cluster.of(image, config, secret, node_selector, toleration)
    brief = for_pods(load_brief(path, load_backends()), base_of(path))
    return brief.name, pipeline_of(brief, text_of(brief), cluster)

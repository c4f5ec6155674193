"""What stands in the MLflow run of a training: every hyperparameter, what the brief grants, and the data version."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from components.core.brief import HUB
from components.core.records import Dataset
from components.pipeline.run import Proof, Run, Student, Trained, in_steps

if TYPE_CHECKING:
    from components.registry.logged_models import Origin
    from components.registry.onnx_flavour import Adapter

TRAINING, EVALUATION = "training", "evaluation"  # MLflow's own words for what a dataset is used for


def params_of(run: Run, plan: Any) -> dict[str, object]:
    """The parameters of a run, from its `plan` of training; those of the family's Config as `config.NAME`, defaults too."""
    from components.families import find

    brief, decision, student = run.brief, run.decision, run.student
    config = find(plan.family, plan.variant).configure(plan.config, plan.spec, light=plan.device == "cpu")
    granted = brief.compute.model_dump(exclude={"device"}, exclude_none=True)
    params: dict[str, object] = {
        "family": decision.family,
        "variant": decision.variant,
        "mode": decision.mode,
        "delivery": decision.delivery,
        "goal": brief.goal,
        "conditioning": brief.conditioning,
        "tier": run.facts.tier,
        "seed": brief.seed,
        "device": plan.device,
        "genwright": run.genwright,
        "brief_sha256": brief.digest(),
    }
    params |= {f"budget.{name}": value for name, value in granted.items()}
    params |= {f"config.{name}": value for name, value in config.model_dump(mode="json").items()}
    if student is not None:
        params |= {
            "teacher": f"{student.teacher.model}/{student.teacher.version}",
            "teacher_sha256": student.teacher.bundle_sha256,
        }
        params |= {"adversarial": student.adversarial}
    if run.base is not None:
        params |= {"base": run.base.name, "base_sha256": run.base.sha256}
        params |= {f"adapter.{each.name}": each.weight for each in run.base.adapters}
        if run.base.foreign is not None:
            params |= {
                "base_licence": run.base.foreign.licence.text,
                "base_revision": run.base.foreign.revision_text,
            }
    if run.encoder is not None:
        encoder = run.encoder.record
        params |= {"text_encoder": encoder.name, "text_encoder_sha256": encoder.sha256, "text_length": encoder.length}
        params |= {"text_precision": encoder.precision, "text_encoder_licence": encoder.licence.name or "unknown"}
    if decision.mode == "lora":
        params |= {f"lora.{name}": value for name, value in run.lora.model_dump(exclude_none=True).items()}
    return params


def log_data(tracker: Any, run: Run) -> None:
    """Log the data version as the run's inputs: the split that is trained on, and those that the proof holds against it."""
    dataset = run.dataset
    for names, context in ((("train",), TRAINING), (_held_out(dataset), EVALUATION)):
        if names:
            tracker.dataset(
                _data_name(dataset, names),
                digest=dataset.md5,
                source=_source(run),
                profile=_profile(dataset, names),
                context=context,
            )


def _source(run: Run) -> dict[str, str]:
    """Where DVC has the data: what `dvc get REPOSITORY PATH --rev REVISION` asks for, and the MD5 of what it gives."""
    dataset, path = run.dataset, run.brief.data.path
    parts = {"repo": dataset.repo, "rev": dataset.rev, "path": path, "md5": dataset.md5}
    return {"uri": f"{dataset.repo}@{dataset.rev}:{path}"} | parts


def run_name(run: Run) -> str:
    """What a training is called among those of its brief."""
    decision, student = run.decision, run.student
    if student is not None:
        return _student(run, student, steps=student.trained_for)
    begun = f" of {run.base.sum}" if run.base else ""
    anew = ", anew for a bake-off" if run.anew else ""
    return f"{decision.family}/{decision.variant}: {decision.mode}{begun}, data {run.dataset.md5[:8]}{anew}"


def version_line(run: Run) -> str:
    """What a version is, in one line."""
    serving, student = run.brief.serving, run.student
    if student is None:
        return f"{run_name(run)}, {serving.precision}"
    return f"{_student(run, student, steps=student.steps)}, {serving.precision}"


def _student(run: Run, student: Student, *, steps: int) -> str:
    taken = in_steps(steps, adversarial=student.adversarial)
    return f"student of {begun_with(run)['teacher']}: {run.decision.variant}, {taken}, width {student.width}"


def run_tags(run: Run) -> dict[str, str]:
    """What people look for a training by."""
    decision, key = run.decision, run.key("train")
    tags = {"model": run.brief.name, "family": f"{decision.family}/{decision.variant}", "dataset": run.dataset.name}
    tags |= begun_with(run)
    return tags | {"genwright.key": key, "genwright.dataset_md5": run.dataset.md5, "genwright.dataset_rev": run.dataset.rev}


def begun_with(run: Run) -> dict[str, str]:
    """The teacher and the base of a run, NAME/VERSION, where it has one, and the digest of the base's weights; of a base made
    elsewhere its name and licence; the adapters that are added, with their weights."""
    teacher = {"teacher": f"{run.student.teacher.model}/{run.student.teacher.version}"} if run.student else {}
    base = {"base": run.base.name, "base_weights": run.base.checkpoint.weights.sha256} if run.base else {}
    if run.base is not None and run.base.adapters:
        base |= {"adapters": ", ".join(f"{each.name} {each.weight:g}" for each in run.base.adapters)}
    if run.base is not None and run.base.foreign is not None:
        base |= {"base_licence": run.base.foreign.licence.text}
    return teacher | base


def origin_of(run: Run, trained: Trained, proof: Proof) -> "Origin":
    """What a model comes from, by the names that `log_data` gave its data."""
    from components.registry.logged_models import Origin

    dataset = run.dataset
    return Origin(
        run_id=trained.run_id,
        step=trained.checkpoint.step,
        trained_on=_data_name(dataset, ("train",)),
        proved_on=_data_name(dataset, _held_out(dataset)),
        digest=dataset.md5,
        scores=proof.scorecard.metrics,
    )


def adapter_of(run: Run, files: Sequence[Path]) -> "Adapter | None":
    """What mlflow.diffusers is to load of a release: its adapter, where it has one and it all began with a pipeline of diffusers.
    A base of the hub has its commit; another one is named as it is here."""
    from components.registry.onnx_flavour import Adapter

    base, made_elsewhere = run.base, run.origin
    if base is None or made_elsewhere is None or not files:
        return None
    published = made_elsewhere.weights is not None and made_elsewhere.weights.sha256 == base.checkpoint.weights.sha256
    if base.foreign is None and not published:
        return Adapter(tuple(files), f"models:/{base.name}")
    name, _, _ = made_elsewhere.name.partition("@")
    hub = name.startswith(HUB)
    return Adapter(tuple(files), name.removeprefix(HUB) if hub else made_elsewhere.name, made_elsewhere.revision)


def _held_out(dataset: Dataset) -> tuple[str, ...]:
    return tuple(name for name in dataset.splits if name != "train")


def _data_name(dataset: Dataset, names: Sequence[str]) -> str:
    return f"{dataset.name}/{'+'.join(names)}"


def _profile(dataset: Dataset, splits: Sequence[str]) -> dict[str, object]:
    counts = {name: count for name, count in dataset.splits.items() if name in splits}
    return {
        "items": sum(counts.values()),
        "splits": counts,
        "shape": dataset.item.text,
        "classes": len(dataset.classes),
        "md5": dataset.md5,
    }

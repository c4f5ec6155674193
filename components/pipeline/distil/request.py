"""What is asked of a distillation, its gaps filled from the teacher, and refused where it cannot be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import ValidationError

from components.core.brief import Brief, Precision
from components.core.card import Card
from components.core.errors import InputError
from components.core.record import first_complaint
from components.core.records import DataSpec, Release
from components.pipeline.backends import Backends
from components.pipeline.latent_inputs import numbers
from components.pipeline.loaded_model import training_of
from components.pipeline.local_data import data_of
from components.pipeline.run import Run, Trained
from components.runtime.devices import Device, device_for

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class DistillRequest:
    """What is asked for: `steps`, `widths` and `precisions` to try, and minutes for all trainings together."""

    name: str
    steps: tuple[int, ...]
    widths: tuple[int, ...]
    precisions: tuple[Precision, ...]
    minutes: float
    adversarial: bool  # whether the student in one step learns on from a critic, too
    latency_ms: float | None
    device: Literal["cpu", "cuda"]
    trains_on: Literal["cpu", "cuda"]


def read_request(
    reference: str,
    backends: Backends,
    *,
    steps: str | None,
    widths: str,
    precisions: str | None,
    device: str,
    **others: Any,
) -> DistillRequest:
    """The request of a command line: lists with commas between, and a device that may be `auto`. See `request_of`."""
    return request_of(
        reference,
        backends,
        steps=None if steps is None else numbers("--steps", steps, int),
        widths=numbers("--widths", widths, float),
        precisions=None if precisions is None else [each.strip() for each in precisions.split(",")],
        device=device,
        **others,
    )


def request_of(
    reference: str,
    backends: Backends,
    *,
    name: str | None,
    steps: Sequence[int] | None,
    widths: Sequence[float],
    precisions: Sequence[str] | None,
    minutes: float,
    adversarial: bool | None,
    latency_ms: float | None,
    device: str,
) -> DistillRequest:
    """The request, its gaps filled from the teacher.

    Raises InputError for a name, steps, widths, precisions or a device that cannot be.
    """
    import torch

    from components.training.distillation import student_card

    placed, serves_on = backends.settings.placed_on is not None, device_for(device)
    if serves_on == "cuda" and not placed and not torch.cuda.is_available():
        raise InputError("--device cuda: there is no CUDA device here", allowed="cpu")
    release, run, trained = teacher_of(reference, backends)
    auto = auto_device(run) if placed else device_for("auto")
    if device == "auto":
        serves_on = auto
    name = _checked(name or f"{release.model}-distilled", release, run)
    card = student_card(trained.checkpoint)
    allowed = card.student_steps
    if card.student_halves:
        allowed = tuple(count for count in allowed if 2 * count <= trained.checkpoint.config["steps"])
    if wrong := [share for share in widths if not 0 < share <= 1]:
        raise InputError(f"--widths {wrong[0]:g}", allowed="shares of the teacher's width, above 0 and up to 1")
    if odd := sorted(set(precisions or ()) - set(PRECISIONS)):
        raise InputError(f"--precisions {odd[0]}", allowed=", ".join(PRECISIONS))
    chosen: Sequence[str] = precisions or ("fp32", "fp16" if serves_on == "cuda" else "int8")
    tried = steps_of(steps, allowed, chosen, loop_above=card.loop_above)
    return DistillRequest(
        name=name,
        steps=tried,
        widths=tuple(sorted({_width(trained.checkpoint.config["width"], share) for share in widths}, reverse=True)),
        precisions=tuple(each for each in PRECISIONS if each in chosen),
        minutes=minutes,
        adversarial=adversarial_of(adversarial, trained.checkpoint.spec, tried, card),
        latency_ms=latency_ms or run.brief.serving.latency_ms,
        device=serves_on,
        trains_on=auto,
    )


def auto_device(run: Run) -> Device:
    """What `auto` means where the engine places stages on other machines: what the teacher's brief asked for, else a GPU."""
    return "cpu" if run.brief.compute.device == "cpu" else "cuda"


def steps_of(
    given: Sequence[int] | None, allowed: Sequence[int], precisions: Sequence[str], *, loop_above: int | None
) -> tuple[int, ...]:
    """The steps to try, most first: those that are given, or all that are allowed.

    Raises InputError for others, and for more than int8 alone can be had for.
    """
    if not allowed:
        raise InputError("a teacher of one step has nothing to teach in fewer", do="distil one of more steps")
    if unknown := sorted(set(given or ()) - set(allowed)):
        raise InputError(f"--steps {unknown[0]}", allowed=", ".join(map(str, allowed)))
    most = loop_above if loop_above and set(precisions) == {"int8"} else max(allowed)
    if long := sorted(count for count in given or () if count > most):
        raise InputError(f"--steps {long[0]} in int8 alone", allowed=f"up to {most}", do="add fp32 to --precisions")
    return tuple(sorted({count for count in given or allowed if count <= most}, reverse=True))


def teacher_of(reference: str, backends: Backends) -> tuple[Release, Run, Trained]:
    """The release to learn from, and the records of its training.

    Raises BriefError for one that has no students, and RunError when its training is not in the store.
    """
    from components.pipeline.release_commands import bundle_of
    from components.training.distillation import student_variant

    release = backends.versions.resolve(reference)
    _, bundle = bundle_of(release, backends)
    student_variant(bundle.family, bundle.variant)
    run, trained = training_of(release, bundle.lineage, backends)
    data_of(run, backends)
    return release, run, trained


def adversarial_of(asked: bool | None, spec: DataSpec, steps: Sequence[int], card: Card) -> bool:
    """Whether the student in one step learns on from a critic: unless it is said, where there is one and a critic can judge it.

    Raises InputError where it is asked for and cannot be.
    """
    from components.training.distillation.adversarial import SIDE_MAX, beyond

    lacks = (
        f"--steps {','.join(map(str, steps))}" if 1 not in steps
        else f"{card.family}/{card.variant} comes to one step by halves" if card.student_halves
        else beyond(spec)
    )  # fmt: skip
    if asked and lacks:
        allowed = f"a student in one step by consistency tuning, of images up to {SIDE_MAX} pixels by themselves or by class"
        raise InputError(f"--adversarial: {lacks}", allowed=allowed, do="leave it out")
    return lacks is None if asked is None else asked


def _checked(name: str, release: Release, run: Run) -> str:
    """A name that a model can have and that is not the teacher's. Raises InputError."""
    if name == release.model:
        raise InputError(f"--as {name}: that is its teacher's", do="leave --as out, or choose another name")
    try:
        Brief.model_validate(run.brief.model_dump(mode="json", exclude_unset=True) | {"name": name})
    except ValidationError as error:
        raise InputError(f"--as {name}: {first_complaint(error)}") from error
    return name


def _width(own: int, share: float) -> int:
    """A share of the teacher's width, in whole multiples of 16."""
    return max(16, round(own * share / 16) * 16)

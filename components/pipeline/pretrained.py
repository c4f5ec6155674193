"""The pretrained model of a brief where it is a release made here: which one it is, and whether what was decided fits it."""

from components.core import store_keys
from components.core.brief import Brief, FamilyName
from components.core.errors import BriefError, DataError, RunError, UnknownModel
from components.core.records import Bundle, Dataset, Decision, Facts, Release
from components.pipeline.backends import Backends
from components.pipeline.run import Base
from components.training.start import Start, find_start

SCRATCH = "write override: {mode: scratch}"


def read_release(reference: str, backends: Backends) -> tuple[str, FamilyName, str]:
    """NAME/VERSION, family and variant of a release, NAME@ALIAS or NAME/VERSION, as its bundle says. Raises UnknownModel."""
    try:
        release, bundle = _opened(reference, backends)
    except (UnknownModel, ValueError) as error:
        raise UnknownModel(
            f"pretrained.model: models:/{reference}: its family cannot be read: {error}",
            do="write pretrained.family to plan without it, or produce it",
        ) from error
    return f"{release.model}/{release.version}", bundle.family, bundle.variant


def bundle_of_base(brief: Brief, backends: Backends) -> str:
    """The bundle, by its digest, that the brief's base names now. Raises BriefError for a brief without an alias of a base, and
    UnknownModel."""
    if brief.base_alias is None:
        raise BriefError("pretrained.model: names no release that can be another one later", allowed="models:/NAME@ALIAS")
    try:
        return _release(brief.base_alias, backends).bundle_sha256
    except UnknownModel as error:
        raise UnknownModel(f"pretrained.model: models:/{brief.base_alias}: {error}") from error


def base_of(brief: Brief, facts: Facts, decision: Decision, backends: Backends) -> Base | None:
    """The release that what was decided begins with; None for a start without one, and for a model made elsewhere.

    Raises UnknownModel where the release is not known here or its training is not in the store.
    """
    if brief.pretrained is None or facts.pretrained is None or not needs_base(find_start(decision.mode)):
        return None
    from components.pipeline.loaded_model import training_of

    _, release_named, reference = brief.pretrained.model.partition("models:/")
    if not release_named:
        return None
    where = f"pretrained.model: {brief.pretrained.model}"
    try:
        release, bundle = _opened(facts.pretrained.release or reference, backends)
        run, trained = training_of(release, bundle.lineage, backends)
    except (UnknownModel, RunError, ValueError) as error:
        raise UnknownModel(f"{where}: {error}") from error
    student = run.student
    return Base(
        model=release.model,
        version=release.version,
        bundle_sha256=release.bundle_sha256,
        checkpoint=trained.checkpoint,
        teacher=f"{student.teacher.model}/{student.teacher.version}" if student else None,
    )


def needs_base(start: type[Start]) -> bool:
    """Whether a start begins from a pretrained model."""
    return "base" in start.model_fields


def check_base(brief: Brief, facts: Facts, dataset: Dataset | None, base: Base | None) -> None:
    """Raises BriefError or DataError where the base makes other items than the brief asks for, or nothing learns from it."""
    if base is None or brief.pretrained is None:
        return
    where = f"pretrained.model: {brief.pretrained.model}"
    _check_name(brief, base, where)
    _check_student(base, where)
    _check_shape(brief, facts, dataset, base, where)
    _check_condition(brief, dataset, base, where)


def _check_name(brief: Brief, base: Base, where: str) -> None:
    """Of the model's own champion, which each production replaces, every production would begin another."""
    if base.model == brief.name and not where.endswith(f":/{base.name}"):
        what = f"{where} is what this brief makes, so each production would change what the next one begins with"
        raise BriefError(what, allowed=f"models:/{base.name}, or another model's alias")


def _check_student(base: Base, where: str) -> None:
    from components.families import find_card

    checkpoint = base.checkpoint
    if base.teacher is not None and find_card(checkpoint.family, checkpoint.variant).distils is None:
        raise BriefError(
            f"{where} learnt to draw in few steps from {base.teacher}, which its own loss does not teach",
            do=f"write models:/{base.teacher}, and `genwright distil` what comes of it",
        )


def _check_shape(brief: Brief, facts: Facts, dataset: Dataset | None, base: Base, where: str) -> None:
    spec = base.checkpoint.spec
    own = spec.item.text
    given = None
    if dataset is not None and dataset.item != spec.item:
        given = f"{brief.data.path} holds {dataset.item.text}"
    elif dataset is None and facts.side not in (None, spec.item.side):
        given = f"data.side is {facts.side}"
    if given:
        raise DataError(f"{where} makes items of {own}, and {given}", allowed=own, do=f"prepare the data so, or {SCRATCH}")


def _check_condition(brief: Brief, dataset: Dataset | None, base: Base, where: str) -> None:
    spec = base.checkpoint.spec
    own = spec.condition.asked if spec.condition else "none"
    if brief.conditioning != own:
        raise BriefError(
            f"conditioning: {brief.conditioning} given, and {where} was trained with conditioning: {own}",
            allowed=own,
            do=f"write conditioning: {own}, or {SCRATCH.removeprefix('write ')}",
        )
    if spec.classes and dataset is not None and len(dataset.classes) != len(spec.classes):
        raise DataError(
            f"{where} knows {len(spec.classes)} classes, and {brief.data.path} has {len(dataset.classes)}",
            allowed=f"{len(spec.classes)} classes, in the order of the base's",
            do=f"prepare the data so, or {SCRATCH}",
        )


def _opened(reference: str, backends: Backends) -> tuple[Release, Bundle]:
    """Raises UnknownModel, and ValueError for a bundle that is none."""
    release = _release(reference, backends)
    stored = backends.store.get(store_keys.bundle_file(release.bundle_sha256))
    if stored is None:
        raise UnknownModel(f"the bundle of {reference} is not in the store")
    return release, Bundle.model_validate_json(stored[0])


def _release(reference: str, backends: Backends) -> Release:
    """Raises UnknownModel."""
    if backends.settings.tracking_uri is None and not backends.named_home.mlflow_database.exists():
        raise UnknownModel("nothing was produced in this home yet", do="name a release that is here, or produce it")
    return backends.versions.resolve(reference)

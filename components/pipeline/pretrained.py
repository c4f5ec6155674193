"""The pretrained model of a brief: which one it is, and whether what was decided fits it.

It is a release made here, or a model made elsewhere, which is read from its folder (components/training/foreign).
"""

import hashlib
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from components.core import store_keys
from components.core.brief import COMBINE, HUB, RELEASE, Brief, FamilyName, TextBrief
from components.core.errors import BriefError, DataError, RunError, UnknownModel
from components.core.records import (
    Bundle,
    Checkpoint,
    ClassCondition,
    Dataset,
    DataSpec,
    Decision,
    EmbeddingCondition,
    Facts,
    Foreign,
    Release,
)
from components.pipeline import encoders
from components.pipeline.adapters import with_adapters
from components.pipeline.backends import Backends
from components.pipeline.run import Base
from components.training.start import find_start

if TYPE_CHECKING:
    from components.training.foreign.place import Place
    from components.training.foreign.weights import Files

SCRATCH = "write override: {mode: scratch}"


def read_release(reference: str, backends: Backends) -> tuple[str, FamilyName, str, dict[str, Any]]:
    """NAME/VERSION, family and variant of a release, NAME@ALIAS or NAME/VERSION, as its bundle says, and the config that it was
    trained with, where the store has it. Raises UnknownModel."""
    try:
        release, bundle = opened(reference, backends)
    except (UnknownModel, ValueError) as error:
        raise UnknownModel(
            f"pretrained.model: models:/{reference}: its family cannot be read: {error}",
            do="write pretrained.family to plan without it, or produce it",
        ) from error
    from components.pipeline.loaded_model import training_of

    config: dict[str, Any] = {}
    with suppress(RunError, ValueError):  # said once it is begun with
        config = training_of(release, bundle.lineage, backends)[1].checkpoint.config
    return f"{release.model}/{release.version}", bundle.family, bundle.variant, config


def read_bundle_of(reference: str, backends: Backends) -> Bundle:
    """The bundle of a release, NAME@ALIAS or NAME/VERSION. Raises UnknownModel."""
    try:
        return opened(reference, backends)[1]
    except (UnknownModel, ValueError) as error:
        raise UnknownModel(f"models:/{reference}: its bundle cannot be read: {error}") from error


def bundles_begun_with(brief: Brief, backends: Backends) -> str:
    """The bundle, by its digest, that the alias of the brief's base names now; where adapters are added to it, one digest of all
    that aliases name. Raises BriefError for a brief without an alias, and UnknownModel."""
    if not brief.aliases_begun_with:
        raise BriefError("pretrained.model: names no release that can be another one later", allowed="models:/NAME@ALIAS")
    found = []
    for alias in brief.aliases_begun_with:
        try:
            found.append(_release(alias, backends).bundle_sha256)
        except UnknownModel as error:
            where = "model" if alias == brief.base_alias else "adapters"
            raise UnknownModel(f"pretrained.{where}: models:/{alias}: {error}") from error
    return found[0] if len(found) == 1 else hashlib.sha256(" ".join(found).encode()).hexdigest()


def read_foreign(model: str, backends: Backends, *, base: Path, fetch: bool, weights: bool = False) -> Foreign | None:
    """A model made elsewhere, as its folder says; None for one of the hub that is not here, where nothing may be fetched.

    Of the hub the weights come only where they are asked for. Raises NotBuilt and DataError.
    """
    from components.training.foreign.folder import read_folder

    place = _place(model, backends, base=base, fetch=fetch, weights=weights)
    if place is None:
        return None
    hub = model.startswith(HUB)
    reads = partial(_asked_by, pinned=weights or not hub)
    name, none = encoders.name_of(model, None), _none_of(place.folder, model, backends, make=fetch and weights)
    here = weights or not hub
    found = read_folder(place.folder, name=name, revision=place.revision, weights=here, reads_text=reads, none=none)
    return found.model_copy(update={"unverified": place.unverified})


def _asked_by(folder: Path, name: str, *, pinned: bool) -> EmbeddingCondition:
    """What a pipeline is asked by; `pinned`: the weights of its text encoder are here, and their digest is read."""
    source = encoders.source_in(folder, name)
    if not pinned:
        return EmbeddingCondition(length=source.length(None), features=source.features, encoder=name)
    return source.record(TextBrief(), precision=encoders.precision_of(source)).condition()


def _none_of(folder: Path, model: str, backends: Backends, *, make: bool) -> Path | None:
    """The file that holds what the text encoder of a pipeline makes of "", where it has one that was made or may be."""
    from components.runtime.prompts import Prompts
    from components.training.foreign.none import FILE, write_none

    if not (folder / "text_encoder").is_dir() or not (folder / "tokenizer").is_dir():
        return None
    source = encoders.source_in(folder, encoders.name_of(model, None))
    try:
        record = source.record(TextBrief(), precision=encoders.precision_of(source))
    except DataError:  # said where the folder is read as a whole
        return None
    home = backends.home if make else backends.named_home
    place = home.encoder(record.sha256, record.length, record.precision)
    if not (place / FILE).is_file():
        if not make:
            return None
        write_none(Prompts.open(encoders.made(source, record, backends)).nothing(), place)
    return place / FILE


def _place(model: str, backends: Backends, *, base: Path, fetch: bool, weights: bool) -> "Place | None":
    from components.training.foreign.hub import place_of

    return place_of(model, base=base, mirror=backends.settings.hub_mirror, weights=weights, fetch=fetch)


def base_of(
    brief: Brief, facts: Facts, decision: Decision, backends: Backends, *, base: Path | None = None, fetch: bool = False
) -> Base | None:
    """What was decided begins with; None for a start without a base, and for a model of the hub that is not here, where
    nothing may be fetched. `base`: what a folder is relative to.

    Raises UnknownModel where the release is not known here or its training is not in the store, and what `read_foreign` and
    `with_adapters` do.
    """
    if brief.pretrained is None or facts.pretrained is None or not find_start(decision.mode).needs_base():
        return None
    from components.pipeline.loaded_model import training_of

    _, release_named, reference = brief.pretrained.model.partition(RELEASE)
    add = partial(with_adapters, brief=brief, backends=backends, opened=opened) if decision.mode == COMBINE else _as_it_is
    if not release_named:
        found = _foreign_base(brief.pretrained.model, facts, backends, base=base or Path.cwd(), fetch=fetch)
        return found and add(found)
    where = f"pretrained.model: {brief.pretrained.model}"
    try:
        release, bundle = opened(facts.pretrained.release or reference, backends)
        run, trained = training_of(release, bundle.lineage, backends)
    except (UnknownModel, RunError, ValueError) as error:
        raise UnknownModel(f"{where}: {error}") from error
    student = run.student
    return add(
        Base(
            model=release.model,
            version=release.version,
            bundle_sha256=release.bundle_sha256,
            checkpoint=trained.checkpoint,
            teacher=f"{student.teacher.model}/{student.teacher.version}" if student else None,
            origin=bundle.lineage.foreign,
            encoder=run.encoder,
        )
    )


def _as_it_is(base: Base) -> Base:
    return base


def _foreign_base(model: str, facts: Facts, backends: Backends, *, base: Path, fetch: bool) -> Base | None:
    """Its weights stay the file that was published, under its own digest. Where it may be fetched they are looked at once, which
    imports torch: raises DataError where they are not those of its network."""
    assert facts.pretrained is not None
    if facts.pretrained.foreign is None:
        return None
    found = read_foreign(model, backends, base=base, fetch=fetch, weights=True)
    if found is None or found.weights is None:
        return None
    own: dict[str, Any] = {
        "family": found.family,
        "variant": found.variant,
        "config": found.config,
        "spec": spec_of_foreign(found),
    }
    untrained: dict[str, Any] = {"dataset_md5": "", "run_id": "", "step": 0, "steps_total": 0, "train_s": 0.0, "quality": 0.0}
    checkpoint = Checkpoint(weights=found.weights, stopped_by="made elsewhere", **own, **untrained)
    if fetch and not _taken_over(checkpoint, backends):
        from components.training.foreign.weights import check_weights

        check_weights(checkpoint, _weights(model, backends, folder=base), where=f"pretrained.model: {model}")
    return Base(model=found.name, version=None, bundle_sha256=None, checkpoint=checkpoint, foreign=found, origin=found)


def _taken_over(checkpoint: Checkpoint, backends: Backends) -> bool:
    """Whether the store has its weights, which were looked at before they came there."""
    return backends.named_home.root.exists() and backends.workspace.holds(checkpoint.weights)


def _weights(model: str, backends: Backends, *, folder: Path) -> "Files":
    from components.training.foreign.folder import weights_of

    place = _place(model, backends, base=folder, fetch=True, weights=True)
    assert place is not None, "it may be fetched"
    none = _none_of(place.folder, model, backends, make=True)
    return weights_of(place.folder, where=f"pretrained.model: {model}", none=none)


def spec_of_foreign(found: Foreign) -> DataSpec:
    """What it makes. Its classes have no names, only numbers; one that a text steers can be told what is unwanted, too."""
    if found.text is not None:
        return DataSpec(item=found.item, condition=found.text.model_copy(update={"negative": True}))
    classes = tuple(map(str, range(found.classes)))
    return DataSpec(item=found.item, condition=ClassCondition(classes=classes) if classes else None)


def take_over(base: Base | None, brief: Brief, backends: Backends, *, folder: Path | None) -> None:
    """Put the weights of a model made elsewhere into the store, where every stage finds them."""
    if (
        base is not None
        and base.foreign is not None
        and brief.pretrained is not None
        and not _taken_over(base.checkpoint, backends)
    ):
        from components.training.foreign.weights import as_one

        files = _weights(brief.pretrained.model, backends, folder=folder or Path.cwd())
        place = _place(brief.pretrained.model, backends, base=folder or Path.cwd(), fetch=True, weights=True)
        assert place is not None, "it may be fetched"
        for path in base.foreign.beside:
            backends.workspace.put(place.folder / path)
        with TemporaryDirectory(prefix="genwright-") as own:
            backends.workspace.put(as_one(files, Path(own)))


def reads_text(begins_with: Foreign | None, backends: Backends) -> dict[str, Path]:
    """What of the published files of the model that it all begins with reads texts, on this machine, by their paths there."""
    beside = begins_with.beside if begins_with else {}
    return {path: backends.workspace.open(file) for path, file in beside.items()}


def check_use(brief: Brief, begins_with: Foreign | None) -> None:
    """Raises BriefError where the licence of the model made elsewhere that it all begins with forbids what the brief declares."""
    from components.training.foreign import licence

    if brief.pretrained is not None and begins_with is not None:
        licence.check_use(begins_with, brief.use, where=f"pretrained.model: {brief.pretrained.model}")


def check_base(brief: Brief, facts: Facts, decision: Decision, dataset: Dataset | None, base: Base | None) -> None:
    """Raises BriefError or DataError where the base makes other items than the brief asks for, or nothing learns from it."""
    if base is None or brief.pretrained is None:
        return
    where = f"pretrained.model: {brief.pretrained.model}"
    check_use(brief, base.origin)
    _check_name(brief, base, where)
    _check_student(base, where)
    check_spec(brief, facts, decision, dataset, base.checkpoint.spec, where)


def check_foreign(brief: Brief, facts: Facts, decision: Decision, dataset: Dataset | None) -> None:
    """The same of a model made elsewhere, before its weights are fetched."""
    found = facts.pretrained and facts.pretrained.foreign
    if found and brief.pretrained is not None and find_start(decision.mode).needs_base():
        check_use(brief, found)
        check_spec(brief, facts, decision, dataset, spec_of_foreign(found), f"pretrained.model: {brief.pretrained.model}")


def check_spec(brief: Brief, facts: Facts, decision: Decision, dataset: Dataset | None, spec: DataSpec, where: str) -> None:
    """Raises BriefError or DataError where a base makes other items than the brief asks for."""
    if brief.modality != spec.item.modality:
        own = spec.item.modality
        raise BriefError(f"{where} makes items of {own}, and modality: {brief.modality} is given", allowed=own)
    _check_shape(brief, facts, dataset, spec, where)
    _check_condition(brief, decision, dataset, spec, where)


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


def _check_shape(brief: Brief, facts: Facts, dataset: Dataset | None, spec: DataSpec, where: str) -> None:
    own = spec.item.text
    given = None
    if dataset is not None and dataset.item != spec.item:
        given = f"{brief.data.path} holds {dataset.item.text}"
    elif dataset is None and facts.side not in (None, spec.item.side):
        given = f"data.side is {facts.side}"
    if given:
        raise DataError(f"{where} makes items of {own}, and {given}", allowed=own, do=f"prepare the data so, or {SCRATCH}")


def _check_condition(brief: Brief, decision: Decision, dataset: Dataset | None, spec: DataSpec, where: str) -> None:
    own = spec.condition.asked if spec.condition else "none"
    if brief.conditioning != own:
        raise BriefError(
            f"conditioning: {brief.conditioning} given, and {where} was trained with conditioning: {own}",
            allowed=own,
            do=f"write conditioning: {own}, or {SCRATCH.removeprefix('write ')}",
        )
    asked = spec.condition
    if dataset is None or not isinstance(asked, ClassCondition) or find_start(decision.mode).new_classes:
        return
    if asked.origins(dataset.classes) != [*range(len(asked.classes))]:
        raise DataError(
            f"{where} knows {len(asked.classes)} classes, {brief.data.path} has {len(dataset.classes)} or another order, "
            f"and {decision.mode} keeps what stands for a class as it is",
            allowed=f"{len(asked.classes)} classes, in the order of the base's",
            do="write override: {mode: finetune}, which takes other classes, or prepare the data so",
        )


def opened(reference: str, backends: Backends) -> tuple[Release, Bundle]:
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

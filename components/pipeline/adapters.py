"""The adapters that a brief combines: which releases they are, and whether they are of the brief's base and agree."""

from collections.abc import Callable, Iterator
from itertools import pairwise

from components.core.brief import COMBINE, RELEASE, Brief
from components.core.errors import BriefError, RunError, UnknownModel
from components.core.records import Bundle, ClassCondition, Dataset, Release
from components.pipeline.backends import Backends
from components.pipeline.run import Adapter, Base, Run

Opened = Callable[[str, Backends], tuple[Release, Bundle]]  # raises UnknownModel, and ValueError for a bundle that is none
ADDED = ("lora", COMBINE)  # the starts that leave an adapter of their base
EXAMPLE = 'pretrained: {model: "models:/BASE@champion", adapters: {"models:/NAME@champion": 0.7}}'


def with_adapters(base: Base, brief: Brief, backends: Backends, *, opened: Opened) -> Base:
    """The base with the releases that the brief adds to it. Raises UnknownModel for one that is not known here, BriefError for
    one that is no adapter of that base."""
    given = (brief.pretrained.adapters if brief.pretrained else None) or {}
    found = {name: _adapter(name, weight, base, brief, backends, opened) for name, weight in given.items()}
    names = {each.name: name for name, each in found.items()}
    if twice := [(name, names[each.name], each.name) for name, each in found.items() if names[each.name] != name]:
        one, other, version = twice[0]
        raise BriefError(f"pretrained.adapters: {one} and {other} are both {version}", do="give it one weight")
    in_order = sorted(found.values(), key=lambda each: (each.checkpoint.weights.sha256, each.name))
    return base.model_copy(update={"adapters": tuple(in_order)})


def _adapter(name: str, weight: float, base: Base, brief: Brief, backends: Backends, opened: Opened) -> Adapter:
    from components.pipeline.loaded_model import training_of

    where = f"pretrained.adapters: {name}"
    try:
        release, bundle = opened(name.removeprefix(RELEASE), backends)
        run, trained = training_of(release, bundle.lineage, backends)
    except (UnknownModel, RunError, ValueError) as error:
        raise UnknownModel(f"{where}: {error}") from error
    found = Adapter(
        model=release.model,
        version=release.version,
        bundle_sha256=release.bundle_sha256,
        checkpoint=trained.checkpoint,
        weight=weight,
    )
    if found.model == brief.name and name != f"{RELEASE}{found.name}":
        what = f"{where} is what this brief makes, so each production would change what the next one begins with"
        raise BriefError(what, allowed=f"{RELEASE}{found.name}, or another model's alias")
    _check_is_of(run, base, where, found.name)
    return found


def _check_is_of(run: Run, base: Base, where: str, own: str) -> None:
    """Whether it is an adapter of the base, by the digest of its weights."""
    if run.base is None or run.decision.mode not in ADDED:
        how = (
            f"by {run.decision.mode}" + (f" from {run.base.name}" if run.base else "") if run.student is None else "as a student"
        )
        raise BriefError(f"{where}: {own} is no adapter, it was made {how}", allowed=f"releases by LoRA of {base.name}")
    theirs, asked = run.base.checkpoint.weights.sha256, base.checkpoint.weights.sha256
    if theirs != asked:
        foreign = run.base.foreign
        named = run.base.name if foreign is None or foreign.revision else run.base.name.rpartition("@")[0]  # a digest is no name
        begun = named if foreign is not None else f"{RELEASE}{named}"
        raise BriefError(
            f"{where}: {own} is an adapter of {run.base.name} (weights {theirs[:12]}), and pretrained.model is {base.name} "
            f"(weights {asked[:12]})",
            allowed="adapters of the very same weights",
            do=f"write pretrained.model: {begun}, or `genwright retrain` the brief of {own}",
        )


def check_adapters(brief: Brief, mode: str, dataset: Dataset | None, base: Base | None) -> None:
    """Raises BriefError where there is nothing to combine, and where the classes of what is combined, or of the data, are not the
    same in the same order."""
    given = brief.pretrained.adapters if brief.pretrained else None
    if mode == COMBINE and not given:
        raise BriefError(f"override: mode: {COMBINE} given, and no pretrained.adapters", do=f"write {EXAMPLE}")
    if base is None:
        return
    named = [*_classes(base)]
    if named and dataset is not None:
        named.append((brief.data.path, dataset.classes))
    for (one, classes), (other, others) in pairwise(named):
        if classes != others:
            raise BriefError(
                f"pretrained.adapters: the classes of {one} are {', '.join(classes)}, and those of {other} {', '.join(others)}",
                allowed="the same classes in the same order, as each keeps its meaning",
            )


def _classes(base: Base) -> Iterator[tuple[str, tuple[str, ...]]]:
    for each in base.adapters:
        asked = each.checkpoint.spec.condition
        if isinstance(asked, ClassCondition):
            yield each.name, asked.classes

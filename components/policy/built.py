"""Whether what was decided is built, and the smallest change of the brief that leads to something that is."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, get_args

from components.core.brief import RELEASE, Delivery, OverrideBrief
from components.core.card import Card
from components.core.conditioning import BUILT, not_built
from components.core.errors import BriefError, NotBuilt
from components.core.records import Decision, Facts
from components.policy.candidates import Cards
from components.policy.decide import decide

FOUNDATION = "scratch-at-foundation-scale"  # the warning that no advice may lead to
STARTS = {"lora": "LoRA of a pretrained", "finetune": "fine-tuning a pretrained"}

Maker = Callable[[str, str, Delivery], str]  # the variant that trains what was decided
Starts = Mapping[str, tuple[str, ...]]  # what each start is built for: nothing, a release made here, a foreign model
Way = tuple[str, dict[str, Any], OverrideBrief | None]  # in words, as a change of the facts, as an override


def refuse_unless_built(facts: Facts, decision: Decision, *, cards: Cards, maker: Maker, starts: Starts) -> None:
    """Raises NotBuilt when none of `cards` can make what was decided, or not from this start: what is missing, what there is, and
    a way out."""
    missing = _missing(facts, decision, cards, maker, starts)
    if missing is not None:
        what, allowed = missing
        raise NotBuilt(what, allowed=allowed, do=_way_out(facts, decision, cards, maker, starts))


def _missing(facts: Facts, decision: Decision, cards: Cards, maker: Maker, starts: Starts) -> tuple[str, str | None] | None:
    """What is missing for a decision, and what there is in its place; None where it can be made."""
    name, pretrained = f"{decision.family}/{decision.variant}", facts.pretrained
    if pretrained is not None and pretrained.unfit and "nothing" not in starts[decision.mode]:
        return f"{pretrained.unfit}; nothing here begins with it (mode {decision.mode})", None
    built = {key: card for key, card in cards.items() if facts.modality in card.modalities}
    card = built.get((decision.family, maker(decision.family, decision.variant, decision.delivery)))
    if not built:
        modalities = sorted({modality for card in cards.values() for modality in card.modalities})
        return f"{name} is not built yet, nor is any other model of {facts.modality}", f"modality: {', '.join(modalities)}"
    if not {"nothing", _origin(facts)} & set(starts[decision.mode]):
        what = STARTS.get(decision.mode, f"{decision.mode} of a pretrained")
        others = [mode for mode, origins in starts.items() if _origin(facts) in origins]
        return f"{what} {name} is not built yet (mode {decision.mode})", f"mode {', '.join([*others, 'scratch'])}"
    if card is None:
        return f"{name} is not built yet", ", ".join("/".join(key) for key in built)
    return _beyond(card, facts, decision)


def _origin(facts: Facts) -> str:
    """What a training may begin from besides nothing."""
    if facts.pretrained is None:
        return "nothing"
    return "release" if facts.pretrained.model.startswith(RELEASE) else "foreign"


def _beyond(card: Card, facts: Facts, decision: Decision) -> tuple[str, str | None] | None:
    """What is asked of a built variant and is not on its card."""
    name = f"{decision.family}/{decision.variant}"
    if not card.exports:
        return f"{name} cannot be released: its card says that it has no ONNX graph", None
    if facts.conditioning not in card.conditioning:
        how = "from scratch" if decision.mode == "scratch" else f"by {decision.mode}"
        return f"conditioning {facts.conditioning} for {name} {how} is not built yet", ", ".join(card.conditioning)
    if facts.conditioning not in BUILT:
        return not_built(facts.conditioning), ", ".join(each for each in BUILT if each in card.conditioning)
    several = card.stepwise or card.sequential != "none"
    natural: tuple[Delivery, ...] = ("few_step", "one_pass") if card.distils else ("many_step",) if several else ("one_pass",)
    if decision.delivery not in natural:
        return f"delivery {decision.delivery} of {name} is not built yet", ", ".join(natural)
    return None


def _way_out(facts: Facts, decision: Decision, cards: Cards, maker: Maker, starts: Starts) -> str:
    """The first change that leads to something that is built and that the policy does not call foundation scale."""
    families = dict.fromkeys((decision.family, *(rejected.family for rejected in decision.rejected)))
    for words, changes, override in _ways(facts, tuple(families)):
        changed = facts.model_copy(update=changes)
        try:
            other = decide(changed, cards=cards, override=override)
        except BriefError:
            continue
        warned = {warning.code for warning in other.warnings}
        if FOUNDATION not in warned and _missing(changed, other, cards, maker, starts) is None:
            return f"{words}; that makes {other.family}/{other.variant}, {other.mode}, {other.delivery}"
    return "choose another modality, or add a family: one file under components/families"


def _ways(facts: Facts, families: tuple[str, ...]) -> Iterator[Way]:
    """Changes of the brief to try, the smallest first; `families`: the one that was decided first."""
    if _origin(facts) == "release":
        tuned = OverrideBrief(mode="finetune")
        yield "write override: {mode: finetune}", {}, tuned
        words = f"override: {{family: {families[0]}, mode: finetune}}"
        yield f"write {words}", {}, tuned.model_copy(update={"family": families[0]})
    scratch = OverrideBrief(mode="scratch")
    yield "force it with override: {mode: scratch}", {}, scratch
    for delivery in get_args(Delivery):
        yield f"force it with override: {{delivery: {delivery}}}", {}, OverrideBrief(delivery=delivery)
    held = {"none": True, "class": True, "text": facts.captions > 0}  # what the data may have
    conditionings = [each for each in BUILT if each != facts.conditioning and held[each]]
    for conditioning in conditionings:
        changes = {"conditioning": conditioning}
        yield f"write conditioning: {conditioning}", changes, None
        yield f"write conditioning: {conditioning} and override: {{mode: scratch}}", changes, scratch
    for family in families:
        override = OverrideBrief(family=family, mode="scratch")
        words = f"override: {{family: {family}, mode: scratch}}"
        yield f"force another choice with {words}", {}, override
        for conditioning in conditionings:
            yield f"write conditioning: {conditioning} and {words}", {"conditioning": conditioning}, override

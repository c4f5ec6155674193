"""Fine-tuning: every weight of a base learns on, from where the base's training left it.

The base gives its network, its recipe and its averaged weights. The peak learning rate is the base's, too. At a tenth of it, as
Girshick et al. 2014 (arXiv:1311.2524, section 2.3) fine-tune a classifier, it was worse than training from scratch
(docs/decisions/0013-starts.md has the numbers). It falls from a tenth of the run on, which was measured of one diffusion model
alone (docs/decisions/0034-what-fine-tuning-tells.md).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from components.core.errors import BriefError
from components.core.records import Checkpoint
from components.training.start import ModelPlan, Origin, Start

if TYPE_CHECKING:
    from components.core.family import Family

Shapes = dict[str, tuple[int, ...]]


class Finetune(Start):
    """A model that begins as a release made here, or as a model made elsewhere that can be read as one."""

    begins_from: ClassVar[tuple[Origin, ...]] = ("release", "foreign")
    new_classes: ClassVar[bool] = True
    decay_from: ClassVar[float | None] = 0.1  # measured: docs/decisions/0034-what-fine-tuning-tells.md
    kind: Literal["finetune"] = "finetune"
    base: Checkpoint
    weights: Path  # of the base, on this machine
    prior_preservation: float = Field(default=0.0, ge=0, lt=1, description="share of what is learnt that the base drew")
    freeze: bool = False  # the lower layers of a GAN's discriminator rest

    def build(self, plan: ModelPlan) -> "Family":
        """The plan's model with the base's weights. Raises BriefError where they do not fit, RunError where they are damaged."""
        from components.training.checkpoint import load_weights
        from components.training.classes import carried_over
        from components.training.start.scratch import Scratch

        made = Scratch().build(plan)
        weights = carried_over(load_weights(self.base.weights, self.weights), made, self.base.spec)
        own, theirs = _shapes(made.kept()), _shapes(weights)
        if own != theirs:
            name = min(key for key in own.keys() | theirs.keys() if own.get(key) != theirs.get(key))
            what = f"its weight {name} is {theirs.get(name, 'missing')} in the base and {own.get(name, 'missing')} here"
            raise BriefError(
                f"{plan.family}/{plan.variant} is not the network of its base: {what}", do="leave override.config out"
            )
        made.load_state_dict(weights)
        for parameter in made.lower_layers() if self.freeze else ():
            parameter.requires_grad_(False)
        return made


def recipe(base: Checkpoint, *, variant: str, start: type[Start] = Start) -> dict[str, Any]:
    """The config of what is fine-tuned. `variant`: the base's, or the one that makes few steps of it, whose number of steps is
    its own; `start`: says how its learning rate differs."""
    from components.families import find

    known = find(base.family, base.variant).recorded(base.config).model_dump(mode="json")
    known["lr_peak"] *= start.base_rate
    known["decay_from"] = known["decay_from"] if start.decay_from is None else min(start.decay_from, known["decay_from"])
    if variant == base.variant:
        return known
    fields = find(base.family, variant).Config.model_fields
    return {name: value for name, value in known.items() if name in fields and name != "steps"}


def network(base: Checkpoint, *, variant: str) -> "Family":
    """A family of the base's network, its weights not yet read."""
    from components.families import find

    return find(base.family, variant).build(recipe(base, variant=variant), base.spec)


def network_changes(base: Checkpoint, config: dict[str, Any], *, variant: str) -> list[str]:
    """The values of a config that make another network than the base's: weights of other names or shapes.

    Raises BriefError for a value that is unknown or impossible.
    """
    from components.families import find

    cls, known = find(base.family, variant), recipe(base, variant=variant)
    cls.configure(known | config, base.spec)
    asked = {name: value for name, value in config.items() if known.get(name) != value}
    own = _shapes(cls.build(known, base.spec).state_dict()) if asked else {}
    return [name for name, value in asked.items() if _shapes(cls.build(known | {name: value}, base.spec).state_dict()) != own]


def meaning_changes(base: Checkpoint, config: dict[str, Any], *, variant: str) -> dict[str, Any]:
    """Those values of a config that let the base's weights compute something else, as what they were trained with."""
    from components.families import find

    known, cls = recipe(base, variant=variant), find(base.family, variant)
    asked = cls.configure(known | config, base.spec).model_dump(mode="json")
    return {name: known[name] for name in cls.Config.meaning if name in config and known.get(name) != asked[name]}


def _shapes(weights: dict[str, Any]) -> Shapes:
    return {name: tuple(value.shape) for name, value in weights.items()}

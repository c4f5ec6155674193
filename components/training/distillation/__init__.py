"""Students: fewer steps than their teacher takes, and perhaps a narrower network. A student is a model of a family like any
other; only what it learns from differs (its start is start/student.py).

    teacher                     student                    method
    diffusion/ddpm              diffusion/ddpm             progressive.py: half of the steps of what it is shown, 8 to 1
    diffusion/dit               diffusion/dit              progressive.py, on the codes
    diffusion/edm, ect          diffusion/ect              consistency.py: one to four steps
    diffusion/latent, -ect      diffusion/latent-ect       consistency.py, on the codes
    diffusion/ldm, lcm          diffusion/lcm              latent_consistency.py: one to eight steps on the codes
    diffusion/mmdit, -lcm       diffusion/mmdit-lcm        latent_consistency.py, on straight paths

A student in one step can learn on from a critic that sees what it draws (adversarial.py).

A teacher that draws with guidance teaches what it draws: the student has the guidance in one evaluation. A student of its
teacher's sizes begins with its weights; a narrower one imitates it for the first `imitation` share of the budget.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from components.core.card import Card
from components.core.errors import BriefError, NotBuilt
from components.families import cards, find, find_card

if TYPE_CHECKING:
    from components.core.records import Checkpoint

IMITATION = 0.4  # share of the budget of a narrower student


def student_variant(family: str, variant: str) -> str:
    """The variant of the students of a teacher. Raises BriefError where it can have none."""
    known = {key: card.student for key, (card, _, _) in sorted(cards().items()) if card.student is not None}
    if (family, variant) not in known:
        raise BriefError(f"{family}/{variant} cannot be distilled", allowed=", ".join("/".join(key) for key in known))
    return known[family, variant]


def student_card(teacher: "Checkpoint") -> Card:
    """The card of the students of a teacher. Raises BriefError as `student_variant`."""
    return find_card(teacher.family, student_variant(teacher.family, teacher.variant))


def student_class(card: Card) -> Any:
    """The class that learns from a teacher to be a model of this card. It is found here by the card that it inherits."""
    for module in pkgutil.iter_modules(__path__):
        for cls in vars(importlib.import_module(f"{__name__}.{module.name}")).values():
            if isinstance(cls, type) and getattr(cls, "is_student", False) and getattr(cls, "card", None) == card:
                return cls
    raise NotBuilt(f"{card.family}/{card.variant}: no class in components/training/distillation learns to be one")


def recipe(
    teacher: "Checkpoint", *, steps: int, width: int | None = None, lr_peak: float | None = None, adversarial: bool = False
) -> dict[str, Any]:
    """The config of a student: its teacher's, with what the student does differently. Raises BriefError as `student_variant`."""
    card = student_card(teacher)
    if steps not in card.student_steps:
        raise BriefError(f"steps: {steps} given", allowed=", ".join(map(str, card.student_steps)))
    known = find(teacher.family, teacher.variant).recorded(teacher.config).model_dump(mode="json")
    width = width or known["width"]
    narrower = width != known["width"]
    own: dict[str, Any] = {"steps": steps, "guidance": 1.0, "width": width}
    own["lr_peak"] = lr_peak or known["lr_peak"] * (1.0 if narrower else card.student_rate)
    own |= student_class(card).own_recipe(known, narrower=narrower)
    if adversarial:
        from components.training.distillation.adversarial import RECIPE

        own |= RECIPE
    return known | own

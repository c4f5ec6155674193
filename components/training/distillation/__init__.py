"""Students: fewer steps than their teacher takes, and perhaps a narrower network. A student is a model of a family like any
other; only what it learns from differs (its start is start/student.py).

    teacher                     student                    method
    diffusion/ddpm              diffusion/ddpm             progressive.py: half of the steps of what it is shown, 8 to 1
    diffusion/edm, ect          diffusion/ect              consistency.py: one to four steps
    diffusion/latent, -ect      diffusion/latent-ect       consistency.py, on the codes

With `adversarial` a critic sharpens what the student draws (adversarial.py).

A teacher that draws with guidance teaches what it draws: the student has the guidance in one evaluation. A student of its
teacher's sizes begins with its weights; a narrower one imitates it for the first `imitation` share of the budget.
"""

from typing import Any

from components.core.errors import BriefError
from components.core.records import Checkpoint

STUDENTS = {"ddpm": "ddpm", "edm": "ect", "ect": "ect", "latent": "latent-ect", "latent-ect": "latent-ect"}
STEPS = {"ddpm": (8, 4, 2, 1), "ect": (4, 2, 1), "latent-ect": (4, 2, 1)}  # that a student can be asked for
IMITATION = 0.4  # share of the budget of a narrower student
RATE = {"ddpm": 0.5, "ect": 0.2, "latent-ect": 0.2}  # of the teacher's peak, for a student that begins with its weights


def student_variant(family: str, variant: str) -> str:
    """The variant of the students of a teacher. Raises BriefError where it can have none."""
    if family != "diffusion" or variant not in STUDENTS:
        raise BriefError(
            f"{family}/{variant} cannot be distilled", allowed=", ".join(f"diffusion/{taught}" for taught in STUDENTS)
        )
    return STUDENTS[variant]


def recipe(teacher: Checkpoint, *, steps: int, width: int | None = None, lr_peak: float | None = None) -> dict[str, Any]:
    """The config of a student: its teacher's, with what the student does differently. Raises BriefError as `student_variant`.

    Of a teacher that predicts noise it predicts v (arXiv:2202.00512, sec. 4: noise says nothing of the image at the first step).
    """
    variant = student_variant(teacher.family, teacher.variant)
    if steps not in STEPS[variant]:
        raise BriefError(f"steps: {steps} given", allowed=", ".join(map(str, STEPS[variant])))
    width = width or teacher.config["width"]
    narrower = width != teacher.config["width"]
    own: dict[str, Any] = {"steps": steps, "guidance": 1.0, "width": width}
    own["lr_peak"] = lr_peak or teacher.config["lr_peak"] * (1.0 if narrower else RATE[variant])
    if variant == "ddpm":
        prediction = {"prediction": "v"} if teacher.config["prediction"] == "epsilon" else {}
        return teacher.config | own | {"solver": "ddim"} | prediction
    return teacher.config | own | {"teacher_share": IMITATION if narrower else 0.0}

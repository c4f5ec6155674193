"""The scheduler of a model made elsewhere: the betas of its training, what its network predicts, and how it draws."""

from collections.abc import Mapping
from typing import Any

from components.core.errors import NotBuilt

SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "x0"}
# Schedulers of one process, that of Ho et al. 2020; and whether one bounds denoised images where its config does not say so.
SCHEDULERS = {
    "DDPMScheduler": True, "DDIMScheduler": True, "DDIMParallelScheduler": True, "DDPMParallelScheduler": True,
    "PNDMScheduler": False, "DPMSolverMultistepScheduler": False, "DPMSolverSinglestepScheduler": False,
    "DEISMultistepScheduler": False, "UniPCMultistepScheduler": False, "LMSDiscreteScheduler": False,
    "EulerDiscreteScheduler": False, "EulerAncestralDiscreteScheduler": False, "HeunDiscreteScheduler": False,
}  # fmt: skip
DPM = ("DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler")


def of_scheduler(scheduler: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a config here has of the scheduler. Raises NotBuilt for one of another process."""
    kind = str(scheduler.get("_class_name"))
    if kind not in SCHEDULERS:
        raise NotBuilt(f"{where}: its scheduler is a {kind}", allowed=", ".join(SCHEDULERS))
    schedule, prediction = scheduler.get("beta_schedule", "linear"), scheduler.get("prediction_type", "epsilon")
    clip = scheduler.get("clip_sample", SCHEDULERS[kind])
    levels, ends = scheduler.get("num_train_timesteps", 1000), {} if schedule == "squaredcos_cap_v2" else _ends(scheduler)
    odd = {
        "num_train_timesteps": (levels, isinstance(levels, int) and levels >= 2, "a whole number of at least 2"),
        **{
            f"beta_{name.removeprefix('betas_').replace('from', 'start').replace('to', 'end')}": (
                value,
                isinstance(value, float | int) and 0 < value < 1,
                "a number between 0 and 1",
            )
            for name, value in ends.items()
        },
        "beta_schedule": (schedule, schedule in SCHEDULES, ", ".join(SCHEDULES)),
        "prediction_type": (prediction, prediction in PREDICTIONS, ", ".join(PREDICTIONS)),
        "trained_betas": ("a list", scheduler.get("trained_betas") is None, "none"),
        "thresholding": (True, not scheduler.get("thresholding", False), "false"),
        "clip_sample_range": (
            scheduler.get("clip_sample_range"),
            not clip or scheduler.get("clip_sample_range", 1.0) == 1,
            "1.0",
        ),
    }
    for key, (given, fits, allowed) in odd.items():
        if not fits:
            raise NotBuilt(f"{where}: its scheduler has {key}: {given}", allowed=allowed)
    return {
        "schedule": SCHEDULES[schedule],
        "levels": levels,
        "prediction": PREDICTIONS[prediction],
        "zero_snr": bool(scheduler.get("rescale_betas_zero_snr", False)),
        "clip": bool(clip),
        "solver": "dpm++" if kind in DPM else "ddim",
        **ends,
    }


FLOW = "FlowMatchEulerDiscreteScheduler"


def of_flow(scheduler: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The same of flow matching. Raises NotBuilt for another process, and for levels that are spaced otherwise."""
    kind = str(scheduler.get("_class_name"))
    if kind != FLOW:
        raise NotBuilt(f"{where}: its scheduler is a {kind}", allowed=FLOW)
    spaced = (f"use_{each}_sigmas" for each in ("karras", "exponential", "beta"))
    off = ("use_dynamic_shifting", "invert_sigmas", "shift_terminal", "stochastic_sampling", *spaced)
    if odd := next((key for key in off if scheduler.get(key)), None):
        raise NotBuilt(f"{where}: its scheduler has {odd}: {scheduler[odd]}", allowed="none of it")
    if (levels := scheduler.get("num_train_timesteps", 1000)) != 1000:
        raise NotBuilt(f"{where}: its scheduler has num_train_timesteps: {levels}", allowed="1000")
    shift = scheduler.get("shift", 1.0)
    if not isinstance(shift, int | float) or shift <= 0:
        raise NotBuilt(f"{where}: its scheduler has shift: {shift}", allowed="a number above 0")
    return {"shift": float(shift)}


def _ends(scheduler: Mapping[str, Any]) -> dict[str, Any]:
    return {"betas_from": scheduler.get("beta_start", 1e-4), "betas_to": scheduler.get("beta_end", 0.02)}

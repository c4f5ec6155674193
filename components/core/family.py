"""The contract of a family, checked when a class is defined. Imports torch: only parts that compute import this module.

B batch. Data units (core/item.py): float32 about [-1, 1], [B, *shape of an item]; of images NCHW.
"""

import inspect
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy.typing as npt
import torch
from pydantic import Field, ValidationError
from torch import Tensor, nn

from components.core.card import Card
from components.core.errors import BriefError
from components.core.layers import plain_layers, repeatable_blocks
from components.core.noise import NoiseInput
from components.core.randomness import normal, uniform
from components.core.record import Record, first_complaint
from components.core.records import DataSpec, ItemSpec

PIPELINES = "a U-Net of pixels in discrete steps: diffusion/ddpm; ldm, dit, mmdit and their students that came from diffusers"
ACTIVE = 0.01  # a unit of a code carries information when its mean code varies by more over the data


class FamilyConfig(Record):
    """Every default of a family. The fields here are the training recipe that the one trainer reads.

    `meaning`: the settings without which the weights say nothing: with other values the same weights compute something else,
    though each fits."""

    meaning: ClassVar[tuple[str, ...]] = ()

    lr_peak: float = Field(default=1e-3, gt=0)
    batch_size: int = Field(default=128, ge=2)
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(default=0.0, ge=0)
    warmup_steps: int = Field(default=50, ge=0)
    decay_from: float = Field(default=0.7, ge=0, le=1, description="share of the run after which the rate falls to zero")
    clip_norm: float | None = Field(default=1.0, gt=0)
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    on_collapse: Literal["warn", "rollback", "stop"] = Field(
        default="warn", description="when samples lose modes: say so; go back to the best weights at half the rate; end the run"
    )

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        """The defaults that depend on the data, before those of the fields; `light` ones take many steps on a CPU in minutes."""
        return {}


@dataclass(frozen=True)
class Batch:
    """What a loss sees: items x [B, ...] in data units, what each is asked for by (classes: int64 [B]) where the data tells it,
    the share of the budget spent, the number of the step, how often the data was seen before, whose turn it is, what `survey`
    found of the whole batch that this is a part of, the budget, and what `encoded` gave of these items, where that is kept."""

    x: Tensor
    condition: Tensor | None = None
    progress: float = 1.0  # 0 to 1
    step: int = 0
    epoch: int = 1  # whole passes over the data that lie behind
    turn: str = ""  # one of `Family.due`; without a name, all of them
    of_whole: Tensor | None = None
    budget: float = math.inf  # items that the whole training is to see
    codes: tuple[Tensor, ...] | None = None  # each [B, ...]


class Family(nn.Module, ABC):
    """One generative model. A concrete class sets `card` and `Config` and implements `losses`, `noise_inputs` and `sampler`.

    Where the card claims a likelihood it has `log_prob(x_BCHW, labels_B=None, *, rng=None) -> nats_B` (a lower bound when the
    card says so; `rng` draws the noise of an estimate, None the same at every call), and where it claims a latent space
    `encode(x_BCHW) -> z` and `decode(z) -> x_BCHW`.

    Raises TypeError when a subclass breaks the contract, and BriefError for a config that is wrong.
    """

    card: ClassVar[Card]
    Config: ClassVar[type[FamilyConfig]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "card" not in vars(cls):
            return  # an intermediate base: abstract
        if not isinstance(cls.card, Card):
            raise TypeError(f"{cls.__name__}.card must be a Card literal, not {type(cls.card).__name__}")
        if not (inspect.isclass(getattr(cls, "Config", None)) and issubclass(cls.Config, FamilyConfig)):
            raise TypeError(f"{cls.__name__}.Config must be a subclass of FamilyConfig")
        wanted = ["losses", "noise_inputs", "sampler"]
        wanted += ["log_prob"] if cls.card.likelihood != "none" else []
        wanted += ["encode", "decode"] if cls.card.latent else []
        wanted += ["variations"] if cls.card.varies else []
        missing = [name for name in wanted if getattr(cls, name, None) in (None, getattr(Family, name, None))]
        if missing:
            raise TypeError(f"{cls.__name__} must implement {', '.join(missing)}: its card promises them")

    def __init__(self, config: FamilyConfig, spec: DataSpec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        name, card = f"{self.card.family}/{self.card.variant}", self.card
        if spec.item.modality not in card.modalities:
            raise BriefError(f"modality: {spec.item.modality} is not something {name} can do", allowed=", ".join(card.modalities))
        if spec.condition is not None and spec.condition.asked not in card.conditioning:
            raise BriefError(
                f"conditioning: {spec.condition.asked} is not something {name} can do", allowed=", ".join(card.conditioning)
            )

    @classmethod
    def build(cls, config: dict[str, Any], spec: DataSpec, *, light: bool = False) -> "Family":
        """Make the model from plain values. Raises BriefError for an unknown or impossible value."""
        return cls(cls.configure(config, spec, light=light), spec)

    @classmethod
    def configure(cls, config: dict[str, Any], spec: DataSpec, *, light: bool = False) -> FamilyConfig:
        """The whole recipe: defaults, those of `Config.defaults`, and `config`. Raises BriefError as `build` does."""
        try:
            return cls.Config.model_validate(cls.Config.defaults(spec, light=light) | config)
        except ValidationError as error:
            allowed = ", ".join(cls.Config.model_fields)
            raise BriefError(f"override.config.{first_complaint(error)}", allowed=allowed) from error

    @classmethod
    def recorded(cls, config: dict[str, Any]) -> FamilyConfig:
        """The recipe of a checkpoint. It was written whole: a field that it lacks is newer, and has the default of `Config`,
        which is what the family did before, rather than one that depends on the data."""
        return cls.Config.model_validate(config)

    @abstractmethod
    def losses(self, batch: Batch, rng: torch.Generator) -> dict[str, Tensor]:
        """One scalar for each parameter group that learns: all of them, those of the stage that `batch.progress` is in, or those
        of `batch.turn`. Each group's gradient is that of its own loss only."""

    def turns(self) -> dict[str, int]:
        """What learns one after another, in this order, each in every so manieth step. In a turn `losses` is asked anew, of the
        weights as the turns before have left them. One turn without a name for most; the players of a GAN alternate."""
        return {"": 1}

    def due(self, batch: Batch) -> tuple[str, ...]:
        """The turns of a batch's step, counted from 0: of what learns in every third step, the first is in step 2."""
        return tuple(turn for turn, every in self.turns().items() if (batch.step + 1) % every == 0)

    def moments(self) -> tuple[float, ...]:
        """Progress of the steps that take the most memory: of a training in stages, the first and the last."""
        return (0.0, 1.0)

    def survey(self, parts: Sequence[Batch], rng: torch.Generator) -> Sequence[Tensor | None]:
        """What the losses of each part need of the whole batch: one for each, which it gets as `of_whole`.

        The trainer calls it before a step of several parts, without gradients. Of a batch in one piece `losses` sees to it. What
        losses add to buffers must be linear in means over the items: the trainer leaves the mean of all parts there.
        """
        return [None] * len(parts)

    def encoded_from(self) -> float | None:
        """Progress of the steps from which on `encoded` gives the same of an item whatever is learnt; None: it never does."""
        return None

    def encoded(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the losses of those steps take of items in place of x: tensors [B, ...], without chance. The trainer may compute
        it once for all items, and then gives it as `batch.codes`."""
        return (x,)

    def diagnostics(self, batch: Batch) -> dict[str, float]:
        """What the loss does not show, measured on one batch: the trainer logs each at every reading as train/NAME.

        `active_units` (of a latent vector) and `codebook_share` (perplexity over codes) are watched for collapse.
        """
        return {}

    def calibrate(self, batches: Iterator[Batch]) -> None:
        """Measure on training data what no gradient learns and drawing needs, for the weights as they are.

        The trainer calls it on the average before each reading, without gradients, with the batches of one epoch; those that are
        not asked for cost nothing. What is measured is kept in buffers.
        """

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """The parameters that each loss trains. One group for most families; a GAN has two."""
        return {"model": list(self.parameters())}

    def learning_groups(self) -> dict[str, list[nn.Parameter]]:
        """The same without the parameters that rest (requires_grad is False), and without groups all of which do."""
        learning = {group: [each for each in own if each.requires_grad] for group, own in self.parameter_groups().items()}
        return {group: own for group, own in learning.items() if own}

    def adaptable(self) -> tuple[str, ...]:
        """Names of the layers that LoRA may adapt: by default all that it can be laid beside (core/layers.py). A family of which
        a part only is drawn with, or whose parts learn one after another, narrows it."""
        return plain_layers(self)

    def beside_adapter(self) -> list[nn.Parameter]:
        """The parameters that learn whole beside an adapter, since nothing is drawn with them: a GAN's discriminator."""
        return []

    def lower_layers(self) -> list[nn.Parameter]:
        """The parameters of a discriminator that may rest in a fine-tuning, those next to the image; none where there is none."""
        return []

    def kept(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: all that a model of this family is made of, and nothing that only its training needs."""
        return self.state_dict()

    def compilable(self) -> list[nn.Module]:
        """The modules that torch.compile may take in training: called by the losses, and differentiated no more than once."""
        return list(self.children())

    def recomputable(self) -> tuple[nn.Module, ...]:
        """The blocks whose activations a step may drop, and compute again in its backward pass, where memory is short (gradient
        checkpointing): by default those that core/layers.py finds. A family narrows it where the weights or the state that a
        block computes with are not the same by then."""
        return repeatable_blocks(self)

    def stage_progress(self, progress: float) -> float:
        """The share done, 0 to 1, of the stage that a run is in: the learning rate falls towards the end of each."""
        return progress

    def rate_share(self, progress: float) -> float:
        """The share of `lr_peak` that the stage at `progress` of a run may learn at."""
        return 1.0

    def rates(self) -> dict[str, float]:
        """Each group's learning rate, as a multiple of `lr_peak`."""
        return dict.fromkeys(self.parameter_groups(), 1.0)

    @abstractmethod
    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        """The noise the sampler consumes, in the order of its arguments."""

    def noise(self, n: int, rng: torch.Generator) -> tuple[Tensor, ...]:
        """Noise for n items, drawn on the generator's device."""
        kinds = {"normal": normal, "uniform": uniform}
        return tuple(kinds[noise.distribution]((n, *noise.shape), rng) for noise in self.noise_inputs())

    @property
    def discrete(self) -> bool:
        """Whether a difference in the last bit may choose something else of what it draws from."""
        return self.card.discrete

    def pipeline(self) -> Any:
        """The model as a pipeline of diffusers, which shares its weights. Raises BriefError where it cannot be one."""
        raise BriefError(
            f"{self.card.family}/{self.card.variant} cannot be written as a pipeline of diffusers", allowed=PIPELINES
        )

    @property
    def lora_part(self) -> str:
        """The part of that pipeline which its `load_lora_weights` lays an adapter beside; empty where it has no such call."""
        return ""

    @abstractmethod
    def sampler(self, *, steps: int | None = None) -> nn.Module:
        """A deterministic module `forward(*noise, condition) -> x`, items in data units; without a condition it takes the noise
        alone.

        It shares this model's weights. It is what is evaluated, exported and served. `steps` None means the card's.
        """


def of_two_stages(progress: float, *, first: float) -> float:
    """The share done of the stage at `progress` of a run whose first stage takes the share `first`."""
    return progress / first if progress < first else (progress - first) / (1 - first)


def to_data_units(items: npt.NDArray[Any] | Tensor, item: ItemSpec) -> Tensor:
    """Stored items [N, *stored_shape] as data units, float32 [N, *shape], on the device of the items."""
    storage = item.storage
    back = tuple(storage.axes.index(axis) + 1 for axis in range(len(storage.axes)))
    return torch.as_tensor(items).permute(0, *back).float().div_(storage.scale).sub_(storage.offset).contiguous()

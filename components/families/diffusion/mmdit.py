"""Flow matching by a transformer of image and text (MM-DiT, Esser et al. 2024, arXiv:2403.03206): straight paths from noise to
codes.

    x_s = (1 - s) x0 + s eps,   v = eps - x0,   loss = |v - F(x_s; s)|^2                        (rectified flow, eq. 11 and 13)
    s = sigmoid(n), n ~ N(0, 1), then m s / (1 + (m - 1) s)       logit-normal (eq. 19), shifted towards noise by m (eq. 23)
    x_r = x_s + (r - s) F(x_s; s)                        Euler's method: the row of ddim in sampling.py, D = x_s - s F(x_s; s)

The network is diffusers' AuraFlowTransformer2DModel: blocks in which image and text have weights of their own and attend to each
other, then blocks for both in one sequence. One that was made elsewhere as an AuraFlowPipeline is one of these: one text encoder
(T5) steers it, by its rows alone. `network` and `autoencoder` hold the configs of both.

B batch, Z channels of the code, h and w its sides, L rows of a text, D features of a row.
"""

from math import gcd
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from components.core.card import Card
from components.core.errors import BriefError
from components.core.noise import NoiseInput
from components.core.randomness import normal
from components.core.records import DataSpec, EmbeddingCondition
from components.families.diffusion.given import FLOW_TRANSFORMER, built, check_given, given_divides, given_network
from components.families.diffusion.given_codes import GivenCodesConfig, OnGivenCodes
from components.families.diffusion.given_text import FlowByText
from components.families.diffusion.network import DiffusionConfig, Network, guided
from components.families.diffusion.pipelines import flow_pipeline
from components.families.diffusion.sampling import ONE, UNROLLED, Point, Sampler
from components.families.images import image_of, side_of, to_square
from components.families.texts import text_of

TIME = 1000.0  # of noise alone, as a network hears it
HEAD = 32  # features of a head of attention, at most
TOKENS_MAX = 64  # by default


class MMDiTConfig(GivenCodesConfig):
    width: int = Field(default=128, ge=16, multiple_of=16, description="features of a token; 64 up to side 16 and on a CPU")
    blocks: int = Field(default=4, ge=1, description="blocks, the first half with weights of their own for image and text")
    patch: int = Field(default=1, ge=1, le=8, description="codes a side of a token; 2 where there were more than 64 tokens")
    steps: int = Field(default=28, ge=1)
    solver: Literal["ddim", "dpm++"] = "ddim"  # of straight paths the first is Euler's method
    shift: float = Field(default=1.0, gt=0, description="m: above 1 more levels lie near noise; 3 for images of 1,024 pixels")

    @classmethod
    def defaults(cls, spec: DataSpec, *, light: bool = False) -> dict[str, Any]:
        found = super().defaults(spec, light=light) | cls.of_codes(spec, light=light)
        side = -(-side_of(spec) // 2 ** found["halve"])
        narrow = {"width": 64, "blocks": 3} if light or side_of(spec) <= 16 else {"width": 128}
        return found | ({} if found.get("dense") else {"patch": 2 if side**2 > TOKENS_MAX else 1} | narrow)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.network:
            check_given(self.network, width=self.width)
            if self.dense or self.patch != 1:
                raise ValueError("network: given with dense or patch, and they change it; leave them out")
        return self

    @property
    def divides(self) -> int:
        return 1 if self.dense else given_divides(self.network) if self.network else self.patch

    def padding(self, height: int, width: int) -> tuple[int, int]:
        if self.dense or self.network:
            return super().padding(height, width)
        return to_square(height, width, multiple=self.patch)


class FlowDenoiser(Network):
    """D(x_BZhw at time_B, text_BLD) -> the expected clean code; the network says the velocity."""

    def __init__(self, config: MMDiTConfig, spec: DataSpec) -> None:
        super().__init__(config, spec)
        self.shift = config.shift

    def forward(
        self, x_BZhw: Tensor, time_B: Tensor, condition: Tensor | None = None, planes_BPHW: Tensor | None = None
    ) -> Tensor:
        s_B111 = (time_B / TIME).view(-1, 1, 1, 1)
        return x_BZhw - s_B111 * self.network(x_BZhw, time_B, condition, planes_BPHW)

    def loss(self, x0_BZhw: Tensor, asked: Tensor | None, rng: torch.Generator) -> Tensor:
        """The mean squared error of the velocity, at a level drawn for each item."""
        s_B = shifted(normal(x0_BZhw.shape[:1], rng).sigmoid(), self.shift)
        eps_BZhw, s_B111 = normal(x0_BZhw.shape, rng), s_B.view(-1, 1, 1, 1)
        x_BZhw = (1 - s_B111) * x0_BZhw + s_B111 * eps_BZhw
        said_BZhw = self.network(x_BZhw, TIME * s_B, self.training_labels(asked, rng), None)
        loss: Tensor = (said_BZhw - (eps_BZhw - x0_BZhw)).square().mean()
        return loss

    def said(self, x_BCHW: Tensor, time_B: Tensor, condition_B: Tensor | None) -> Tensor:
        """Without a text it is asked by the same row always."""
        return super().said(x_BCHW, time_B, x_BCHW.new_ones(x_BCHW.shape[0], 1, 1) if condition_B is None else condition_B)

    def _made(self, config: DiffusionConfig, spec: DataSpec, ends: tuple[int, int], *, classes: int) -> nn.Module:
        assert isinstance(config, MMDiTConfig)
        if config.dense:
            return super()._made(config, spec, ends, classes=classes)
        text = text_of(spec)
        if config.network:
            return given_network(config.network, ends=ends, classes=classes, width=config.width, dropout=0.0, text=text)
        side = (image_of(spec).height + self.pad[0]) // config.patch
        return _transformer(config, side, ends, text or EmbeddingCondition(length=1, features=1, encoder="none@"))


def _transformer(config: MMDiTConfig, side: int, ends: tuple[int, int], text: EmbeddingCondition) -> nn.Module:
    """From so many channels to so many; it gives almost zero at first."""
    from diffusers.models.transformers.auraflow_transformer_2d import AuraFlowTransformer2DModel

    head = gcd(config.width, HEAD)
    sizes = {"num_attention_heads": config.width // head, "attention_head_dim": head, "caption_projection_dim": config.width}
    joint = config.blocks // 2  # the last block is of one sequence: of others what it makes of a text were lost
    blocks = {"num_mmdit_layers": joint, "num_single_dit_layers": config.blocks - joint}
    of_tokens = {"sample_size": side, "patch_size": 1, "pos_embed_max_size": side**2}  # the squares are channels already
    net = built(
        AuraFlowTransformer2DModel, {"_class_name": FLOW_TRANSFORMER}, **sizes, **blocks, **of_tokens,
        in_channels=ends[0] * config.patch**2, out_channels=ends[1] * config.patch**2, joint_attention_dim=text.features,
    )  # fmt: skip
    nn.init.normal_(net.get_parameter("proj_out.weight"), std=1e-4)
    return FlowByText(net, text)


def shifted(s: Any, shift: float) -> Any:
    """A level, or more, nearer to noise (eq. 23)."""
    return shift * s / (1 + (shift - 1) * s)


def levels(steps: int, *, shift: float, of: int = int(TIME)) -> list[Point]:
    """Those of so many steps, from noise alone on, as diffusers' FlowMatchEulerDiscreteScheduler spaces them: evenly between the
    first and the last of the shifted levels of training, and shifted again."""
    low = shifted(1 / of, shift)
    each = [1 - (1 - low) * step / max(1, steps - 1) for step in range(steps)]
    return [point(shifted(level, shift)) for level in each]


def point(s: float) -> Point:
    return Point(time=TIME * s, alpha=1 - s, sigma=s)


class MMDiT(OnGivenCodes):
    """The newer of the two kinds that published text-to-image models are of: few steps go a long way on straight paths."""

    card = Card(
        family="diffusion",
        variant="mmdit",
        title="Flow matching by a transformer of image and text (MM-DiT) on the codes of an autoencoder",
        modalities=("image",),
        conditioning=("none", "text"),
        likelihood="none",
        latent=True,
        steps=28,
        side_max=1024,
        data_appetite=2_000,
        stepwise=True,
        on_codes=True,
        wide=True,
        starts=("scratch", "finetune", "lora"),
        steers=True,
        student="mmdit-lcm",
        references=("arXiv:2403.03206", "arXiv:2209.03003", "arXiv:2210.02747"),
    )
    Config = MMDiTConfig
    config: MMDiTConfig

    def make_denoiser(self, codes: DataSpec) -> nn.Module:
        return FlowDenoiser(self.config, codes)

    def code_sampler(self, steps: int | None) -> Sampler:
        steps = steps or self.config.steps
        if steps > TIME:
            raise BriefError(f"{steps} sampling steps", allowed=f"1 to {TIME:.0f}", do="lower config.steps")
        unrolled = ONE if self.config.network else UNROLLED
        points = levels(steps, shift=self.config.shift)
        return Sampler(guided(self.denoiser, self.config), points, solver=self.config.solver, unrolled=unrolled)

    def noise_inputs(self) -> tuple[NoiseInput, ...]:
        return (NoiseInput(name="noise", shape=self.autoencoder.shape),)

    @property
    def lora_part(self) -> str:
        """An AuraFlowPipeline has that call."""
        return "transformer" if self.config.network else ""

    def as_pipeline(self, autoencoder: nn.Module) -> Any:
        return flow_pipeline(self.denoiser.net.transformer, autoencoder, shift=self.config.shift)

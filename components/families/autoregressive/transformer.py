"""A decoder-only transformer over a grid of integers, as ImageGPT (Chen et al. 2020) and GPT-2 (Radford et al. 2019).

    n = LN(h);  a = h + attention(n);  h' = a + MLP(LN(a));  logits = W LN(h_L)                (Chen et al. 2020, section 2.3)

The sequence is the grid in raster order, the channels of a pixel one after another, behind a token of the class, which is also
added to every other; positions are learned. Drawing keeps the keys and values of what is behind, so a value costs one token.

B batch, C channels, H height, W width, K values, T = C H W tokens, D width, N heads, E size of a head.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from components.core.errors import BriefError
from components.families.autoregressive.grid import Grid, GridModel, Index, inverse_cdf


class Block(nn.Module):
    """Causal self-attention and an MLP, each behind a normalisation (GPT-2's order)."""

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm, self.mlp_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, h_BTD: Tensor) -> Tensor:
        q, k, v = self._heads(h_BTD)
        return self._rest(h_BTD, F.scaled_dot_product_attention(q, k, v, is_causal=True))

    def behind(self, h_BTD: Tensor, known_BT: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same where some tokens are hidden from all others: features, keys and values. The first one must be known."""
        q, k, v = self._heads(h_BTD)
        before_TT = torch.ones(h_BTD.shape[1], h_BTD.shape[1], dtype=torch.bool, device=h_BTD.device).tril()
        mask_B1TT = before_TT & known_BT[:, None, None]
        return self._rest(h_BTD, F.scaled_dot_product_attention(q, k, v, attn_mask=mask_B1TT)), k, v

    def step(
        self, h_B1D: Tensor, t_1: Tensor, keys_BNTE: Tensor, values_BNTE: Tensor, known_BT: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One token, with the keys and values of those before it: its features, and both with its own."""
        q, k, v = self._heads(h_B1D)
        put = Tensor.index_copy if torch.compiler.is_exporting() else Tensor.index_copy_
        keys_BNTE, values_BNTE = put(keys_BNTE, 2, t_1, k), put(values_BNTE, 2, t_1, v)
        behind_T = torch.arange(keys_BNTE.shape[2], device=t_1.device) <= t_1
        mask = behind_T.view(1, 1, 1, -1) if known_BT is None else behind_T & known_BT[:, None, None]
        return (
            self._rest(h_B1D, F.scaled_dot_product_attention(q, keys_BNTE, values_BNTE, attn_mask=mask)),
            keys_BNTE,
            values_BNTE,
        )

    def _heads(self, h_BTD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        joined = self.queries_keys_values(self.attention_norm(h_BTD)).unflatten(2, (3, self.heads, -1))
        q, k, v = joined.permute(2, 0, 3, 1, 4).unbind(0)
        return q, k, v

    def _rest(self, h_BTD: Tensor, attended_BNTE: Tensor) -> Tensor:
        a_BTD = h_BTD + self.dropout(self.out(attended_BNTE.transpose(1, 2).flatten(2)))
        out_BTD: Tensor = a_BTD + self.dropout(self.mlp(self.mlp_norm(a_BTD)))
        return out_BTD


class GridTransformer(GridModel):
    """A softmax over K values for each token."""

    def __init__(self, grid: Grid, *, width: int, blocks: int, heads: int, dropout: float = 0.0) -> None:
        if width % heads:
            raise BriefError(f"override.config.heads: {heads} heads for a width of {width}", allowed="a divisor of the width")
        super().__init__(grid)
        self.heads = heads
        self.tokens = grid.channels * grid.height * grid.width
        self.table = nn.Embedding(grid.values, width)
        self.start = nn.Embedding(max(1, grid.classes), width)
        self.positions_TD = nn.Parameter(torch.empty(self.tokens, width))
        self.blocks = nn.ModuleList(Block(width, heads=heads, dropout=dropout) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, grid.values)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("zero_1", torch.zeros(1, dtype=torch.int64), persistent=False)
        self._initialise()

    zero_1: Tensor

    @property
    def stack(self) -> list[Block]:
        return cast("list[Block]", list(self.blocks))

    def log_prob(self, values_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        values_BT = values_BCHW.permute(0, 2, 3, 1).flatten(1)
        logits_BTK = self.logits_of(values_BT, labels_B)
        log_BT = -F.cross_entropy(logits_BTK.transpose(1, 2), values_BT, reduction="none")
        log_BHWC: Tensor = log_BT.unflatten(1, (*values_BCHW.shape[2:], -1))
        return log_BHWC.permute(0, 3, 1, 2)

    def logits_of(self, values_BT: Tensor, labels_B: Tensor | None) -> Tensor:
        """logits_BTK of each token given those before it."""
        h_BTD = self.dropout(self._read(values_BT, labels_B))
        for block in self.stack:
            h_BTD = block(h_BTD)
        logits_BTK: Tensor = self.logits(self.norm(h_BTD))
        return logits_BTK

    def draw(self, uniform_BCHW: Tensor, labels_B: Tensor | None) -> Tensor:
        """As one row of tokens."""
        _, channels, height, width = uniform_BCHW.shape
        uniform_B11T = uniform_BCHW.permute(0, 2, 3, 1).flatten(1)[:, None, None]
        values_B11T = super().draw(uniform_B11T, labels_B)
        return values_B11T.view(-1, height, width, channels).permute(0, 3, 1, 2)

    def row(
        self, i: Index, values_BCHW: Tensor, carried: Sequence[Tensor], labels_B: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Empty keys and values for each block; the token of the class."""
        start_B1D = self._start(values_BCHW, labels_B)
        size = start_B1D.shape[2] // self.heads
        shape = (values_BCHW.shape[0], self.heads, self.tokens, size)
        return (), (start_B1D,), tuple(start_B1D.new_zeros(shape) for _ in range(2 * len(self.blocks)))

    def pixel(
        self,
        at: tuple[Index, Index],
        values_BCHW: Tensor,
        uniform_BC: Tensor,
        context: Sequence[Tensor],
        state: Sequence[Tensor],
        labels_B: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One token: what came before it goes in, and it is drawn."""
        t_1 = self.zero_1 + at[1]
        last_B1D = self.table(values_BCHW[:, 0, 0].index_select(1, (t_1 - 1).clamp(min=0)))
        h_B1D = torch.where(t_1 == 0, torch.zeros_like(last_B1D), last_B1D) + context[0] + self.positions_TD.index_select(0, t_1)
        kept: list[Tensor] = []
        for block, keys_BNTE, behind_BNTE in zip(self.stack, state[::2], state[1::2], strict=True):
            h_B1D, *both = block.step(h_B1D, t_1, keys_BNTE, behind_BNTE)
            kept += both
        p_BK = self.logits(self.norm(h_B1D[:, 0])).softmax(1)
        return inverse_cdf(p_BK, uniform_BC[:, 0])[:, None], tuple(kept)

    def _read(self, values_BT: Tensor, labels_B: Tensor | None) -> Tensor:
        """h_BTD: at each place the token before it."""
        start_B1D = self._start(values_BT, labels_B)
        h_BTD: Tensor = torch.cat([torch.zeros_like(start_B1D), self.table(values_BT[:, :-1])], dim=1)
        return h_BTD + start_B1D + self.positions_TD

    def _start(self, values: Tensor, labels_B: Tensor | None) -> Tensor:
        start_BD: Tensor = self.start(torch.zeros_like(values.flatten(1)[:, 0]) if labels_B is None else labels_B)
        return start_BD[:, None]

    def _initialise(self) -> None:
        """GPT-2's: deviations of 0.02, smaller where a residual adds up."""
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                last = name.endswith(("out.weight", "mlp.2.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * len(self.blocks)) if last else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

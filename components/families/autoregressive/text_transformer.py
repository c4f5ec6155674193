"""A transformer over text and codes in one sequence, as DALL-E (Ramesh et al. 2021, arXiv:2102.12092, section 2.2).

    n, y_1 W, ..., y_L W, start, z_1, ..., z_{T-1}   ->   p(z_1), ..., p(z_T)

y are the rows of the text, each standardised, and n is one that is learned and always read: what a text without rows leaves. Rows
of zeros are hidden from all others. The paper's text is tokens of its own table, which it learns to predict, too; here a pinned
encoder has read it, and what it made is given. Under guidance a code is drawn by

    l_w = l(none) + w (l(text) - l(none)),     l the logits              (Ho & Salimans 2022, arXiv:2207.12598, eq. 6)

with what is unwanted in the place of none where that is told. Both texts are read side by side, at twice the work.

B batch, P = 1 + L rows, T tokens, D width, N heads, E size of a head, K values; R = B or 2 B sequences that are read.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from components.families.autoregressive.grid import Grid, Index, inverse_cdf
from components.families.autoregressive.transformer import GridTransformer
from components.families.texts import apart, with_start


class TextTransformer(GridTransformer):
    """log p(values | text), and draws under guidance of this weight; `features` of a row of the text."""

    def __init__(
        self, grid: Grid, *, features: int, guidance: float, width: int, blocks: int, heads: int, dropout: float = 0.0
    ) -> None:
        super().__init__(grid, width=width, blocks=blocks, heads=heads, dropout=dropout)
        self.guidance = guidance
        self.start_F = nn.Parameter(torch.randn(features))
        self.prefix = nn.Linear(features, width)

    def logits_of(self, values_BT: Tensor, labels_B: Tensor | None) -> Tensor:
        assert labels_B is not None
        prefix_BPD, known_BP = self._prefix(apart(labels_B)[0])
        h_BTD = self.dropout(torch.cat([prefix_BPD, self._read(values_BT, None)], dim=1))
        known_BT = self._with_codes(known_BP)
        for block in self.stack:
            h_BTD, _, _ = block.behind(h_BTD, known_BT)
        logits_BTK: Tensor = self.logits(self.norm(h_BTD[:, prefix_BPD.shape[1] :]))
        return logits_BTK

    def row(
        self, i: Index, values_BCHW: Tensor, carried: Sequence[Tensor], labels_B: Tensor | None
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Keys and values of the text, with room for those of the codes; the token that begins them."""
        assert labels_B is not None
        h_RPD, known_RP = self._prefix(self._asked(labels_B))
        state: list[Tensor] = []
        for block in self.stack:
            h_RPD, *both = block.behind(h_RPD, known_RP)
            state += [torch.cat([each, each.new_zeros(*each.shape[:2], self.tokens, each.shape[3])], dim=2) for each in both]
        start_R1D = self.start.weight[None].expand(h_RPD.shape[0], 1, -1)
        return (), (start_R1D, self._with_codes(known_RP)), tuple(state)

    def pixel(
        self,
        at: tuple[Index, Index],
        values_BCHW: Tensor,
        uniform_BC: Tensor,
        context: Sequence[Tensor],
        state: Sequence[Tensor],
        labels_B: Tensor | None,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """One token, behind the text."""
        (start_R1D, known_RT), t_1 = context, self.zero_1 + at[1]
        last_B1D = self.table(values_BCHW[:, 0, 0].index_select(1, (t_1 - 1).clamp(min=0)))
        last_R1D = torch.cat([last_B1D, last_B1D]) if self.guidance != 1 else last_B1D
        h_R1D = torch.where(t_1 == 0, torch.zeros_like(last_R1D), last_R1D) + start_R1D + self.positions_TD.index_select(0, t_1)
        place_1 = t_1 + (known_RT.shape[1] - self.tokens)
        kept: list[Tensor] = []
        for block, keys_RNTE, behind_RNTE in zip(self.stack, state[::2], state[1::2], strict=True):
            h_R1D, *both = block.step(h_R1D, place_1, keys_RNTE, behind_RNTE, known_RT)
            kept += both
        p_BK = self._steered(self.logits(self.norm(h_R1D[:, 0]))).softmax(1)
        return inverse_cdf(p_BK, uniform_BC[:, 0])[:, None], tuple(kept)

    def _prefix(self, text_RLF: Tensor) -> tuple[Tensor, Tensor]:
        """Its rows_RPD as tokens, and which are known, bool [R, P]."""
        rows_RPF, known_RP = with_start(text_RLF, self.start_F)
        tokens_RPD: Tensor = self.prefix(rows_RPF)
        return tokens_RPD, known_RP > 0

    def _with_codes(self, known_RP: Tensor) -> Tensor:
        return torch.cat([known_RP, known_RP[:, :1].expand(-1, self.tokens)], dim=1)  # the first row always is

    def _asked(self, condition: Tensor) -> Tensor:
        """What is wanted, and under guidance what is not behind it."""
        wanted, *unwanted = apart(condition)
        return torch.cat([wanted, unwanted[0] if unwanted else torch.zeros_like(wanted)]) if self.guidance != 1 else wanted

    def _steered(self, logits_RK: Tensor) -> Tensor:
        if self.guidance == 1:
            return logits_RK
        own_BK, none_BK = logits_RK.unflatten(0, (2, -1)).unbind(0)
        steered_BK: Tensor = none_BK + self.guidance * (own_BK - none_BK)
        return steered_BK

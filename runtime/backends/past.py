"""What the new frames of several rows attend to, gathered once per frame.

Two ways to lay `R` new frames out for the transformer, `[B, T, P, D]`. Rows with pasts of their own lie along
`B`, one frame each. One row that is asked about several actions has one past: its frames lie beside each
other along `T`, and ages hide them from each other, so the past is read once and nothing is copied for it.
A commit that is fused is one more frame along `T`, before the new ones.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from genie_rt.runtime.model.transformer import KeysValues, OwnFrames
from genie_rt.runtime.pages import PagePool, Pages


class Past:
    """The pages of `R` rows.

    Args:
        pool: of one transformer.
        rows: each row's pages, newest first. With `shared` they are one and the same.
        shared: whether the rows are one row, `R` times.
        commits: whether a frame that is committed in the same evaluation comes before the new ones.

    Attributes:
        history: per layer keys and values `[B, Th, P, H, Dh]`, None where there are none.
        ages: `[B, T, Th + T]` int64, of every key frame to every frame that is evaluated next: those with the
            committed frame at first, then, after `committed`, those without.
        own: which of the frames that are evaluated next each of them sees, newest first.
    """

    def __init__(self, pool: PagePool, rows: Sequence[Pages], *, shared: bool, commits: bool = False) -> None:
        self.shared = shared
        self.window = pool.window
        self.num_new = len(rows) if shared else 1  # along T
        self.history, own = pool.history(list(rows[:1] if shared else rows))
        seen = own[:, :, :-1]  # [B, 1, Th]: ages of the pages to the frame after them
        among = _ages_among(self.num_new, self.window > 1, pool.device).expand(len(own), -1, -1)
        alone = [(i,) for i in range(self.num_new)]
        self.own: OwnFrames = alone
        if commits:
            last = (0,) if self.window > 1 else ()
            self.own = [(0,), *((1 + i, *last) for (i,) in alone)]
            self._later = torch.where((seen >= 0) & (seen + 1 < self.window), seen + 1, -1)
            past = torch.cat([seen, self._later.expand(-1, self.num_new, -1)], 1)
        else:
            past, among = seen.expand(-1, self.num_new, -1), among[:, 1:, 1:]
        self.ages = torch.cat([past, among], 2)

    def fold(self, x: Tensor) -> Tensor:
        """`[R, ...]` to `[B, T, ...]`."""
        return x[None] if self.shared else x[:, None]

    def place(self, row: int) -> tuple[int, int]:
        """Where that row's new frame lies along `B` and `T`."""
        return (0, row) if self.shared else (row, 0)

    def committed(self, keys_values: list[KeysValues]) -> None:
        """Goes on with the committed frame as part of the past.

        Args:
            keys_values: per layer what the evaluation with it gave, `[B, 1 + T, P, H, Dh]` each.
        """
        own = self.ages[:, 1:, -self.num_new :]
        self.own = [(i,) for i in range(self.num_new)]
        if self.window == 1:
            self.history, self.ages = None, own
            return
        kept = min(self._later.shape[2], self.window - 2)
        newest = self.ages[:, 1:, -self.num_new - 1 : -self.num_new]  # age 1 to all new frames
        self.ages = torch.cat([newest, self._later[:, :, :kept].expand(-1, self.num_new, -1), own], 2)
        new = [(keys[:, :1], values[:, :1]) for keys, values in keys_values]
        if self.history is not None and kept:
            new = [
                (torch.cat([k, old_k[:, :kept]], 1), torch.cat([v, old_v[:, :kept]], 1))
                for (k, v), (old_k, old_v) in zip(new, self.history, strict=True)
            ]
        self.history = new


@lru_cache(maxsize=256)
def _ages_among(count: int, sees_last: bool, device: torch.device) -> Tensor:
    """Ages among a committed frame and `T` new ones that do not see each other: `[1, 1 + T, 1 + T]`."""
    ages = torch.full((1, 1 + count, 1 + count), -1)
    ages[0].fill_diagonal_(0)
    if sees_last:
        ages[0, 1:, 0] = 1
    return ages.to(device)

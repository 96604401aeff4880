"""How many tokens each pass of a frame decides, where the most confident ones go first."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from genie_rt.kernels.maskgit_sample.reference import most_confident
from genie_rt.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """How many tokens each pass decides, of frames whose most confident tokens are decided first.

    Attributes:
        passes: that each row takes; `K` is the most of them.
        targets: `[R, K]` int64, tokens decided after each pass.
        noise: `[R, K]` float64, its scale on the confidence in each.
    """

    passes: list[int]
    targets: Tensor
    noise: Tensor

    @classmethod
    def of(cls, plan: Plan, num_rows: int, num_tokens: int, device: torch.device) -> Schedule:
        """A plan's own, for all rows alike."""
        targets, noise = _schedule(plan, plan.passes, num_tokens, plan.passes, device)
        return cls(
            passes=[plan.passes] * num_rows,
            targets=targets.expand(num_rows, -1),
            noise=noise.expand(num_rows, -1),
        )

    @classmethod
    def after_first_pass(cls, plan: Plan, p: Tensor) -> Schedule:
        """That of each row under "adaptive", from the probabilities `[R, N]` of its first samples.

        Asks the device how sure they are, once a frame.
        """
        num_tokens = p.shape[1]
        passes = [plan.passes_for(count, num_tokens) for count in (p < plan.threshold).sum(1).tolist()]
        rows = [_schedule(plan, own, num_tokens, max(passes), p.device) for own in passes]
        targets, noise = (torch.stack(columns) for columns in zip(*rows, strict=True))
        return cls(passes=passes, targets=targets, noise=noise)

    def choose(self, pass_index: int, p: Tensor, decided: Tensor, noise_u: Tensor) -> Tensor:
        """What a pass decides: see `most_confident`. The first may see a part of the tokens only."""
        keep = self.targets[:, pass_index] - decided.sum(1)
        return most_confident(p, decided, noise_u, keep=keep, noise=self.noise[:, pass_index].to(p.dtype))


@lru_cache(maxsize=4096)
def _schedule(
    plan: Plan, passes: int, num_tokens: int, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Tokens decided after each of so many passes, int64, and the noise in each, float64.

    Both `[length]`, for rows that stand beside longer ones.
    """
    plan = plan.replace(passes=passes)
    targets = [plan.decided_after(k, num_tokens) for k in range(length)]
    noise = [plan.noise_in(k) for k in range(passes)] + [0.0] * (length - passes)
    return torch.tensor(targets, device=device), torch.tensor(noise, dtype=torch.float64, device=device)

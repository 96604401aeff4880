"""What one pass over all tokens decides, for any plan: the runtime's rules without its pages and subsets.

The paper's recipe and the parity check make whole passes of their own, and decide their tokens here. It is
written apart from the back ends on purpose: where both give the same rollout, both kept to the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genie_rt.kernels.maskgit_sample.reference import most_confident, sample
from genie_rt.kernels.philox.reference import uniforms
from genie_rt.runtime.backends.row import signed
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.order import decision_order
from genie_rt.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FrameDecision:
    """A frame of one session on its way from masks to tokens. A pass makes a new one.

    Attributes:
        plan: from its first pass on an "adaptive" frame has a "maskgit" plan of its own.
        tokens: `[1, N]` int64, `UNDECIDED` where masked.
        pass_index: of the pass that comes next.
        seed, frame: `[1]` int64, the bits of the session's seed and the frame's index.
    """

    plan: Plan
    config: ModelConfig
    tokens: Tensor
    pass_index: int
    seed: Tensor
    frame: Tensor

    @classmethod
    def start(
        cls, plan: Plan, config: ModelConfig, *, seed: int, frame_index: int, device: torch.device
    ) -> FrameDecision:
        """A frame whose tokens are all masked."""
        num_tokens = config.tokenizer.num_tokens
        return cls(
            plan=plan,
            config=config,
            tokens=torch.full((1, num_tokens), UNDECIDED, device=device),
            pass_index=0,
            seed=torch.tensor([signed(seed)], device=device),
            frame=torch.tensor([frame_index], device=device),
        )

    @property
    def is_done(self) -> bool:
        """Whether all tokens are decided."""
        return self._decided_after(self.pass_index - 1) == self.tokens.shape[1]

    def uniforms(self) -> tuple[Tensor, Tensor]:
        """Those of the next pass: for the tokens and for the noise, `[1, N]` float32 each."""
        return uniforms(self.seed, self.frame, self.pass_index, self.tokens.shape[1])

    def decide(self, logits: Tensor) -> FrameDecision:
        """What is decided after the next pass, which gave `[1, N, V]` logits."""
        plan, tokens = self.plan, self.tokens
        decided = tokens != UNDECIDED
        u, noise_u = self.uniforms()
        candidates, p = sample(logits, u, plan.temperature)
        if plan.order == "adaptive":
            num_unsure = int((p < plan.threshold).sum())
            plan = plan.replace(order="maskgit", passes=plan.passes_for(num_unsure, tokens.shape[1]))
        ahead = replace(self, plan=plan)
        target, done = (ahead._decided_after(k) for k in (self.pass_index, self.pass_index - 1))
        if plan.is_static:
            order = decision_order(plan, self.config, self.seed, self.frame)  # [1, N]
            due = torch.zeros_like(decided).scatter(1, order[:, :target], True)
            tokens = torch.where(due & ~decided, candidates, tokens)
        else:
            noise = plan.noise_in(self.pass_index)
            chosen = most_confident(p, decided, noise_u, keep=target - done, noise=noise)
            tokens = torch.where(chosen, candidates, tokens)
        return replace(ahead, tokens=tokens, pass_index=self.pass_index + 1)

    def _decided_after(self, pass_index: int) -> int:
        """Tokens that are decided once that pass is done; 0 before the first."""
        if pass_index < 0:
            return 0
        num_tokens = self.tokens.shape[1]
        num_units = self.config.num_positions if self.plan.reuse == "passes" else num_tokens
        return self.plan.decided_after(pass_index, num_units) * (num_tokens // num_units)

"""The paper's recipe as a baseline of cost: nothing is kept, the last `W` frames are recomputed in each pass.

Bruce et al. 2024 (arXiv 2402.15391), section 2.2, and the open re-implementations of it. One frame of the
steady state: `W - 1` real frames are known, the next one is decided in `K` passes, each over all `W`. Its
tokens are those of `naive_rollout(..., last=W)`, which a test compares.

The baseline gets every benefit of the doubt. The picture is decoded from no more frames than the decoder's
own window, though a re-implementation decodes the whole clip. Logits are computed for the new frame alone.
Actions and past frames are embedded by the same code, with the same weights, dtype, device and threads as the
session that it stands beside.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from genie_rt.kernels.maskgit_sample.reference import maskgit_sample
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.philox.reference import uniforms
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.images import Picture
from genie_rt.runtime.model.dynamics import UNDECIDED, previous_frame
from genie_rt.runtime.plan import Plan


class RecomputedRollout:
    """Goes on from known frames by the paper's recipe, one frame per `step`.

    Args:
        backend: whose model, dtype and device are used.
        tokens: `[T, N]` int64, the known frames' tokens; those before the last `W - 1` have no effect.
        actions: entry `t` led to frame `t`.
        frame_index: of the last known frame.
        seed: below 2**63.

    Attributes:
        tokens: `[1, T, N]` int64, the last frames.
    """

    def __init__(
        self,
        backend: ReferenceBackend,
        tokens: Tensor,
        actions: Sequence[int],
        frame_index: int,
        *,
        plan: Plan,
        seed: int,
    ) -> None:
        config = backend.model.config
        self.model, self.table, self.device = backend.model, backend.table, backend.device
        self.plan = plan
        self.window = config.dynamics.transformer.window
        self.decoder_window = config.tokenizer.decoder.window
        self.tokens = tokens[None].to(self.device)
        self._actions = list(actions)
        self._frame_index = frame_index
        self._seed = torch.tensor([seed], device=self.device)

    @torch.inference_mode()
    def step(self, action: int) -> Picture:
        """The frame that an action leads to, `[Hout, Wout, 3]` uint8."""
        first = max(0, self.tokens.shape[1] + 1 - self.window)
        known, actions = self.tokens[:, first:], [*self._actions[first:], action]
        self._frame_index += 1
        new = self._decide(known, actions)
        self.tokens = torch.cat([known, new[:, None]], 1)  # [1, T, N]
        self._actions = actions

        shown = self.tokens[:, -self.decoder_window :]
        ages = causal_ages(shown.shape[1], self.decoder_window, self.device)
        pictures, _ = self.model.tokenizer.decode(shown, ages)
        return to_uint8(pictures[0, -1]).cpu().numpy()

    def _decide(self, known: Tensor, actions: list[int]) -> Tensor:
        """`K` passes over the known frames `[1, T - 1, N]` and a new one, to its tokens `[1, N]`."""
        led = torch.tensor([actions], device=self.device)
        ages = causal_ages(len(actions), self.window, self.device)
        num_tokens = known.shape[2]
        current = torch.full((1, num_tokens), UNDECIDED, device=self.device)
        decided = torch.zeros_like(current, dtype=torch.bool)
        index, done = torch.tensor([self._frame_index], device=self.device), 0
        for k in range(self.plan.passes):
            clip = torch.cat([known, current[:, None]], 1)  # [1, T, N]
            previous = previous_frame(clip)
            hidden, _ = self.model.dynamics(clip, previous, led, self.table, ages)
            logits = self.model.dynamics.logits(hidden[:, -1:], previous[:, -1:], self.table)
            target = self.plan.decided_after(k, num_tokens)
            u, noise_u = uniforms(self._seed, index, k, num_tokens)
            current, decided = maskgit_sample(
                logits[:, 0], current, decided, u, noise_u,
                keep=target - done, temperature=self.plan.temperature, noise=self.plan.noise_in(k),
            )  # fmt: skip
            done = target
            if done == num_tokens:
                break
        return current

"""The paper's recipe as a baseline of cost: nothing is kept, the last `W` frames are recomputed in each pass.

Bruce et al. 2024 (arXiv 2402.15391), section 2.2, and the open re-implementations of it. One frame of the
steady state: `W - 1` real frames are known, the next one is decided in `K` passes, each over all `W`. Its
tokens are those of `tests/naive.py` with `last=W`, which a test compares. Any plan can be decoded so; what a
plan says about reuse is left out, since nothing is kept that could be reused.

The baseline gets every benefit of the doubt. The picture is decoded from no more frames than the decoder's
own window, though a re-implementation decodes the whole clip. Logits are computed for the new frame alone.
Actions and past frames are embedded by the same code, with the same weights, dtype, device and threads as the
session that it stands beside.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.backends.decode_loop import EagerLoop, ProbedPasses
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import signed
from genie_rt.runtime.images import Picture
from genie_rt.runtime.model.dynamics import previous_frame
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan


class RecomputedRollout:
    """Goes on from known frames by the paper's recipe, one frame per `step`.

    Args:
        model: whose weights, dtype and device are used. Shared, not copied.
        tokens: `[T, N]` int64, the known frames' tokens; those before the last `W - 1` have no effect.
        actions: entry `t` led to frame `t`.
        frame_index: of the last known frame.
        seed: 64 bits.

    Attributes:
        tokens: `[1, T, N]` int64, the last frames.
        stats: what the last step took, None before the first; the tokens of all frames of each pass count.
    """

    def __init__(
        self,
        model: WorldModel,
        tokens: Tensor,
        actions: Sequence[int],
        frame_index: int,
        *,
        plan: Plan,
        seed: int,
    ) -> None:
        config = model.config
        self.model, self.device = model, model.tokenizer.codebook.device
        with torch.inference_mode():
            self.table = model.token_table()  # [V, E]
        self.config = config
        self.plan = plan.replace(reuse="none")
        self.window = config.dynamics.transformer.window
        self.decoder_window = config.tokenizer.decoder.window
        self.tokens = tokens[None].to(self.device)
        self._actions = list(actions)
        self._frame_index = frame_index
        self._seed = seed
        self.stats: FrameStats | None = None

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

        def logits(tokens: Tensor, k: int) -> Tensor:
            clip = torch.cat([known, tokens[:, None]], 1)  # [1, T, N]
            previous = previous_frame(clip)
            hidden, _ = self.model.dynamics(clip, previous, led, self.table, ages)
            return self.model.dynamics.logits(hidden[:, -1:], previous[:, -1:], self.table)[:, 0]

        seeds, frames = (
            torch.tensor([key], device=self.device) for key in (signed(self._seed), self._frame_index)
        )
        passes = ProbedPasses(self.plan, self.config, seeds, frames, logits)
        loop = EagerLoop(passes, self.plan, self.config, seeds, frames)
        tokens = loop.run()
        count = loop.num_passes
        self.stats = FrameStats(passes=count, tokens=count * len(actions) * tokens.shape[1])
        return tokens

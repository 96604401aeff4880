"""Strongest plain PyTorch baseline: ring buffers for past keys and values, one compiled frame.

The same model, weights and decisions as a session, the way a good user of PyTorch would serve them: per layer
a preallocated ring of past keys and values that is written in place, `scaled_dot_product_attention` for both
attentions, and all passes of a frame, its sampling, the commit of the frame before and the decoder in one
function under `torch.compile(mode="max-autotune", fullgraph=True)`, which on a GPU replays it as a CUDA
graph. Nothing of it is this project's own but the plain-torch references of the random numbers, the norm and
the sampling rule, which the compiler sees through.

The last frame is committed in the first pass, over the tokens of both frames: a session does so too.

Axes: `T` frames of one evaluation (2 in the first pass, else 1), `P` positions, `R` slots of a ring, `N`
tokens, `D` width, `H` heads, `Dh` head width, `L` layers, `W` window, `K` passes, `V` codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from genie_rt.errors import InputError
from genie_rt.kernels.maskgit_sample.reference import sample
from genie_rt.kernels.mlp.reference import mlp
from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.patchify.reference import to_uint8, unpatchify
from genie_rt.kernels.philox.reference import uniforms_of_passes
from genie_rt.kernels.vq_lookup.reference import lookup_code
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import signed
from genie_rt.runtime.images import Picture
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.model.transformer import STBlock, STTransformer
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan

WARM_UP_FRAMES = 3
"""Frames after which nothing happens for the first time: compiled, run once, captured, and now replayed."""

COMPILER = "inductor"


class CompiledRollout:
    """Continue known frames with a compiled frame function, one frame per `step`.

    The tokens are those of a session that played the same frames; a test compares them in float64.

    Args:
        model: whose weights, dtype and device are used. Shared, not copied.
        tokens: `[T, N]` int64, the tokens of all frames since the reset.
        actions: entry `t` led to frame `t`.
        frame_index: of the last known frame.
        plan: order "maskgit". What it says about reuse is left out: every pass computes all tokens.
        seed: 64 bits.
        compiler: back end of `torch.compile`; None runs the same function eagerly.

    Raises:
        InputError: another order, or the frames are not all there.

    Attributes:
        stats: what the last step took, None before the first.
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
        compiler: str | None = COMPILER,
    ) -> None:
        check_plan(plan)
        if not len(tokens) == len(actions) == frame_index + 1:
            raise InputError(
                f"expected the tokens and actions of all {frame_index + 1} frames since the reset, which the "
                f"rings are filled with, found {len(tokens)} and {len(actions)}"
            )
        device = model.tokenizer.codebook.device
        self.frame = FrameFunction(model, plan, seed)
        self.frame.fill(tokens.to(device), actions)
        self.stats: FrameStats | None = None
        self._actions = [
            torch.tensor([index], device=device) for index in range(model.config.dynamics.num_actions)
        ]
        self._num_steps = 0
        self._is_compiled = compiler is not None
        self._run: Callable[[Tensor], Tensor] = self.frame
        if compiler is not None:
            mode = "max-autotune" if device.type == "cuda" and compiler == COMPILER else None
            self._run = torch.compile(self.frame, backend=compiler, mode=mode, fullgraph=True, dynamic=False)

    @property
    def tokens(self) -> Tensor:
        """The last frame's tokens, `[1, 1, N]` int64."""
        return self.frame.tokens[:, None]

    @torch.no_grad()
    def step(self, action: int) -> Picture:
        """Return the frame that an action leads to, `[Hout, Wout, 3]` uint8.

        The first `WARM_UP_FRAMES` steps compile and capture, which takes minutes.
        """
        # the hundreds of weights are the same ones: checking that they are would cost a small frame a tenth
        is_known = self._is_compiled and self._num_steps >= WARM_UP_FRAMES
        with torch.compiler.set_stance(skip_guard_eval_unsafe=True) if is_known else nullcontext():
            picture = self._run(self._actions[action]).cpu().numpy()
        self._num_steps += 1
        passes = self.frame.plan.passes
        self.stats = FrameStats(passes=passes, tokens=passes * self.frame.tokens.shape[1])
        return picture


def check_plan(plan: Plan) -> None:
    """Raise `InputError` if the compiled baseline cannot decode a plan."""
    if plan.order != "maskgit":
        raise InputError(
            f'the compiled baseline decodes plans of order "maskgit" alone, found {plan.order!r}; choose '
            "such a plan, or leave the baseline out (--no-compiled)"
        )


class FrameFunction(nn.Module):
    """Compute one frame over static buffers: an action in, a picture out; all state is kept inside.

    Args:
        model: whose modules are called. seed: 64 bits.
    """

    tokens: Tensor
    action: Tensor
    frame_index: Tensor
    seed: Tensor
    table: Tensor

    def __init__(self, model: WorldModel, plan: Plan, seed: int) -> None:
        super().__init__()
        config, device = model.config, model.tokenizer.codebook.device
        num_tokens = config.tokenizer.num_tokens
        self.model, self.plan = model, plan
        self.dynamics = RingTransformer(model.dynamics.transformer, config.num_positions, num_frames=2)
        self.decoder = RingTransformer(model.tokenizer.decoder, num_tokens, num_frames=1)
        buffers = {
            "tokens": torch.full((1, num_tokens), UNDECIDED, device=device),
            "action": torch.full((1,), 0, device=device),
            "frame_index": torch.full((1,), -1, device=device),
            "seed": torch.tensor([signed(seed)], device=device),
            "table": model.token_table().detach().clone(),  # [V, E]
        }
        for name, buffer in buffers.items():
            self.register_buffer(name, buffer, persistent=False)

    @torch.no_grad()
    def fill(self, tokens: Tensor, actions: Sequence[int]) -> None:
        """Load the frames since the reset, `[T, N]`. The last one stays pending, as in a session."""
        for index, (frame, action) in enumerate(zip(tokens, actions, strict=True)):
            if index:
                self.dynamics(self._embed(self.tokens, self.tokens, self.action), self.frame_index)
            self.tokens.copy_(frame[None])
            self.action.fill_(action)
            self.frame_index.fill_(index)
            self._decode(self.tokens, self.frame_index)

    def forward(self, action: Tensor) -> Tensor:
        """The next frame.

        Args:
            action: `[1]` int64, the one that leads to it.

        Returns:
            `[Hout, Wout, 3]` uint8.
        """
        plan, last, newest = self.plan, self.tokens, self.frame_index + 1
        num_tokens = last.shape[1]
        counting = torch.arange(num_tokens, device=last.device)
        u, noise_u = uniforms_of_passes(self.seed, newest, counting[: plan.passes], counting)  # [1, K, N]
        tokens = torch.full_like(last, UNDECIDED)
        for k in range(plan.passes):
            x = self._embed(tokens, last, action)  # [1, 1, P, D]
            if k == 0:
                x = torch.cat([self._embed(last, last, self.action), x], 1)
            hidden = self.dynamics(x, newest)[:, -1:]
            logits = self.model.dynamics.logits(hidden, last[:, None], self.table)[:, 0]  # [1, N, V]
            tokens = self._decide(k, logits, tokens, u[:, k], noise_u[:, k])
        picture = self._decode(tokens, newest)
        self.tokens.copy_(tokens)
        self.action.copy_(action)
        self.frame_index.copy_(newest)
        return picture

    def _embed(self, tokens: Tensor, previous: Tensor, action: Tensor) -> Tensor:
        """Embed one frame's inputs, `[1, 1, P, D]`."""
        return self.model.dynamics.embed(tokens[:, None], previous[:, None], action[:, None], self.table)

    def _decide(self, pass_index: int, logits: Tensor, tokens: Tensor, u: Tensor, noise_u: Tensor) -> Tensor:
        """Decide the tokens of a pass: `maskgit_sample` where it is known how many are decided before."""
        plan, num_tokens = self.plan, tokens.shape[1]
        candidates, p = sample(logits, u, plan.temperature)
        decided = tokens != UNDECIDED
        done = plan.decided_after(pass_index - 1, num_tokens) if pass_index else 0
        keep = plan.decided_after(pass_index, num_tokens) - done
        if done + keep == num_tokens:  # all that remain, whatever their rank
            return torch.where(decided, tokens, candidates)
        confidence = p.log()
        if noise := plan.noise_in(pass_index):
            gumbel = -(-(noise_u.double() + 2.0**-25).log()).log()
            confidence = confidence + noise * gumbel.to(p.dtype)
        confidence = confidence.masked_fill(decided, -torch.inf)
        chosen = confidence.sort(dim=-1, descending=True, stable=True).indices[:, :keep]
        return tokens.scatter(1, chosen, candidates.gather(1, chosen))

    def _decode(self, tokens: Tensor, newest: Tensor) -> Tensor:
        """Decode a frame's tokens into its picture, `[Hout, Wout, 3]` uint8."""
        tokenizer = self.model.tokenizer
        config = tokenizer.config
        vectors = lookup_code(tokens[:, None], tokenizer.codebook)  # [1, 1, N, d]
        x = self.decoder(tokenizer.code_out(vectors) + tokenizer.decoder_position, newest)
        pixels = unpatchify(tokenizer.patch_out(x), config.decoder_patch, *config.output_size)
        return to_uint8(pixels[0, 0])


class RingTransformer(nn.Module):
    """An ST transformer whose layers keep the last frames' keys and values in rings.

    Frame `f` lies in slot `f mod R`. With `R = W + num_frames - 1` slots every one of the newest `num_frames`
    frames finds its whole window when all of them are evaluated at once.

    Args:
        num_positions: `P`. num_frames: the most frames of one evaluation.
    """

    bias: Tensor
    counting: Tensor

    def __init__(self, transformer: STTransformer, num_positions: int, *, num_frames: int) -> None:
        super().__init__()
        self.transformer = transformer
        self.window = transformer.config.window
        self.num_slots = self.window + num_frames - 1
        blocks = [block for block in transformer.blocks if isinstance(block, STBlock)]
        self.layers = nn.ModuleList(RingBlock(block, num_positions, self.num_slots) for block in blocks)
        bias = torch.stack([block.temporal.age_bias.detach() for block in blocks])  # [L, H, W]
        self.register_buffer("bias", bias, persistent=False)
        self.register_buffer("counting", torch.arange(self.num_slots, device=bias.device), persistent=False)

    def forward(self, x: Tensor, newest: Tensor) -> Tensor:
        """Run all blocks on the newest frames, whose keys and values are written to the rings.

        Args:
            x: `[1, T, P, D]`. newest: `[1]` int64, index of the last of these frames.

        Returns:
            `[1, T, P, D]` after the final norm.
        """
        frames = newest - torch.arange(x.shape[1] - 1, -1, -1, device=x.device)  # [T]
        slots = frames % self.num_slots
        bias = self._biases(frames, newest).to(x.dtype)  # [L, 1, H, T, R]
        for layer, block in enumerate(self.layers):
            x = block(x, slots, bias[layer])
        return self.transformer.norm(x)

    def _biases(self, frames: Tensor, newest: Tensor) -> Tensor:
        """Attention bias of every layer: `[L, 1, H, T, R]`, -inf at frames that are not seen."""
        held = newest - (newest - self.counting) % self.num_slots  # [R], the frame in each slot
        ages = frames[:, None] - held  # [T, R]
        seen = (ages >= 0) & (ages < self.window) & (held >= 0)
        bias = self.bias[:, :, ages.clamp(0, self.window - 1)]  # [L, H, T, R]
        return bias.masked_fill(~seen, -torch.inf)[:, None]


class RingBlock(nn.Module):
    """`STBlock` whose temporal attention reads and writes a ring, `[R, P, H, Dh]` keys and values."""

    keys: Tensor
    values: Tensor

    def __init__(self, block: STBlock, num_positions: int, num_slots: int) -> None:
        super().__init__()
        self.block = block
        weight = block.up.weight
        for name in ("keys", "values"):
            ring = weight.new_zeros(num_slots, num_positions, *block.temporal.heads)
            self.register_buffer(name, ring, persistent=False)

    def forward(self, x: Tensor, slots: Tensor, bias: Tensor) -> Tensor:
        """Run one block: `[1, T, P, D]` to the same shape.

        Args:
            slots: `[T]` int64, where these frames go. bias: `[1, H, T, R]`.
        """
        block = self.block
        x = x + block.spatial(block.spatial_norm(x))
        attention = block.temporal
        q, k, v = attention.project(block.temporal_norm(x))  # [1, T, P, H, Dh]
        q, k = rms_norm(q, attention.q_norm), rms_norm(k, attention.k_norm)
        self.keys.index_copy_(0, slots, k[0])
        self.values.index_copy_(0, slots, v[0])
        q, k, v = (part.permute(1, 2, 0, 3) for part in (q[0], self.keys, self.values))  # [P, H, ., Dh]
        out = scaled_dot_product_attention(q, k, v, attn_mask=bias).permute(2, 0, 1, 3)  # [T, P, H, Dh]
        x = x + attention.out(out.flatten(2)[None])
        return x + mlp(block.mlp_norm(x), block.up.weight, block.down.weight)

"""The `reference` back end: the definition with pages, in plain torch; the yardstick of all other ones."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.kernels.maskgit_sample.reference import maskgit_sample
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.philox.reference import uniforms
from genie_rt.kernels.vq_lookup.reference import nearest_code
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.model.transformer import KeysValues
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.pages import PagePool, Pages
from genie_rt.runtime.plan import Plan


class ReferenceBackend:
    """Runs a `WorldModel` with one page per past frame.

    Args:
        model: moved to `device` and `dtype`, its gradients switched off.
        dtype: torch.float64, float32 or bfloat16.
    """

    def __init__(self, model: WorldModel, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model.to(device=device, dtype=dtype).requires_grad_(False).eval()
        self.device = device
        self.dtype = dtype
        config = model.config
        num_tokens = config.tokenizer.num_tokens
        self.dynamics_pages = PagePool(config.dynamics.transformer, config.num_positions, dtype, device)
        self.encoder_pages = PagePool(config.tokenizer.encoder, num_tokens, dtype, device)
        self.decoder_pages = PagePool(config.tokenizer.decoder, num_tokens, dtype, device)
        with torch.inference_mode():
            self.table = model.token_table()  # [V, E]

    @torch.inference_mode()
    def prefill(self, row_seed: int, frames: Tensor, actions: Sequence[int]) -> tuple[Row, Tensor]:
        """See `Backend.prefill`."""
        none = torch.empty(0, dtype=torch.int64, device=self.device)
        row = Row(
            seed=row_seed, frame_index=-1, tokens=none, action=actions[0], pending=False,
            dynamics=(), encoder=(), decoder=(),
        )  # fmt: skip
        picture = frames[0]
        for frame, action in zip(frames.to(self.device), actions, strict=True):
            if row.pending:
                (row,) = self.commit([row])
            tokens, encoder = self._encode(frame, row.encoder)
            picture, decoder = self._decode(tokens, [row.decoder])
            row = replace(
                row, frame_index=row.frame_index + 1, tokens=tokens[0], action=action, pending=True,
                encoder=encoder, decoder=decoder[0],
            )  # fmt: skip
        return replace(row, encoder=()), picture[0]

    @torch.inference_mode()
    def frame(
        self, rows: Sequence[Row], actions: Sequence[int], plan: Plan
    ) -> tuple[list[Row], Tensor, FrameStats]:
        """See `Backend.frame`."""
        previous = torch.stack([row.tokens for row in rows])  # [B, N]
        action = torch.tensor(actions, device=self.device)
        history, ages = self.dynamics_pages.history([row.dynamics for row in rows])
        seeds = torch.tensor([_signed(row.seed) for row in rows], device=self.device)
        frames = torch.tensor([row.frame_index + 1 for row in rows], device=self.device)

        tokens = torch.full_like(previous, UNDECIDED)
        decided = torch.zeros_like(tokens, dtype=torch.bool)
        num_tokens, done = tokens.shape[1], 0
        for pass_index in range(plan.passes):
            target = plan.decided_after(pass_index, num_tokens)
            logits = self._logits(tokens, previous, action, history, ages)  # [B, N, V]
            u, noise_u = uniforms(seeds, frames, pass_index, num_tokens)
            tokens, decided = maskgit_sample(
                logits, tokens, decided, u, noise_u,
                keep=target - done, temperature=plan.temperature, noise=plan.noise_in(pass_index),
            )  # fmt: skip
            done = target
            if done == num_tokens:
                break

        pictures, decoder = self._decode(tokens, [row.decoder for row in rows])
        new_rows = [
            replace(
                row, frame_index=row.frame_index + 1, tokens=tokens[i], action=int(actions[i]), pending=True,
                decoder=decoder[i],
            )
            for i, row in enumerate(rows)
        ]  # fmt: skip
        return new_rows, pictures, FrameStats(passes=pass_index + 1)

    @torch.inference_mode()
    def commit(self, rows: Sequence[Row]) -> list[Row]:
        """See `Backend.commit`."""
        tokens = torch.stack([row.tokens for row in rows])[:, None]
        action = torch.tensor([row.action for row in rows], device=self.device)[:, None]
        pool = self.dynamics_pages
        history, ages = pool.history([row.dynamics for row in rows])
        _, kept = self.model.dynamics(tokens, tokens, action, self.table, ages, history)
        return [
            replace(row, pending=False, dynamics=pool.push(row.dynamics, pool.write(kept, i)))
            if row.pending
            else row
            for i, row in enumerate(rows)
        ]

    def _logits(
        self, tokens: Tensor, previous: Tensor, action: Tensor, history: list[KeysValues] | None, ages: Tensor
    ) -> Tensor:
        """One pass: `[B, N]` tokens, partly undecided, to `[B, N, V]` scores."""
        dynamics = self.model.dynamics
        hidden, kept = dynamics(
            tokens[:, None], previous[:, None], action[:, None], self.table, ages, history
        )
        logits = dynamics.logits(hidden, previous[:, None], self.table)[:, 0]
        _check_finite("dynamics", logits, kept)
        return logits

    def _encode(self, frame: Tensor, pages: Pages) -> tuple[Tensor, Pages]:
        """One picture `[H, W, 3]` uint8 after those of `pages`, to tokens `[1, N]`."""
        pool = self.encoder_pages
        history, ages = pool.history([pages])
        tokenizer = self.model.tokenizer
        vectors, kept = tokenizer.encode_vectors(frame[None, None], ages, history)
        _check_finite("tokenizer's encoder", vectors, kept)
        return nearest_code(vectors[:, 0], tokenizer.codebook), pool.push(pages, pool.write(kept, 0))

    def _decode(self, tokens: Tensor, rows: list[Pages]) -> tuple[Tensor, list[Pages]]:
        """Tokens `[B, N]` after the frames of `rows`' pages, to pictures `[B, Hout, Wout, 3]` uint8."""
        pool = self.decoder_pages
        history, ages = pool.history(rows)
        pictures, kept = self.model.tokenizer.decode(tokens[:, None], ages, history)
        _check_finite("tokenizer's decoder", pictures, kept)
        return to_uint8(pictures[:, 0]), [
            pool.push(pages, pool.write(kept, i)) for i, pages in enumerate(rows)
        ]


def _signed(seed: int) -> int:
    """The 64 bits of a seed as a signed integer, as int64 tensors hold them."""
    return seed - (1 << 64) if seed >= 1 << 63 else seed


def _check_finite(part: str, out: Tensor, kept: list[KeysValues]) -> None:
    """Raises `DeviceError` where `out` is not finite, naming the layers whose keys and values still are."""
    if torch.isfinite(out.sum()) or torch.isfinite(out).all():  # the sum is cheaper, and rarely overflows
        return
    places = ["the input", *(f"layer {layer}" for layer in range(len(kept))), "the output"]
    broken = [not all(torch.isfinite(x).all() for x in keys_values) for keys_values in kept]
    first = [*broken, True].index(True)
    raise DeviceError(
        f"the {part} of {len(kept)} layers gave NaN or Inf, first between {places[first]} and "
        f"{places[first + 1]}; the weights are broken or the precision is too narrow: try float32, or check "
        "the bundle"
    )

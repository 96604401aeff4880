"""Runs a world on many clips at once: what a session does, with whole prompts and batches of rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genie_rt.errors import UnsupportedError
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.backends.decide import change_of
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.model.dynamics import NULL_ACTION, previous_frame
from genie_rt.runtime.model.transformer import KeysValues
from genie_rt.runtime.pages import Page, PagePool
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World
from genie_rt.training.data.store import Actions, Frames


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prompted:
    """Clips that the model has seen.

    Attributes:
        frames: `[B, T, H, W, 3]` uint8, every frame as the tokenizer gives it back.
        rows: by number of frames seen, the state of each clip after so many: committed, with all that any
            plan may keep.
        tokens: `[B, T, N]` int64, of the frames; None where the model has none.
    """

    frames: Frames
    rows: dict[int, list[Row]]
    tokens: Tensor | None = None


class Rollouts(Protocol):
    """What is measured. `ModelRollouts` is a world; tests have simpler ones."""

    def prompt(self, frames: Frames, actions: Actions, seen: Sequence[int], seeds: Sequence[int]) -> Prompted:
        """Shows clips to the model.

        Args:
            frames: `[B, T, H, W, 3]` uint8. actions: `[B, T]`, which led to them; the first is not looked at.
            seen: after how many frames a state is wanted, 1 to T each.
            seeds: `B` 64-bit seeds, one a clip.
        """
        ...

    def play(self, rows: Sequence[Row], actions: Actions, plan: Plan) -> Frames:
        """The frames that actions `[B, S]` lead to: `[B, S, H, W, 3]` uint8."""
        ...


class ModelRollouts:
    """A world on the `reference` back end.

    Raises:
        UnsupportedError: the world runs on another back end, or its output differs in size from its input.
    """

    def __init__(self, world: World) -> None:
        if not isinstance(world.backend, ReferenceBackend):
            raise UnsupportedError(
                f'expected the back end "reference", found {type(world.backend).__name__}; '
                'load the world with backend="reference"'
            )
        config = world.bundle.config.tokenizer
        if world.output_size != (config.height, config.width):
            raise UnsupportedError(
                f"expected a world whose frames have its pictures' size, {config.height}x{config.width}, "
                f"found {world.output_size[0]}x{world.output_size[1]}: there is no truth of that size"
            )
        self.backend = world.backend

    @torch.inference_mode()
    def prompt(self, frames: Frames, actions: Actions, seen: Sequence[int], seeds: Sequence[int]) -> Prompted:
        """See `Rollouts.prompt`. Evaluates all frames at once; their pages are those of one by one."""
        backend, model = self.backend, self.backend.model
        config, length = model.config, frames.shape[1]
        device = backend.device
        encoder_ages, decoder_ages, ages = (
            causal_ages(length, side.window, device)
            for side in (config.tokenizer.encoder, config.tokenizer.decoder, config.dynamics.transformer)
        )
        tokens, _ = model.tokenizer.encode(torch.from_numpy(frames).to(device), encoder_ages)  # [B, T, N]
        pictures, decoded = model.tokenizer.decode(tokens, decoder_ages)
        led_by = torch.from_numpy(actions).to(device, copy=True)
        led_by[:, 0] = NULL_ACTION
        _, kept = model.dynamics(tokens, previous_frame(tokens), led_by, backend.table, ages)
        first = [
            Row(
                seed=seed,
                frame_index=0,
                tokens=tokens[clip, 0],
                action=NULL_ACTION,
                pending=True,
                dynamics=(),
                encoder=(),
                decoder=(),
                spatial=(),
                change=torch.zeros(config.num_positions, device=device),
            )
            for clip, seed in enumerate(seeds)
        ]
        change = self._change(first, tokens)
        rows: dict[int, list[Row]] = {count: [] for count in seen}
        for clip, row in enumerate(first):
            decoder = _Pages(backend.decoder_pages, decoded, clip)
            dynamics = _Pages(backend.dynamics_pages, kept, clip)
            for count in seen:
                last = count - 1
                state = replace(
                    row,
                    frame_index=last,
                    tokens=tokens[clip, last],
                    action=int(led_by[clip, last]),
                    dynamics=dynamics.before(last),
                    decoder=decoder.before(count),
                    change=change[last][clip],
                )
                rows[count].append(state)
        rows = {count: backend.commit(pending) for count, pending in rows.items()}
        return Prompted(frames=to_uint8(pictures).cpu().numpy(), rows=rows, tokens=tokens)

    def _change(self, rows: list[Row], tokens: Tensor) -> list[Tensor]:
        """What the rows' `change` is after each of the frames `[B, T, N]`: `[B, P]` each."""
        scores = [torch.stack([row.change for row in rows])]
        for new in tokens[:, 1:].unbind(1):
            scores.append(change_of(rows, new, self.backend.members, self.backend.config))
            rows = [replace(row, tokens=new[i], change=scores[-1][i]) for i, row in enumerate(rows)]
        return scores

    def play(self, rows: Sequence[Row], actions: Actions, plan: Plan) -> Frames:
        """See `Rollouts.play`."""
        return np.stack([shown for shown, _ in self.steps(rows, actions, plan)], axis=1)

    def steps(
        self, rows: Sequence[Row], actions: Actions, plan: Plan
    ) -> Iterator[tuple[Frames, list[FrameStats]]]:
        """As `play`, step by step: `[B, H, W, 3]` uint8, and what each clip's frame took."""
        current = list(rows)
        for led_by in actions.T.tolist():
            current, pictures, stats = self.backend.frame(current, led_by, plan)
            assert pictures is not None  # none were declined
            yield pictures.cpu().numpy(), stats


class _Pages:
    """The pages of one clip, each written once, when the first row needs it."""

    def __init__(self, pool: PagePool, kept: list[KeysValues], clip: int) -> None:
        self._pool, self._kept, self._clip = pool, kept, clip
        self._written: dict[int, Page] = {}

    def before(self, frame: int) -> tuple[Page, ...]:
        """Pages of the frames that frame `frame` attends to, newest first."""
        first = max(0, frame - self._pool.window + 1)
        return tuple(self._page(index) for index in range(frame - 1, first - 1, -1))

    def _page(self, frame: int) -> Page:
        if frame not in self._written:
            one = [(keys[:, frame : frame + 1], values[:, frame : frame + 1]) for keys, values in self._kept]
            self._written[frame] = self._pool.write(one, self._clip)
        return self._written[frame]

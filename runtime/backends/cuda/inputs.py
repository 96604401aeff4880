"""What changes from frame to frame, in one piece of memory that one copy brings to the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from genie_rt.runtime.backends.row import signed

NO_PAGE = -1
ALIGNMENT = 16
"""Alignment of each part, in bytes: what kernels are specialised for."""

WORDS = ("seed", "frame_index", "action", "last_action", "slot_in", "slot_out", "spatial_in", "spatial_out")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowInputs:
    """Inputs of one row.

    Attributes:
        seed, frame_index: of the new frame's random numbers. action: that leads to it.
        last_action: that led to the last frame.
        slot_in, slot_out: of the last frame's tokens and the new one's.
        last: page of the last frame, to be written where the row is pending.
        past: pages of the frames before it, newest first.
        decoder: page of the new frame. decoder_past: pages of the frames before it.
        spatial_in, spatial_out: pages of what spatial attention saw in the first pass.
    """

    seed: int = 0
    frame_index: int = 0
    action: int = 0
    last_action: int = 0
    slot_in: int = 0
    slot_out: int = 0
    last: int = NO_PAGE
    past: Sequence[int] = ()
    decoder: int = NO_PAGE
    decoder_past: Sequence[int] = ()
    spatial_in: int = 0
    spatial_out: int = 0


class Inputs:
    """Static inputs of a batch of `R` rows. Filled on the host, sent with one copy.

    Attributes:
        words: `[8, R]` int64, one row for each of `WORDS`.
        fused: `[R, W + 1]` int32: pages by age, none for the new frame, that of the last frame, the past.
        later: `[R, W]` int32: the same but for the oldest, which the new frame does not see.
        commit: `[R, W]` int32: the last frame's own page first.
        decoder: `[R, Wd]` int32: the new frame's own page first.
    """

    def __init__(self, num_rows: int, window: int, decoder_window: int, device: torch.device) -> None:
        shapes = {
            "words": (len(WORDS), num_rows),
            "fused": (num_rows, window + 1),
            "later": (num_rows, window),
            "commit": (num_rows, window),
            "decoder": (num_rows, decoder_window),
        }
        spans, num_bytes = {}, 0
        for name, (rows, width) in shapes.items():
            size = rows * width * (8 if name == "words" else 4)
            spans[name] = slice(num_bytes, num_bytes + size)
            num_bytes += -(-size // ALIGNMENT) * ALIGNMENT
        self._on_device = torch.zeros(num_bytes, dtype=torch.uint8, device=device)
        self._is_cuda = device.type == "cuda"
        self._hosts = [torch.zeros(num_bytes, dtype=torch.uint8, pin_memory=self._is_cuda) for _ in range(2)]
        self._sent: list[torch.cuda.Event | None] = [None, None]
        self._turn = 0

        def part(memory: Tensor, name: str) -> Tensor:
            kind = torch.int64 if name == "words" else torch.int32
            return memory[spans[name]].view(kind).view(shapes[name])

        self.words, self.fused, self.later, self.commit, self.decoder = (
            part(self._on_device, name) for name in shapes
        )
        self._views = [{name: part(host, name).numpy() for name in shapes} for host in self._hosts]
        self.num_rows, self.window, self.decoder_window = num_rows, window, decoder_window

    def column(self, name: str) -> Tensor:
        """`[R]` int64, contiguous, one of `WORDS`."""
        return self.words[WORDS.index(name)]

    def send(self, rows: Sequence[RowInputs]) -> None:
        """Fills in up to `R` rows, blanks in the others' place, and sends them; does not wait for it.

        There are two buffers on the host, so it waits for nothing but the copy before the last one.
        """
        turn, self._turn = self._turn, 1 - self._turn
        if (sent := self._sent[turn]) is not None:
            sent.synchronize()
        view = self._views[turn]
        blank = RowInputs()
        for i in range(self.num_rows):
            row = rows[i] if i < len(rows) else blank
            view["words"][:, i] = (
                signed(row.seed), row.frame_index, row.action, row.last_action,
                row.slot_in, row.slot_out, row.spatial_in, row.spatial_out,
            )  # fmt: skip
            ages = [row.last, *row.past]
            ages += [NO_PAGE] * (self.window - len(ages))
            view["commit"][i] = ages[: self.window]
            view["fused"][i, 0] = view["later"][i, 0] = NO_PAGE
            view["fused"][i, 1:] = ages[: self.window]
            view["later"][i, 1:] = ages[: self.window - 1]
            decoder = [row.decoder, *row.decoder_past]
            view["decoder"][i] = decoder + [NO_PAGE] * (self.decoder_window - len(decoder))
        self._on_device.copy_(self._hosts[turn], non_blocking=True)
        if self._is_cuda:
            self._sent[turn] = event = self._sent[turn] or torch.cuda.Event()
            event.record()

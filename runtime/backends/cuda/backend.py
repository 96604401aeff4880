"""The `cuda` back end: static memory, Triton kernels and cuBLAS, one graph a frame."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.kernels.launch import capability_of
from genie_rt.kernels.maskgit_sample import maskgit_sample
from genie_rt.kernels.patchify import patchify
from genie_rt.kernels.vq_lookup import vq_lookup
from genie_rt.runtime.backends.cuda.budget import FRAME_SLOTS, MemoryBudget, available_bytes, log
from genie_rt.runtime.backends.cuda.capture import CapturedFrame, GraphCapture
from genie_rt.runtime.backends.cuda.frame import Frame, Kind, Memory
from genie_rt.runtime.backends.cuda.inputs import NO_PAGE, RowInputs
from genie_rt.runtime.backends.cuda.packed import PackedModel, pack
from genie_rt.runtime.backends.cuda.pages import FrameMemory, PageMemory, settle
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.backends.cuda.stream_order import StreamOrder, Verdicts
from genie_rt.runtime.backends.cuda.transformer import evaluate
from genie_rt.runtime.backends.finite import not_finite
from genie_rt.runtime.backends.frame_reuse import Carried
from genie_rt.runtime.backends.paged import PagedBackend
from genie_rt.runtime.backends.protocol import FrameStats, Probe
from genie_rt.runtime.backends.registry import BuildRequest
from genie_rt.runtime.backends.row import Row, check_decoded, is_shared
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.pages import Page, Pages
from genie_rt.runtime.plan import Plan

MAX_FRAMES = 64
"""Captured frames that are kept; the one that was not used for longest goes first."""

KINDS = 4
"""Kinds of frames of one number of rows: committed or pending, with something to reuse or without."""

MAX_ROWS = 1024
"""Most rows of one batch; more are computed in several. A power of two, to which batches are filled up."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class CudaRow(Row):
    """A `Row` whose tokens, and what it carries, lie in the back end's memory, where `slot` keeps them."""

    slot: Page


class CudaBackend(PagedBackend):
    """Runs a packed model.

    Several threads may call it, on several streams; one call runs after the other, on the device too.

    Args:
        model: a `WorldModel`, anywhere.
        precision: of weights and activations.
        device: a CUDA device; a CPU runs the operators' references in the same order.
        num_sessions: whose pages there is room for from the start; see `reserve`.
        release: takes the weights away from `model` while they are packed.

    Raises:
        UnsupportedError: the device cannot compute in that precision.
        DeviceError: there is not enough memory.
    """

    name = "cuda"
    encoder_pages: PageMemory
    decoder_pages: PageMemory
    batch_invariant = False  # cuBLAS chooses its algorithm by the number of rows
    arithmetic = None
    definition = None

    def __init__(
        self,
        model: WorldModel,
        precision: Precision,
        device: torch.device,
        *,
        num_sessions: int = 1,
        release: bool = False,
    ) -> None:
        self.device, self.config, self.precision = device, model.config, precision
        self.dtype = precision.activations
        config, tokens, pages = self.config, self.config.tokenizer.num_tokens, precision.tokenizer.pages
        self._order = StreamOrder(device)
        self._verdicts = Verdicts()
        self._graphs = GraphCapture(device)
        self._frames: OrderedDict[tuple[Plan, Kind], CapturedFrame] = OrderedDict()
        self._where: tuple[tuple[int, int], ...] = ()  # the memory that they know
        if device.type == "cuda":
            budget = MemoryBudget.of(config, precision, num_sessions=num_sessions)
            log(budget)
            budget.check(available_bytes(model, device, release=release), capability=capability_of(device))
        with self._order.take(), torch.inference_mode():
            self.model: PackedModel = pack(model, precision, device, release=release)
            self.weight_bytes = self.model.num_bytes
            self.dynamics_pages = PageMemory(
                config.dynamics.transformer, config.num_positions, precision.pages, device
            )
            self.encoder_pages = PageMemory(config.tokenizer.encoder, tokens, pages, device)
            self.decoder_pages = PageMemory(config.tokenizer.decoder, tokens, pages, device)
            self.memory = Memory(
                dynamics=self.dynamics_pages,
                decoder=self.decoder_pages,
                frames=FrameMemory(tokens, config.num_positions, device),
            )
        self.reserve(num_sessions)

    @torch.inference_mode()
    def reserve(self, num_sessions: int) -> None:
        """See `Backend.reserve`. Waits for the device where memory moves."""
        with self._order.take():
            dynamics, decoder = self.memory.dynamics, self.memory.decoder
            dynamics.reserve(num_sessions * dynamics.window)
            decoder.reserve(num_sessions * decoder.window + self.config.dynamics.num_actions)
            self.memory.frames.reserve(max(FRAME_SLOTS, 2 * num_sessions + 1))

    def commits_ahead(self, plan: Plan) -> bool:
        """Where frames commit apart from their first pass, as with reuse; see `Backend.commits_ahead`.

        Elsewhere both are one evaluation of two frames, which adds in another order than one of each.
        """
        return plan.reuse != "none"

    def batches(self, plan: Plan, most: int) -> tuple[int, ...]:
        """Powers of two, to which rows are filled up, or all that frames of this plan are captured for."""
        most = min(most, MAX_ROWS)
        if plan.reuse == "frames":  # not filled up
            return tuple(range(1, most + 1))[-MAX_FRAMES // KINDS :]  # more would push each other out
        return (*(size for size in (1 << bit for bit in range(10)) if size < most), most)

    def prefill(self, seed: int, frames: Tensor, actions: Sequence[int]) -> tuple[Row, Tensor]:
        """See `Backend.prefill`."""
        with self._order.take():
            row, picture = super().prefill(seed, frames, actions)
            self.check()
            return row, picture

    @torch.inference_mode()
    def frame(
        self, rows: Sequence[Row], actions: Sequence[int], plan: Plan, *, decode: bool = True
    ) -> tuple[list[Row], Tensor | None, list[FrameStats]]:
        """See `Backend.frame`. Whether logits or pixels were finite is found out by the next call."""
        with self._order.take():
            self.check()
            if decode:
                check_decoded(rows, self.memory.decoder.window)
            if is_shared(rows) and len(rows) > 1 and rows[0].pending:
                rows = self._commit(rows)  # its page is written once
            kinds = [(row.pending, plan.reuse == "frames" and row.carried is not None) for row in rows]
            parts = []
            for kind, chosen in _batches(kinds):
                mine, led_by = [rows[i] for i in chosen], [actions[i] for i in chosen]
                parts.append((chosen, self._frame_of_kind(mine, led_by, plan, kind, decode)))
            if len(parts) == 1:
                return parts[0][1]
            new_rows: list[Row | None] = [None] * len(rows)
            stats: list[FrameStats | None] = [None] * len(rows)
            size = (len(rows), *self.config.tokenizer.output_size, 3)
            pictures = torch.empty(size, dtype=torch.uint8, device=self.device) if decode else None
            for chosen, (own_rows, shown, own_stats) in parts:
                for i, row, stat in zip(chosen, own_rows, own_stats, strict=True):
                    new_rows[i], stats[i] = row, stat
                if pictures is not None and shown is not None:
                    pictures[chosen] = shown
            return new_rows, pictures, stats  # type: ignore[return-value]  # all of them are there

    @torch.inference_mode()
    def commit(self, rows: Sequence[Row]) -> list[Row]:
        """See `Backend.commit`."""
        with self._order.take():
            self.check()
            pending = [row for row in rows if row.pending]
            done = iter(self._commit(pending) if pending else ())
            return [next(done) if row.pending else row for row in rows]

    @torch.inference_mode()
    def probe(
        self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor, plan: Plan, pass_index: int
    ) -> Probe:
        """See `Backend.probe`."""
        with self._order.take():
            self.check()
            plan = Plan(passes=1, temperature=plan.temperature, noise=0.0)
            kind = Kind(num_rows=len(rows), pending=False, spatial=False, decode=False)
            frame = Frame(self.model, self.memory, plan, kind)
            frame.inputs.send([_inputs(row, action) for row, action in zip(rows, actions, strict=True)])
            frame.previous.copy_(torch.stack([row.tokens for row in rows]))
            frame.tokens.copy_(tokens)
            logits = frame.scores(frame.hidden())
            candidates = torch.full_like(tokens, UNDECIDED)
            seeds, frames = (frame.inputs.column(name) for name in ("seed", "frame_index"))
            maskgit_sample(logits, candidates, seeds, frames, pass_index, plan.temperature)
            self._raise_if_broken(frame)
            return Probe(logits=logits, candidates=candidates)

    @torch.inference_mode()
    def show(self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor) -> tuple[list[Row], Tensor]:
        """See `Backend.show`."""
        with self._order.take():
            self.check()
            kind = Kind(num_rows=len(rows), pending=False, spatial=False, decode=True)
            frame = Frame(self.model, self.memory, Plan(passes=1), kind)
            pages = [self.decoder_pages.take() for _ in rows]
            frame.inputs.send(
                [
                    _inputs(row, action, decoder=page)
                    for row, action, page in zip(rows, actions, pages, strict=True)
                ]
            )
            frame.tokens.copy_(tokens)
            frame.decode()
            self._raise_if_broken(frame)
            new_rows: list[Row] = [
                self._placed(
                    replace(
                        row, frame_index=row.frame_index + 1, tokens=own, action=int(action), pending=True,
                        decoder=self.decoder_pages.push(row.decoder, page), carried=None,
                    )
                )
                for row, action, own, page in zip(rows, actions, tokens, pages, strict=True)
            ]  # fmt: skip
            return new_rows, frame.rgb

    def save_row(self, row: Row) -> dict[str, Tensor]:
        """See `Backend.save_row`."""
        with self._order.take():
            return super().save_row(row)

    def load_row(
        self, tensors: dict[str, Tensor], *, seed: int, frame_index: int, action: int, pending: bool
    ) -> Row:
        """See `Backend.load_row`."""
        with self._order.take(), torch.inference_mode():
            return self._placed(
                super().load_row(tensors, seed=seed, frame_index=frame_index, action=action, pending=pending)
            )

    @torch.inference_mode()
    def check(self) -> None:
        """Raises `DeviceError` where a frame was not finite, of those computed by now.

        Waits for none. The next call does the same.
        """
        with self._order.take():
            if (broken := self._verdicts.broken()) is not None:
                self._raise_broken(*broken)

    # One kind of rows.

    def _frame_of_kind(
        self, rows: Sequence[Row], actions: Sequence[int], plan: Plan, kind: tuple[bool, bool], decode: bool
    ) -> tuple[list[Row], Tensor | None, list[FrameStats]]:
        pending, spatial = kind
        memory = self.memory
        # taken first: growing moves the memory that a captured frame knows
        last = [memory.dynamics.take() if pending else None for _ in rows]
        slots = [memory.frames.take() for _ in rows]
        shown = [memory.decoder.take() if decode else None for _ in rows]
        around = [memory.dynamics.take() if plan.reuse == "frames" else None for _ in rows]
        pages = [_pushed(memory.dynamics, row.dynamics, page) for row, page in zip(rows, last, strict=True)]
        inputs = [
            _inputs(row, action, slot_out=slot.index, last=page, decoder=picture, spatial_out=spatial_out)
            for row, action, slot, page, picture, spatial_out in zip(
                rows, actions, slots, last, shown, around, strict=True
            )
        ]
        padded = len(rows) if plan.reuse == "frames" else _padded(len(rows))  # its blanks would write a page
        captured = self._captured(
            plan, Kind(num_rows=padded, pending=pending, spatial=spatial, decode=decode)
        )
        frame = captured.frame
        frame.inputs.send(inputs)
        passes = captured.run(self._graphs, len(rows))
        self._verdicts.note(frame)
        new_rows: list[Row] = [
            CudaRow(
                seed=row.seed, frame_index=row.frame_index + 1, tokens=memory.frames.tokens[slot.index],
                action=int(action), pending=True, dynamics=own, slot=slot,
                decoder=_pushed(memory.decoder, row.decoder, picture) if decode else (),
                carried=(
                    None if page is None
                    else Carried(spatial=page, change=memory.frames.change[slot.index])
                ),
            )
            for row, action, slot, own, picture, page in zip(
                rows, actions, slots, pages, shown, around, strict=True
            )
        ]  # fmt: skip
        num_tokens = self.config.tokenizer.num_tokens
        spared = plan.passes * num_tokens - frame.loop.tokens_computed(plan.passes)
        stats = [
            FrameStats(passes=own, tokens=own * num_tokens - spared, cold=captured.cold) for own in passes
        ]
        return new_rows, frame.rgb[: len(rows)].clone() if decode else None, stats

    def _captured(self, plan: Plan, kind: Kind) -> CapturedFrame:
        """The frame of a plan and kind. All are captured anew once memory has moved."""
        memory = self.memory
        kept = (memory.dynamics.memory, memory.decoder.memory, memory.frames.tokens)
        where = tuple((tensor.data_ptr(), len(tensor)) for tensor in kept)
        if where != self._where:
            settle(self.device)
            self._frames.clear()
            self._graphs.forget()
            self._where = where
        key = (plan, kind)
        if key not in self._frames:
            self._frames[key] = CapturedFrame(Frame(self.model, memory, plan, kind))
        self._frames.move_to_end(key)
        while len(self._frames) > MAX_FRAMES:
            settle(self.device)
            self._frames.popitem(last=False)
        return self._frames[key]

    def _commit(self, rows: Sequence[Row]) -> list[Row]:
        """Computes the pages of rows that are all pending; of one that stands there many times, once."""
        if is_shared(rows) and len(rows) > 1:
            return self._commit(rows[:1]) * len(rows)
        if len(rows) > MAX_ROWS:
            return [*self._commit(rows[:MAX_ROWS]), *self._commit(rows[MAX_ROWS:])]
        memory = self.memory
        last = [memory.dynamics.take() for _ in rows]
        kind = Kind(num_rows=_padded(len(rows)), pending=True, spatial=False, decode=False)
        captured = self._captured(COMMIT, kind)
        captured.frame.inputs.send([_inputs(row, 0, last=page) for row, page in zip(rows, last, strict=True)])
        captured.commit(self._graphs)
        self._verdicts.note(captured.frame)
        return [
            replace(row, pending=False, dynamics=memory.dynamics.push(row.dynamics, page))
            for row, page in zip(rows, last, strict=True)
        ]

    # Eager: what a session's start and the comparison of back ends need.

    def _encode(self, frame: Tensor, pages: Pages) -> tuple[Tensor, Page]:
        tokenizer, pool = self.model.tokenizer, self.encoder_pages
        page = pool.take()
        patches = patchify(frame[None, None], self.config.tokenizer.patch, self.dtype)
        x = tokenizer.patch_in(patches.flatten(0, 2)) + tokenizer.encoder_position
        ages = [page.index, *(past.index for past in pages)]
        table = torch.full((1, pool.window), NO_PAGE, dtype=torch.int32)
        table[0, : len(ages)] = torch.tensor(ages[: pool.window], dtype=torch.int32)
        hidden = evaluate(tokenizer.encoder, x[None, None], pool.memory, table.to(self.device))
        vectors = tokenizer.code_in(hidden.flatten(0, 2))
        if not bool(torch.isfinite(vectors).all()):
            raise DeviceError(
                "the tokenizer's encoder gave NaN or Inf; the weights are broken or the precision is too "
                "narrow: try float32, or check the bundle"
            )
        return vq_lookup(vectors, tokenizer.codebook, True), page

    def _placed(self, row: Row) -> CudaRow:
        """A row with its tokens, and what it carries, in the back end's memory."""
        frames = self.memory.frames
        slot = frames.take()
        frames.tokens[slot.index] = row.tokens
        carried = row.carried
        if carried is not None:
            frames.change[slot.index] = carried.change
            carried = replace(carried, change=frames.change[slot.index])
        return CudaRow(
            seed=row.seed, frame_index=row.frame_index, tokens=frames.tokens[slot.index], action=row.action,
            pending=row.pending, dynamics=row.dynamics, decoder=row.decoder, carried=carried, slot=slot,
        )  # fmt: skip

    def _raise_if_broken(self, frame: Frame) -> None:
        """Raises `DeviceError` where a run gave NaN or Inf; waits for it."""
        dynamics, decoder = frame.broken.any(1).tolist()
        if dynamics or decoder:
            self._raise_broken(frame, dynamics)

    def _raise_broken(self, frame: Frame, dynamics: bool) -> NoReturn:
        """Raises `DeviceError`, naming the layers between which a run first gave NaN or Inf.

        It is run again for that, with the inputs that are there: a later run's, if one has been enqueued.
        """
        transformer = self.model.dynamics.transformer if dynamics else self.model.tokenizer.decoder
        count = len(transformer.blocks)
        finite: dict[int, bool] = {}

        def on_layer(layer: int, values: Tensor) -> None:
            finite[layer] = bool(torch.isfinite(values).all())

        frame.inputs.decoder[:, 0] = NO_PAGE  # that page may be another row's by now
        frame.hidden(on_layer=on_layer) if dynamics else frame.decode(on_layer)
        part = "dynamics" if dynamics else "tokenizer's decoder"
        raise not_finite(part, [finite[layer] for layer in range(count)])


COMMIT = Plan(passes=1)
"""Any plan: a commit has none."""


def _inputs(
    row: Row,
    action: int,
    *,
    slot_out: int = 0,
    last: Page | None = None,
    decoder: Page | None = None,
    spatial_out: Page | None = None,
) -> RowInputs:
    """What the device is told about a row. `last` is the page of its last frame where that is pending."""
    past = [page.index for page in row.dynamics]
    first = NO_PAGE
    if last is not None:
        first = last.index
    elif past and not row.pending:
        first, past = past[0], past[1:]
    return RowInputs(
        seed=row.seed, frame_index=row.frame_index + 1, action=int(action), last_action=row.action,
        slot_in=row.slot.index if isinstance(row, CudaRow) else 0, slot_out=slot_out,
        last=first, past=past,
        decoder=NO_PAGE if decoder is None else decoder.index,
        decoder_past=[page.index for page in row.decoder],
        spatial_in=0 if row.carried is None else row.carried.spatial.index,
        spatial_out=0 if spatial_out is None else spatial_out.index,
    )  # fmt: skip


def _pushed(pool: PageMemory, pages: Pages, page: Page | None) -> Pages:
    return pages if page is None else pool.push(pages, page)


def _padded(num_rows: int) -> int:
    """Rows of the captured batch: the next power of two, so that players come and go without a capture."""
    return 1 << (num_rows - 1).bit_length()


def _batches(kinds: Sequence[tuple[bool, bool]]) -> Iterator[tuple[tuple[bool, bool], list[int]]]:
    """Rows of one kind each, by index."""
    for kind in dict.fromkeys(kinds):
        chosen = [i for i, other in enumerate(kinds) if other == kind]
        for start in range(0, len(chosen), MAX_ROWS):
            yield kind, chosen[start : start + MAX_ROWS]


def build(request: BuildRequest) -> CudaBackend:
    """The back end of a world. Packing takes the weights away from the model."""
    return CudaBackend(request.model(), Precision.of(request.dtype), request.device, release=True)

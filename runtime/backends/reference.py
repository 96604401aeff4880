"""The `reference` back end: the definition with pages, in plain torch; the yardstick of all other ones."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.kernels.maskgit_sample.reference import sample
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.philox.reference import uniforms
from genie_rt.kernels.vq_lookup.reference import nearest_code
from genie_rt.runtime.backends import saved
from genie_rt.runtime.backends.decide import Decision, change_of
from genie_rt.runtime.backends.past import Past
from genie_rt.runtime.backends.protocol import FrameStats, Probe
from genie_rt.runtime.backends.row import Row, check_decoded, is_shared
from genie_rt.runtime.model.transformer import KeysValues
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.order import position_tokens
from genie_rt.runtime.pages import PagePool, Pages
from genie_rt.runtime.plan import Plan


class ReferenceBackend:
    """Runs a `WorldModel` with one page per past frame.

    Args:
        model: moved to `device` and `dtype`, its gradients switched off.
        dtype: torch.float64, float32 or bfloat16.
    """

    name = "reference"

    def __init__(self, model: WorldModel, device: torch.device, dtype: torch.dtype) -> None:
        self.model = model.to(device=device, dtype=dtype).requires_grad_(False).eval()
        self.device = device
        self.batch_invariant = device.type == "cpu"  # cuBLAS chooses its algorithm by the number of products
        self.dtype = dtype
        self.config = config = model.config
        num_tokens = config.tokenizer.num_tokens
        self.dynamics_pages = PagePool(config.dynamics.transformer, config.num_positions, dtype, device)
        self.encoder_pages = PagePool(config.tokenizer.encoder, num_tokens, dtype, device)
        self.decoder_pages = PagePool(config.tokenizer.decoder, num_tokens, dtype, device)
        self.members = position_tokens(config).to(device)  # [P, S]
        self.place_of = self.members.flatten().argsort()  # [N]: position * S + slot of each token
        self.counting = torch.arange(num_tokens, device=device)
        with torch.inference_mode():
            self.table = model.token_table()  # [V, E]

    @property
    def weight_bytes(self) -> int:
        """Of the weights as computed with."""
        return sum(weight.numel() * weight.element_size() for weight in self.model.parameters())

    def reserve(self, num_sessions: int) -> None:
        """Nothing: pages come in chunks that never move."""

    def commits_ahead(self, plan: Plan) -> bool:
        """Where what is computed beside a frame changes no bit of it; see `Backend.commits_ahead`."""
        return self.batch_invariant

    def batches(self, plan: Plan, most: int) -> tuple[int, ...]:
        """Nothing depends on how many there are; see `Backend.batches`."""
        return (1,)

    @property
    def page_bytes(self) -> int:
        """Of the pages that somebody holds."""
        return sum(pool.num_used * pool.page_bytes for pool in self._pools)

    @property
    def pool_bytes(self) -> int:
        """Of all pages that memory is held for."""
        return sum(pool.num_pages * pool.page_bytes for pool in self._pools)

    @property
    def _pools(self) -> tuple[PagePool, ...]:
        return self.dynamics_pages, self.encoder_pages, self.decoder_pages

    @torch.inference_mode()
    def prefill(self, row_seed: int, frames: Tensor, actions: Sequence[int]) -> tuple[Row, Tensor]:
        """See `Backend.prefill`."""
        none = torch.empty(0, dtype=torch.int64, device=self.device)
        row = Row(
            seed=row_seed, frame_index=-1, tokens=none, action=actions[0], pending=False,
            dynamics=(), encoder=(), decoder=(), spatial=(),
            change=torch.zeros(self.config.num_positions, device=self.device),
        )  # fmt: skip
        picture = frames[0]
        for frame, action in zip(frames.to(self.device), actions, strict=True):
            if row.pending:
                (row,) = self._commit([row])
            tokens, encoder = self._encode(frame, row.encoder)
            (row,), pictures = self.show([row], [action], tokens)
            row, picture = replace(row, encoder=encoder), pictures[0]
        return replace(row, encoder=()), picture

    @torch.inference_mode()
    def frame(
        self, rows: Sequence[Row], actions: Sequence[int], plan: Plan, *, decode: bool = True
    ) -> tuple[list[Row], Tensor | None, list[FrameStats]]:
        """See `Backend.frame`."""
        if decode:
            check_decoded(rows, self.decoder_pages.window)
        kinds = [(row.pending, bool(row.spatial)) for row in rows]
        if len(set(kinds)) > 1:  # what a row takes must not depend on its neighbours
            return self._frame_by_kind(kinds, rows, actions, plan, decode)
        if plan.reuse == "frames" and rows[0].pending and rows[0].spatial:
            rows = self._commit(rows)  # it has nothing to be fused into: the first pass is not a whole one
        decision = Decision(self, rows, actions, plan)
        tokens = decision.run()
        new_rows = [
            replace(row, dynamics=pages, pending=False)
            for row, pages in zip(rows, decision.dynamics, strict=True)
        ]
        if decode:
            shown, pictures = self._decode(tokens, [row.decoder for row in rows], is_shared(rows))
        else:
            shown, pictures = [()] * len(rows), None
        new_rows = self._advance(new_rows, actions, tokens, shown, decision.spatial)
        return new_rows, pictures, decision.stats

    @torch.inference_mode()
    def commit(self, rows: Sequence[Row]) -> list[Row]:
        """See `Backend.commit`."""
        pending = [row for row in rows if row.pending]
        done = iter(self._commit(pending) if pending else ())
        return [next(done) if row.pending else row for row in rows]

    @torch.inference_mode()
    def probe(
        self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor, plan: Plan, pass_index: int
    ) -> Probe:
        """See `Backend.probe`."""
        decision = Decision(self, rows, actions, plan.replace(reuse="none"))
        logits = decision.logits(decision.full(tokens))
        seeds, frames, _, _ = decision.inputs.unbind(1)
        u, _ = uniforms(seeds, frames, pass_index, tokens.shape[1])
        return Probe(logits=logits, candidates=sample(logits, u, plan.temperature)[0])

    @torch.inference_mode()
    def show(self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor) -> tuple[list[Row], Tensor]:
        """See `Backend.show`."""
        decoder, pictures = self._decode(tokens, [row.decoder for row in rows], is_shared(rows))
        return self._advance(rows, actions, tokens, decoder, [()] * len(rows)), pictures

    def save_row(self, row: Row) -> dict[str, Tensor]:
        """A row's tensors on the CPU, its pages gathered; see `saved.save`."""
        return saved.save(row, self.dynamics_pages, self.decoder_pages)

    @torch.inference_mode()
    def load_row(
        self, tensors: dict[str, Tensor], *, seed: int, frame_index: int, action: int, pending: bool
    ) -> Row:
        """The row that `save_row` took apart; see `saved.load`."""
        return saved.load(
            tensors, self.config, self.dynamics_pages, self.decoder_pages,
            seed=seed, frame_index=frame_index, action=action, pending=pending,
        )  # fmt: skip

    def _frame_by_kind(
        self,
        kinds: list[tuple[bool, bool]],
        rows: Sequence[Row],
        actions: Sequence[int],
        plan: Plan,
        decode: bool,
    ) -> tuple[list[Row], Tensor | None, list[FrameStats]]:
        """One batch for each kind of row, put together again in the order asked for."""
        order, new_rows, pictures, stats = [], [], [], []
        for kind in dict.fromkeys(kinds):
            chosen = [i for i, other in enumerate(kinds) if other == kind]
            part = self.frame([rows[i] for i in chosen], [actions[i] for i in chosen], plan, decode=decode)
            order += chosen
            new_rows += part[0]
            pictures += [] if part[1] is None else [*part[1]]
            stats += part[2]
        back = sorted(range(len(order)), key=order.__getitem__)
        shown = torch.stack([pictures[i] for i in back]) if decode else None
        return [new_rows[i] for i in back], shown, [stats[i] for i in back]

    def _advance(
        self,
        rows: Sequence[Row],
        actions: Sequence[int],
        tokens: Tensor,
        decoder: Sequence[Pages],
        spatial: Sequence[Pages],
    ) -> list[Row]:
        """The rows one frame later, pending."""
        if rows[0].frame_index >= 0:
            change = change_of(rows, tokens, self.members, self.config)
        else:
            change = torch.stack([row.change for row in rows])
        return [
            replace(
                row, frame_index=row.frame_index + 1, tokens=tokens[i], action=int(actions[i]), pending=True,
                decoder=decoder[i], spatial=spatial[i], change=change[i],
            )
            for i, row in enumerate(rows)
        ]  # fmt: skip

    def _commit(self, rows: Sequence[Row]) -> list[Row]:
        """Computes the pages of rows that are all pending; of one that stands there many times, once."""
        if is_shared(rows) and len(rows) > 1:
            return self._commit(rows[:1]) * len(rows)
        tokens = torch.stack([row.tokens for row in rows])[:, None]
        action = torch.tensor([row.action for row in rows], device=self.device)[:, None]
        pool, dynamics = self.dynamics_pages, self.model.dynamics
        past = Past(pool, [row.dynamics for row in rows], shared=False)
        x = dynamics.embed(tokens, tokens, action, self.table, by_frame=True)
        _, kept = dynamics.transformer(x, past.ages, past.history, past.own)
        return [
            replace(row, pending=False, dynamics=pool.push(row.dynamics, pool.write(kept, i)))
            for i, row in enumerate(rows)
        ]

    def check_logits(self, logits: Tensor, kept: list[KeysValues]) -> Tensor:
        """The logits of a pass, `[R, n, V]`, once they are known to be finite."""
        check_finite("dynamics", logits, kept)
        return logits

    def _encode(self, frame: Tensor, pages: Pages) -> tuple[Tensor, Pages]:
        """One picture `[H, W, 3]` uint8 after those of `pages`, to tokens `[1, N]`."""
        pool = self.encoder_pages
        history, ages = pool.history([pages])
        tokenizer = self.model.tokenizer
        vectors, kept = tokenizer.encode_vectors(frame[None, None], ages, history, [(0,)])
        check_finite("tokenizer's encoder", vectors, kept)
        return nearest_code(vectors[:, 0], tokenizer.codebook), pool.push(pages, pool.write(kept, 0))

    def _decode(self, tokens: Tensor, rows: list[Pages], shared: bool) -> tuple[list[Pages], Tensor]:
        """Tokens `[R, N]` after the frames of `rows`' pages, to pictures `[R, Hout, Wout, 3]` uint8."""
        pool = self.decoder_pages
        past = Past(pool, rows, shared=shared)
        pictures, kept = self.model.tokenizer.decode(past.fold(tokens), past.ages, past.history, past.own)
        check_finite("tokenizer's decoder", pictures, kept)
        pages = [pool.push(pages, pool.write(kept, *past.place(i))) for i, pages in enumerate(rows)]
        return pages, to_uint8(pictures.flatten(0, 1))


def check_finite(part: str, out: Tensor, kept: list[KeysValues]) -> None:
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

"""The `native` back end: our C++ engine, which plays whole frames in one call.

A row holds a snapshot of the library, which shares pages and copies none. Each thread has one session of the
library; it goes to a row's snapshot, does what is asked, and leaves the next row's.
"""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor

from genie_rt.errors import BundleError
from genie_rt.runtime.backends.native.handles import NativeSession, NativeSnapshot, NativeWorld
from genie_rt.runtime.backends.native.header import PRECISIONS
from genie_rt.runtime.backends.native.library import Library, load_library
from genie_rt.runtime.backends.native.row import NativeRow
from genie_rt.runtime.backends.native.saved import SavedForm, gather
from genie_rt.runtime.backends.protocol import Backend, FrameStats, MemoryUse, Probe
from genie_rt.runtime.backends.registry import BuildRequest
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.bundle import Bundle, read_file
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.manifest import MANIFEST, WEIGHTS, FileRecord, Manifest, encode_manifest, unnamed_action
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan


class NativeBackend(Backend):
    """Plays in the C library, row by row. Sessions in several threads may share it.

    Args:
        library: of the native engine.
        config: of the model.
        files: of a bundle that has it, whose actions are those of the dynamics.
        precision: "float32" or "int8".

    Raises:
        BundleError, UnsupportedError: as the library says.
        DeviceError: there is not enough memory.
    """

    name = "native"
    device = torch.device("cpu")
    dtype = torch.float32
    batch_invariant = True
    definition = None

    def __init__(
        self, library: Library, config: ModelConfig, files: Mapping[str, NDArray[np.uint8]], precision: str
    ) -> None:
        self.config = config
        self.arithmetic = "int16 and float32" if precision == "int8" else None
        self.world = NativeWorld(library, files, precision, torch.get_num_threads())
        digest = hashlib.sha256(files[WEIGHTS].data).digest()
        self.form = SavedForm(config, PRECISIONS[precision], digest)
        self._own = threading.local()
        self._sessions: weakref.WeakSet[NativeSession] = weakref.WeakSet()
        self._snapshots: weakref.WeakSet[NativeSnapshot] = weakref.WeakSet()

    @property
    def memory_use(self) -> MemoryUse:
        """See `Backend.memory_use`. The library tells the most that a snapshot holds for itself."""
        info = self.world.info
        page_bytes = len(self._snapshots) * info.page_bytes
        return MemoryUse(
            weight_bytes=info.weight_bytes,
            page_bytes=page_bytes,
            pool_bytes=page_bytes + len(self._sessions) * info.session_bytes,
        )

    def check(self) -> None:
        """Nothing: every call waits for what it computes."""

    def reserve(self, num_sessions: int) -> None:
        """Nothing: pages never move."""

    def commits_ahead(self, plan: Plan) -> bool:
        """Always: a commit gives the same bits by itself and within a frame; see `Backend.commits_ahead`."""
        return True

    def batches(self, plan: Plan, most: int) -> tuple[int, ...]:
        """Nothing depends on how many there are; see `Backend.batches`."""
        return (1,)

    @torch.inference_mode()
    def prefill(self, seed: int, frames: Tensor, actions: Sequence[int]) -> tuple[Row, Tensor]:
        """See `Backend.prefill`."""
        session = self._session()
        picture = session.reset(frames, actions[1:], seed)
        row = self._row(session, seed, len(frames) - 1, actions[-1], pending=True)
        return row, torch.from_numpy(picture)

    def frame(
        self, rows: Sequence[Row], actions: Sequence[int], plan: Plan, *, decode: bool = True
    ) -> tuple[list[Row], Tensor | None, list[FrameStats]]:
        """See `Backend.frame`. A frame is always decoded: the library does both in one call."""
        session = self._session()
        session.set_plan(plan)
        new_rows: list[Row] = []
        pictures, stats = [], []
        counts = Counter(map(id, rows))
        ready = {id(row): self._committed(row) for row in rows if counts[id(row)] > 1}  # once for all of them
        for row, action in zip(rows, actions, strict=True):
            session.restore(self._whole(ready.get(id(row), row)).snapshot)
            picture, took = session.step(action)
            new_rows.append(
                self._row(
                    session, row.seed, row.frame_index + 1, action, pending=True,
                    carries=plan.reuse == "frames",
                )
            )  # fmt: skip
            pictures.append(picture)
            stats.append(took)
        return new_rows, _batch(pictures) if decode else None, stats

    @torch.inference_mode()
    def commit(self, rows: Sequence[Row]) -> list[Row]:
        """See `Backend.commit`."""
        done = {id(row): self._committed(row) for row in {id(row): row for row in rows}.values()}
        return [done[id(row)] for row in rows]

    @torch.inference_mode()
    def probe(
        self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor, plan: Plan, pass_index: int
    ) -> Probe:
        """See `Backend.probe`."""
        session = self._session()
        session.set_plan(plan.replace(reuse="none"))
        logits, candidates = [], []
        for row, action, own in zip(rows, actions, tokens, strict=True):
            session.restore(self._whole(row).snapshot)
            scores, sampled = session.probe(action, own, pass_index)
            logits.append(scores)
            candidates.append(sampled)
        return Probe(logits=torch.stack(logits), candidates=torch.stack(candidates))

    @torch.inference_mode()
    def show(self, rows: Sequence[Row], actions: Sequence[int], tokens: Tensor) -> tuple[list[Row], Tensor]:
        """See `Backend.show`."""
        new_rows: list[Row] = []
        pictures = []
        for row, action, own in zip(rows, actions, tokens, strict=True):
            if row.frame_index < 0:
                session = self._new_session()  # only one that was never reset takes a first frame
            else:
                session = self._session()
                session.restore(self._whole(row).snapshot)
            pictures.append(session.force(action, own))
            shown = self._row(
                session, 0 if row.frame_index < 0 else row.seed, row.frame_index + 1, action, True
            )
            new_rows.append(replace(shown, seed=row.seed))
        return new_rows, _batch(pictures)

    def save_row(self, row: Row) -> dict[str, Tensor]:
        """See `Backend.save_row`."""
        tensors = self._saved(self._whole(row).snapshot)
        del tensors["picture"]
        return tensors

    @torch.inference_mode()
    def load_row(
        self, tensors: dict[str, Tensor], *, seed: int, frame_index: int, action: int, pending: bool
    ) -> Row:
        """See `Backend.load_row`."""
        session = self._session()
        checked = self.form.checked(tensors)
        session.load(
            self.form.data(checked, seed=seed, frame_index=frame_index, action=action, pending=pending)
        )
        carries = len(checked["spatial"]) > 0
        return self._row(session, seed, frame_index, action, pending, carries)

    def _committed(self, row: Row) -> Row:
        if not row.pending:
            return row
        session = self._session()
        session.restore(self._whole(row).snapshot)
        session.commit()
        return self._row(session, row.seed, row.frame_index, row.action, False, row.carried is not None)

    def _session(self) -> NativeSession:
        """The calling thread's."""
        session: NativeSession | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = self._new_session()
        return session

    def _new_session(self) -> NativeSession:
        session = NativeSession(self.world)
        self._sessions.add(session)
        return session

    def _whole(self, row: Row) -> NativeRow:
        """The row with a snapshot of all of it."""
        assert isinstance(row, NativeRow)  # others are of another back end, or have no frame yet
        if row.is_whole:
            return row
        tensors = gather(row, self._saved)
        made = self.load_row(
            tensors, seed=row.seed, frame_index=row.frame_index, action=row.action, pending=row.pending
        )
        assert isinstance(made, NativeRow)
        return made

    def _saved(self, snapshot: NativeSnapshot) -> dict[str, Tensor]:
        """What a snapshot holds, as tensors."""
        session = self._session()
        session.restore(snapshot)
        return self.form.tensors(session.save())

    def _row(
        self,
        session: NativeSession,
        seed: int,
        frame_index: int,
        action: int,
        pending: bool,
        carries: bool = False,
    ) -> NativeRow:
        """The row of where a session stands."""
        snapshot = session.snapshot()
        self._snapshots.add(snapshot)
        return NativeRow.of(
            snapshot, self.config, seed=seed, frame_index=frame_index, tokens=session.tokens(),
            action=int(action), pending=pending, carries=carries,
        )  # fmt: skip


def _batch(pictures: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Pictures as one tensor; without a copy where there is only one."""
    return torch.from_numpy(pictures[0][None] if len(pictures) == 1 else np.stack(pictures))


def build(request: BuildRequest) -> NativeBackend:
    """The back end of a world."""
    bundle = request.bundle
    if request.dtype == "int8" and bundle.int8 is None:
        raise BundleError(
            f'{bundle.path / MANIFEST}: expected "int8", the limits that the back end "native" rounds by, '
            'found none; export the bundle again with --int8 --clips, or take dtype="float32"'
        )
    weights = read_file(bundle, WEIGHTS) if WEIGHTS in bundle.files else weights_of(request.model())
    files = {MANIFEST: manifest_for(bundle, weights), WEIGHTS: weights}
    return NativeBackend(load_library(), bundle.config, files, request.dtype)


def weights_of(model: WorldModel) -> NDArray[np.uint8]:
    """A model's weights as a bundle has them."""
    tensors = {name: weight.contiguous() for name, weight in model.state_dict().items()}
    return np.frombuffer(safetensors.torch.save(tensors), np.uint8)


def manifest_for(bundle: Bundle, weights: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A `bundle.json` for the library: the bundle's, with the actions of the dynamics in place of names.

    What a back end is given are those. Prompts, graphs and the rest it has no need of.
    """
    codes = range(bundle.config.dynamics.num_actions)
    names = tuple(unnamed_action(code) for code in codes)
    manifest = Manifest(
        name=bundle.name,
        preset=bundle.preset,
        config=bundle.config,
        action_names=names,
        default_action=names[0],
        plans=dict(bundle.plans),
        provenance={},
        files={WEIGHTS: FileRecord(sha256=hashlib.sha256(weights.data).hexdigest(), size=weights.nbytes)},
        int8=bundle.int8,
    )
    return np.frombuffer(encode_manifest(manifest), np.uint8)

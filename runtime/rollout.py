"""Many futures of one moment, in one batch a frame."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from genie_rt.errors import InputError
from genie_rt.runtime.arguments import sequence
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.images import Picture
from genie_rt.runtime.loaded_world import LoadedWorld
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.snapshot import Snapshot


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Rollout:
    """Where `S` sequences of `T` actions lead, in the order of the sequences.

    Attributes:
        tokens: `[S, T, N]` int64, on the host.
        frames: `[S, T, Hout, Wout, 3]` uint8; None where pictures were left out.
        ends: `[S]` snapshots of the last frames, to `restore` the best; empty where pictures were left out.
    """

    tokens: NDArray[np.int64]
    frames: NDArray[np.uint8] | None
    ends: tuple[Snapshot, ...]

    def __repr__(self) -> str:
        frames = None if self.frames is None else list(self.frames.shape)
        return f"Rollout(tokens={list(self.tokens.shape)}, frames={frames}, ends={len(self.ends)})"


def roll_out(
    world: LoadedWorld, row: Row, actions: Iterable[Iterable[str | int]], plan: Plan, *, frames: bool
) -> Rollout:
    """See `Session.rollout`; `row` is the moment to go on from."""
    sequences = _check(world, actions)
    rows, nodes = [row], [0] * len(sequences)  # the different rows so far, and each sequence's among them
    tokens: list[NDArray[np.int64]] = []  # of every time, [S, N]
    shown: list[Picture] = []
    for led_by in zip(*sequences, strict=True):
        branches = list(zip(nodes, led_by, strict=True))
        children = {branch: child for child, branch in enumerate(dict.fromkeys(branches))}
        parents = [rows[node] for node, _ in children]
        rows, pictures, _ = world.backend.frame(
            parents, [action for _, action in children], plan, decode=frames
        )
        nodes = [children[branch] for branch in branches]
        tokens.append(torch.stack([row.tokens for row in rows]).cpu().numpy()[nodes])
        if pictures is not None:
            shown.append(pictures.cpu().numpy()[nodes])
    ends = (
        [Snapshot(world, rows[node], _own(frame)) for node, frame in zip(nodes, shown[-1], strict=True)]
        if shown
        else []
    )
    return Rollout(
        tokens=np.stack(tokens, axis=1), frames=np.stack(shown, axis=1) if shown else None, ends=tuple(ends)
    )


def _own(frame: Picture) -> Picture:
    """A copy that nobody writes to: the caller may draw on `frames`, and sessions share it."""
    copy = frame.copy()
    copy.setflags(write=False)
    return copy


def _check(world: LoadedWorld, actions: Iterable[Iterable[str | int]]) -> list[list[int]]:
    """`S` sequences of `T` indices."""
    sequences = []
    for each in sequence(actions, "a list of sequences of actions"):
        given = sequence(each, "a list of actions in the place of each sequence")
        sequences.append([world.action(action) for action in given])
    lengths = sorted({len(sequence) for sequence in sequences})
    if len(lengths) != 1 or lengths == [0]:
        raise InputError(
            "expected one or more sequences of actions, all of one length of at least 1; found "
            f"{len(sequences)} sequences of lengths {lengths}"
        )
    return sequences

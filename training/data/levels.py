"""Unseen levels of a procgen game, told apart by what a level looks like, not by its number.

procgen makes a level from its number, and different numbers often make the same level. With plain visuals
a third of CoinRun's levels 10000 to 10999 are, pixel for pixel, levels from 0 to 9999, and another fifth have
the same ground and differ only in what stands on it. A held-out level must differ from every training level
in both.
"""

import contextlib
import hashlib
import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.training.data.game import FORCE_RESET, VISUALS, Visuals, import_procgen
from genie_rt.training.data.progress import progress_bar
from genie_rt.training.data.store import Split

LEVELS: dict[Split, tuple[int, int]] = {"train": (0, 10_000), "heldout": (10_000, 1_000)}
"""First level and number of levels of each split."""

KNOWN_COPIES = Path(__file__).with_name("copies.json")
"""Stored result of `find_copies` for CoinRun, which would otherwise draw 11,000 levels."""

GAMES_WITH_LAYOUT = ("coinrun",)
"""Games whose grid of blocks is the level. In others, such as starpilot, the grid is empty."""

_GRID_SIDE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """The held-out levels that stand in the training range already.

    Attributes:
        by_picture: levels whose first picture, drawn whole, equals a training level's.
        by_layout: levels whose grid of blocks equals a training level's; holds those of `by_picture` too.
    """

    by_picture: frozenset[int]
    by_layout: frozenset[int]

    @property
    def levels(self) -> frozenset[int]:
        """All levels to leave out."""
        return self.by_picture | self.by_layout

    @property
    def num_unseen(self) -> int:
        """Number of held-out levels that are left."""
        return LEVELS["heldout"][1] - len(self.levels)

    def as_provenance(self) -> dict[str, int]:
        """The counts that a recording states."""
        return {
            "levels": self.num_unseen,
            "left_out_by_picture": len(self.by_picture),
            "left_out_by_layout_alone": len(self.by_layout - self.by_picture),
        }

    def unseen(self, levels: NDArray[Any] | list[int]) -> NDArray[np.bool_]:
        """Whether each level is held out and no copy, `[n]` bool."""
        first, count = LEVELS["heldout"]
        array = np.asarray(levels, dtype=np.int64)
        left_out = np.fromiter(self.levels, dtype=np.int64, count=len(self.levels))
        return (array >= first) & (array < first + count) & ~np.isin(array, left_out)


@cache
def copies(env: str, visuals: Visuals) -> Copies:
    """The held-out levels of a game to leave out; drawn now unless they are known (CoinRun's are).

    Raises:
        UnsupportedError: if procgen is not installed and the game's copies are not known.
        InputError: if procgen has no such game, or no held-out level is left.
    """
    known = json.loads(KNOWN_COPIES.read_bytes()).get(f"{env} {visuals}")
    found = (
        find_copies(env, visuals)
        if known is None
        else Copies(by_picture=frozenset(known["by_picture"]), by_layout=frozenset(known["by_layout"]))
    )
    if found.num_unseen == 0:
        raise InputError(
            f"every held-out level of {env} ({visuals} visuals) looks like a training level, so none is left "
            "to measure on; record another game or other visuals"
        )
    return found


def find_copies(env: str, visuals: Visuals) -> Copies:
    """Draw all levels of both splits and compare them: about 6 ms a level.

    Raises:
        UnsupportedError: if procgen is not installed, or keeps its state in another form.
        InputError: if procgen has no such game.
    """
    pictures: set[bytes] = set()
    layouts: set[bytes] = set()
    by_picture, by_layout = set(), set()
    with contextlib.closing(_Viewer(env, visuals)) as viewer, progress_bar() as progress:
        total = sum(count for _, count in LEVELS.values())
        task = progress.add_task(f"Drawing the levels of {env}", total=total)
        for split in ("train", "heldout"):
            for level in _range(split):
                picture, layout = viewer.digests(level)
                if split == "train":
                    pictures.add(picture)
                    layouts.add(layout)
                else:
                    if picture in pictures:
                        by_picture.add(level)
                    if layout in layouts:
                        by_layout.add(level)
                progress.advance(task)
    if env not in GAMES_WITH_LAYOUT:
        by_layout = by_picture
    return Copies(by_picture=frozenset(by_picture), by_layout=frozenset(by_layout))


def _range(split: Split) -> Iterator[int]:
    first, count = LEVELS[split]
    return iter(range(first, first + count))


class _Viewer:
    """Game instance that shows any level whole, 512 x 512 pixels."""

    def __init__(self, env: str, visuals: Visuals) -> None:
        procgen = import_procgen()
        if env not in procgen.env.ENV_NAMES:
            raise InputError(f"procgen has no game {env!r}; it has {', '.join(procgen.env.ENV_NAMES)}")
        first = LEVELS["heldout"][0]
        self._env = procgen.ProcgenGym3Env(
            num=1,
            env_name=env,
            start_level=first,
            num_levels=1,
            rand_seed=0,
            num_threads=0,
            center_agent=False,
            render_mode="rgb_array",
            **VISUALS[visuals],
        )
        # a version, the name with its length, 13 options, then the range of levels, all little-endian int32
        self._range_at = 4 + 4 + len(env) + 13 * 4
        found = struct.unpack_from("<ii", self._state(), self._range_at)
        if found != (first, first + 1):
            raise UnsupportedError(
                f"expected procgen 0.10.7, whose saved state holds the range of levels at byte "
                f"{self._range_at}, found {found} there in procgen {procgen.__version__}"
            )

    def digests(self, level: int) -> tuple[bytes, bytes]:
        """SHA-256 of the level's first picture, and of its grid of blocks (or of nothing)."""
        state = self._state()
        begin, end = self._range_at, self._range_at + 8
        wanted = state[:begin] + struct.pack("<ii", level, level + 1) + state[end:]
        self._env.callmethod("set_state", [wanted])
        self._env.act(np.array([FORCE_RESET]))
        info = self._env.get_info()[0]
        if info["level_seed"] != level:
            raise UnsupportedError(f"expected procgen to start level {level}, found {info['level_seed']}")
        return hashlib.sha256(info["rgb"].tobytes()).digest(), hashlib.sha256(self._grid()).digest()

    def close(self) -> None:
        self._env.close()

    def _state(self) -> bytes:
        return bytes(self._env.callmethod("get_state")[0])

    def _grid(self) -> bytes:
        state, cells = self._state(), _GRID_SIDE**2
        at = state.find(struct.pack("<iii", _GRID_SIDE, _GRID_SIDE, cells))
        return state[at + 12 : at + 12 + 4 * cells] if at >= 0 else b""

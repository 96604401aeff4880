"""A row that a snapshot of the library holds.

Rows are taken apart and put together by whoever compares back ends: another seed, the pages of one row under
the tokens of another. So a row names its pages one by one. As long as all of it is as the snapshot has it,
the library goes there without copying anything; else the parts are gathered and loaded: see `saved.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from torch import Tensor

from genie_rt.runtime.backends.frame_reuse import Carried
from genie_rt.runtime.backends.native.handles import NativeSnapshot
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.pages import Pages


@dataclass(frozen=True, slots=True, eq=False)
class HeldPage:
    """A page within a snapshot: entry `index` of its `kind`, "dynamics", "decoder" or "spatial"."""

    snapshot: NativeSnapshot
    kind: str
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class HeldCarried:
    """What a snapshot carries from a frame that was decoded with `reuse="frames"`."""

    snapshot: NativeSnapshot

    @property
    def spatial(self) -> HeldPage:
        return HeldPage(self.snapshot, "spatial", 0)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class NativeRow(Row):
    """A row, and the snapshot that it was made of.

    Attributes:
        made: its fields as they were then.
    """

    snapshot: NativeSnapshot
    made: tuple[Any, ...]

    @classmethod
    def of(
        cls,
        snapshot: NativeSnapshot,
        config: ModelConfig,
        *,
        seed: int,
        frame_index: int,
        tokens: Tensor,
        action: int,
        pending: bool,
        carries: bool,
    ) -> NativeRow:
        """The row of a session as it was when a snapshot was taken.

        Args:
            carries: whether it carries what `reuse="frames"` takes up.
        """
        known = frame_index + 1  # frames since the reset
        num_dynamics = min(known - pending, config.dynamics.transformer.window - 1)
        num_decoder = min(known, config.tokenizer.decoder.window - 1)
        dynamics = tuple(HeldPage(snapshot, "dynamics", index) for index in range(num_dynamics))
        decoder = tuple(HeldPage(snapshot, "decoder", index) for index in range(num_decoder))
        carried = HeldCarried(snapshot) if carries else None
        return cls(
            seed=seed,
            frame_index=frame_index,
            tokens=tokens,
            action=action,
            pending=pending,
            # to all but this back end pages are things to hold
            dynamics=cast(Pages, dynamics),
            decoder=cast(Pages, decoder),
            carried=cast(Carried | None, carried),
            snapshot=snapshot,
            made=(seed, frame_index, action, pending, tokens, dynamics, decoder, carried),
        )

    @property
    def is_whole(self) -> bool:
        """Whether it is still what the snapshot holds."""
        now = (self.tokens, self.dynamics, self.decoder, self.carried)
        return self.made[:4] == (self.seed, self.frame_index, self.action, self.pending) and all(
            mine is then for mine, then in zip(now, self.made[4:], strict=True)
        )

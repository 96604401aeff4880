"""Which frames of a set of videos are held out: about a tenth, chosen by what the scenes show.

The choice is a pure function of the scenes' lengths and digests. File names, and the order of files, have no
part in it, and identical scenes are treated alike, so that what is held out is never trained on under another
name. Whole scenes are held out where some are short enough, else the end of one; never pieces here and there,
whose neighbours would nearly give them away.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from genie_rt.training.data.store import Split

SHARE = Fraction(1, 10)
"""Share of all frames to hold out."""

MOST = Fraction(1, 4)
"""Share that is not exceeded, even where a tenth is too short to measure anything on."""

CLIP_FRAMES = 40
"""Length that at least one held-out run should have, so that rollouts can be measured on it."""

SLACK = Fraction(1, 4)
"""How far, as a part of the goal, whole scenes may miss it before the end of a scene is cut off instead."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Scenes that are the same: `copies` of them with `length` frames each."""

    digest: bytes
    length: int
    copies: int

    @property
    def num_frames(self) -> int:
        return self.length * self.copies


def held_out_tails(lengths: Sequence[int], digests: Sequence[bytes], *, min_frames: int) -> list[int]:
    """Number of frames that are held out at the end of each scene: none, some, or all of them.

    Together they are close to `SHARE` of the frames. Small sets give more, up to `MOST`, so that the held-out
    part has `CLIP_FRAMES`, or else `min_frames`, in one run. It is always less than half, and never empty
    where a scene has more than two frames.

    Args:
        lengths: frames of each scene.
        digests: a hash of each scene's frames.
        min_frames: the shortest run of frames that is of use.
    """
    scenes = list(zip(digests, lengths, strict=True))
    groups = [_Group(*scene, copies) for scene, copies in sorted(Counter(scenes).items())]
    choice = _Choice(sum(lengths), groups, min_frames)
    # One run that holds a clip comes first; short scenes alone would leave nothing to measure rollouts on.
    if not choice.take_whole(CLIP_FRAMES, limit=1):
        choice.take_tail(CLIP_FRAMES)
    choice.take_whole(1)
    if choice.is_short:
        choice.take_tail(min_frames)
    if not choice.tails:
        choice.take_what_there_is()
    return [choice.tails.get(scene, 0) for scene in scenes]


class _Choice:
    """What has been held out so far: `tails` by scene, `taken` frames together."""

    def __init__(self, total: int, groups: Sequence[_Group], min_frames: int) -> None:
        self.tails: dict[tuple[bytes, int], int] = {}
        self.taken = 0
        self._groups, self._min_frames = groups, min_frames
        self._total, self._goal, self._most = total, SHARE * total, int(MOST * total)

    @property
    def is_short(self) -> bool:
        """Whether so little was taken that the end of one more scene is worth cutting off."""
        return self.taken < (1 - SLACK) * self._goal

    def take_whole(self, shortest: int, *, limit: int | None = None) -> bool:
        """Take scenes of at least `shortest` frames as they come, as long as they fit; say if any did."""
        count = 0
        for group in self._left():
            if self.taken >= self._goal or count == limit:
                break
            if group.length >= shortest and self.taken + group.num_frames <= (1 + SLACK) * self._goal:
                self._take(group, group.length)
                count += 1
        return count > 0

    def take_tail(self, shortest: int) -> None:
        """Take the end of the first scene that can spare `shortest` frames and keep as many as are of use."""
        for group in self._left():
            spare = min(group.length - self._min_frames, (self._most - self.taken) // group.copies)
            if spare >= shortest:
                missing = round((self._goal - self.taken) / group.copies)
                self._take(group, min(max(shortest, missing), spare))
                return

    def take_what_there_is(self) -> None:
        """Take a few frames of the scene that can spare most; nothing where they would be half of all."""
        spare = {group: max(1, min(group.length - 1, self._most // group.copies)) for group in self._left()}
        fitting = [group for group in spare if 2 * spare[group] * group.copies < self._total]
        if fitting:
            group = max(fitting, key=lambda group: spare[group])
            self._take(group, spare[group])

    def _left(self) -> Iterator[_Group]:
        return (group for group in self._groups if (group.digest, group.length) not in self.tails)

    def _take(self, group: _Group, tail: int) -> None:
        self.tails[group.digest, group.length] = tail
        self.taken += tail * group.copies


def split_pieces(pieces: Sequence[int], tail: int, *, min_frames: int) -> list[list[tuple[int, Split]]]:
    """Split the pieces of one scene so that about the last `tail` of its frames are held out.

    Where the cut would leave less than `min_frames` on one side of it within a piece, it moves to that end of
    the piece, unless all that is held out would be gone.

    Args:
        pieces: lengths of the pieces, in order; each follows the one before without a gap.
        tail: from `held_out_tails`.

    Returns:
        Lengths and splits of the one or two parts of each piece, in order.
    """
    cut = sum(pieces) - tail
    parts: list[list[tuple[int, Split]]] = []
    begin = 0
    for number, length in enumerate(pieces):
        head = min(max(cut - begin, 0), length)
        if 0 < head < min_frames and number > 0:
            head = 0
        elif 0 < length - head < min_frames and number + 1 < len(pieces):
            head = length
        both: list[tuple[int, Split]] = [(head, "train"), (length - head, "heldout")]
        parts.append([part for part in both if part[0]])
        begin += length
    return parts

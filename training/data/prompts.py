"""Which held-out frames of a clip store become prompt pictures."""

from pathlib import Path

from genie_rt.errors import InputError
from genie_rt.training.data.store import ClipStore

DEFAULT_COUNT = 8
DEFAULT_FRAME = 12
"""A game needs a few frames until it has more to show than its first picture."""


def write_prompts(
    store: ClipStore, out: Path, *, count: int | None = None, frame: int | None = None
) -> list[Path]:
    """Write what `choose_prompts` chooses as `prompt-0.png`, `prompt-1.png` and so on.

    Raises:
        InputError: as `choose_prompts`, or the folder cannot be written.
    """
    from PIL import Image

    from genie_rt.runtime.atomic import atomic_file

    paths = []
    for number, (episode, place) in enumerate(choose_prompts(store, count=count, frame=frame)):
        paths.append(out / f"prompt-{number}.png")
        with atomic_file(paths[-1]) as temporary:
            Image.fromarray(store.episode_frames(episode)[place]).save(temporary, format="PNG")
    return paths


def choose_prompts(
    store: ClipStore, *, count: int | None = None, frame: int | None = None
) -> list[tuple[int, int]]:
    """Choose frames, spread evenly over the held-out episodes, and within one where several are taken of it.

    Args:
        count: number of frames; None for 8, or as many as there are.
        frame: index of the first frame to take of an episode, and the only one where there are enough
            episodes; shorter episodes are passed over. None for 12, or earlier in shorter episodes.

    Returns:
        Index of the episode and of the frame in it, for each picture.

    Raises:
        InputError: there are fewer held-out frames; the message names the flag.
    """
    lengths = {index: each.length for index, each in enumerate(store.episodes) if each.split == "heldout"}
    if not lengths:
        raise InputError(f"{store.path}: expected held-out frames, found none; record or import more")
    longest = max(lengths.values())
    if frame is not None and not 0 <= frame < longest:
        raise InputError(
            f"--frame: expected 0 to {longest - 1}, the last frame of the longest held-out episode of "
            f"{store.path}; found {frame}"
        )
    first = frame or 0
    spare = {index: length - first for index, length in lengths.items() if length > first}
    available = sum(spare.values())
    if count is not None and not 1 <= count <= available:
        after = f" from --frame {frame} of their episodes on" if frame else ""
        raise InputError(
            f"--count: expected 1 to {available}, the held-out frames of {store.path}{after}; found {count}"
        )
    wanted = min(DEFAULT_COUNT, available) if count is None else count
    shares = _shares(spare, wanted, first if frame is not None else DEFAULT_FRAME)
    chosen = []
    for index, share in shares.items():
        length = lengths[index]
        start = first if frame is not None else min(DEFAULT_FRAME, length - share)
        chosen += [(index, start + number * (length - start) // share) for number in range(share)]
    return chosen


def _shares(spare: dict[int, int], wanted: int, frame: int) -> dict[int, int]:
    """Number of frames of each episode that gives any: as even as their lengths allow.

    Args:
        spare: frames that each episode can give.
        frame: episodes that are longer come first where not all are needed.
    """
    fitting = [index for index, length in spare.items() if length > frame]
    if len(fitting) < wanted:
        fitting = list(spare)
    if len(fitting) >= wanted:
        return {fitting[number * len(fitting) // wanted]: 1 for number in range(wanted)}
    shares = dict.fromkeys(fitting, 0)
    while wanted:
        open_ones = [index for index in fitting if shares[index] < spare[index]][:wanted]
        each = max(1, wanted // len(open_ones))
        for index in open_ones:
            taken = min(each, spare[index] - shares[index])
            shares[index] += taken
            wanted -= taken
    return {index: share for index, share in shares.items() if share}

"""Ground truth: clips of a store's held-out split, or of the real game on held-out levels."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import InputError
from genie_rt.training.data.coinrun import UNSEEN_KEY, Policy, check_heldout_is_unseen
from genie_rt.training.data.game import RealGame, Visuals
from genie_rt.training.data.levels import LEVELS, copies
from genie_rt.training.data.progress import progress_bar
from genie_rt.training.data.store import NO_ACTION, Actions, ClipStore, Frames, Split

LATEST_START = 32
"""A clip of the real game begins at a random frame of its level below this one."""

MAX_COPIES = 256

DEFAULT_CLIPS = 200
"""Clips that are measured where no number is asked for."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TrueClips:
    """Real clips.

    Attributes:
        frames: `[M, T, H, W, 3]` uint8.
        actions: `[M, T]` int64, `actions[:, t]` led to frame `t`; -1 at `t = 0`, and everywhere in videos.
        action_names: what the actions index; empty where there are none.
        origin: where the clips come from, JSON values.
    """

    frames: Frames
    actions: Actions
    action_names: tuple[str, ...]
    origin: dict[str, Any]

    def first(self, count: int) -> "TrueClips":
        """Return the first clips, at most `count`."""
        return replace(self, frames=self.frames[:count], actions=self.actions[:count])

    def renamed(self, action_names: tuple[str, ...], codes: Sequence[int]) -> "TrueClips":
        """Return the same clips with the actions of a world's dynamics.

        Args:
            action_names: of the world.
            codes: the action of the dynamics that each of them stands for.

        Raises:
            InputError: the clips have an action that the world lacks, or no actions at all.
        """
        missing = [name for name in self.action_names if name not in action_names]
        if not self.action_names or missing:
            what = f"actions that it lacks: {', '.join(missing)}" if missing else "no actions"
            raise InputError(
                f"expected clips with the world's actions ({', '.join(action_names)}), found {what}; "
                "name learned actions with `genie-rt actions`"
            )
        # NO_ACTION is -1, which picks the last
        index = np.array([*(codes[action_names.index(name)] for name in self.action_names), NO_ACTION])
        return replace(self, actions=index[self.actions], action_names=action_names)


def from_store(
    path: Path,
    *,
    num_clips: int | None,
    most_clips: int | None = None,
    length: int,
    size: tuple[int, int],
    seed: int,
    split: Split = "heldout",
) -> TrueClips:
    """Clips of a store's split that share no frame, spread over as many episodes as there are.

    Args:
        path: of the clip store.
        num_clips: M; None for as many as there are, up to `most_clips`, or `DEFAULT_CLIPS`.
        length: T.
        size: height and width that the frames must have.
        seed: the same seed gives the same clips.
        split: the held-out one, unless clips are wanted that a model may have been trained on.

    Raises:
        BundleError: the store is broken.
        InputError: its frames have another size, it holds too few clips, or its held-out levels may be copies
            of training levels.
    """
    store = ClipStore.open(path)
    if split == "heldout":
        check_heldout_is_unseen(store)
    if (store.height, store.width) != size:
        raise InputError(
            f"{path}: expected frames of {size[0]}x{size[1]}, found {store.height}x{store.width}"
        )
    windows = store.clips(length, split)  # says so where there is none
    random = np.random.default_rng(seed)
    slots: list[tuple[int, int, int]] = []  # turn, episode, start
    for episode in windows.ids[random.permutation(len(windows.ids))].tolist():
        spare = store.episodes[episode].length % length
        count = store.episodes[episode].length // length
        cuts = np.sort(random.integers(0, spare + 1, size=count))
        starts = random.permutation(count)
        slots += [(turn, episode, int(cuts[i]) + int(i) * length) for turn, i in enumerate(starts.tolist())]
    if num_clips is None:
        num_clips = min(most_clips or DEFAULT_CLIPS, len(slots))
    if len(slots) < num_clips:
        if split == "train":  # no flag says how many
            raise InputError(
                f"{path}: expected {num_clips} training clips of {length} frames that share no frame, found "
                f"{len(slots)}; record or import more"
            )
        raise InputError(
            f"--clips: expected 1 to {len(slots)}, the held-out clips of {length} frames in {path} that "
            f"share no frame; found {num_clips}; ask for fewer, or record more"
        )
    # one clip of every episode before any second; the sort is stable and keeps the episodes shuffled
    slots = sorted(slots, key=lambda slot: slot[0])[:num_clips]
    frames = np.stack([store.episode_frames(episode)[s : s + length] for _, episode, s in slots])
    actions = np.stack([store.episode_actions(episode)[s : s + length] for _, episode, s in slots])
    actions[:, 0] = NO_ACTION
    origin = {
        "kind": "store",
        "source": store.source,
        "split": split,
        "clips": num_clips,
        "episodes": len({episode for _, episode, _ in slots}),
        "provenance": store.provenance,
    }
    return TrueClips(frames=frames, actions=actions, action_names=store.action_names, origin=origin)


def from_game(*, num_clips: int, length: int, visuals: Visuals, seed: int, env: str = "coinrun") -> TrueClips:
    """Clips of the real game on held-out levels, one a level's play, with the recorder's policy.

    Levels that look like a training level are passed over.

    Each clip lies within one life, so levels that end before the clip is full do not count. It begins at one
    of the first `LATEST_START` frames, drawn at random. The same arguments give the same clips.

    Raises:
        UnsupportedError: procgen is not installed.
        InputError: lives of this game are too short for such clips.
    """
    parts = []
    with progress_bar() as progress:
        task = progress.add_task(f"Playing {env}", total=num_clips)
        for begin in range(0, num_clips, MAX_COPIES):
            count = min(MAX_COPIES, num_clips - begin)
            parts.append(_play(count, length, visuals, seed, begin, env))
            progress.advance(task, count)
    frames, actions, levels, names = zip(*parts, strict=True)
    first, count = LEVELS["heldout"]
    origin = {
        "kind": "game",
        "env": env,
        "visuals": visuals,
        "seed": seed,
        "start_level": first,
        "num_levels": count,
        UNSEEN_KEY: copies(env, visuals).as_provenance(),
        "clips": num_clips,
        "levels": len(set(np.concatenate(levels).tolist())),
    }
    return TrueClips(
        frames=np.concatenate(frames), actions=np.concatenate(actions), action_names=names[0], origin=origin
    )


def _play(
    count: int, length: int, visuals: Visuals, seed: int, part: int, env: str
) -> tuple[Frames, Actions, NDArray[np.int64], tuple[str, ...]]:
    """Record a clip of each of `count` copies: frames, actions `[n, T]`, level seeds `[n]`, action names."""
    first_level, num_levels = LEVELS["heldout"]
    random = np.random.default_rng([seed, part])
    game = RealGame(
        env,
        visuals=visuals,
        start_level=first_level,
        num_levels=num_levels,
        num_envs=count,
        seed=int(random.integers(2**31)),
    )
    with contextlib.closing(game):
        policy = Policy(game.action_names, count, random)
        frames = np.empty((count, length, *game.observe().shape[1:]), dtype=np.uint8)
        actions = np.full((count, length), NO_ACTION)
        levels = np.zeros(count, dtype=np.int64)
        taken = np.full(count, NO_ACTION)
        start = random.integers(0, LATEST_START, size=count)
        age = np.zeros(count, dtype=np.int64)  # frames since the level began
        full = np.zeros(count, dtype=np.bool_)
        unseen = np.zeros(count, dtype=np.bool_)
        for _ in range(64 * (LATEST_START + length)):
            first = game.first
            age = np.where(first, 0, age)
            start = np.where(first, random.integers(0, LATEST_START, size=count), start)
            if first.any():
                unseen = np.where(first, copies(env, visuals).unseen(game.level_seeds), unseen)
            at = age - start
            rows = np.flatnonzero(~full & unseen & (at >= 0))
            frames[rows, at[rows]] = game.observe()[rows]
            actions[rows, at[rows]] = np.where(at[rows] == 0, NO_ACTION, taken[rows])
            begun = rows[at[rows] == 0]
            if len(begun):
                levels[begun] = np.array(game.level_seeds)[begun]
            full[rows[at[rows] == length - 1]] = True
            if full.all():
                return frames, actions, levels, game.action_names
            taken = policy.act(first)
            game.step(taken, restart=~unseen)
            age += 1
    raise InputError(
        f"expected lives of {length} frames in {env}, found {int((~full).sum())} copies without one"
    )

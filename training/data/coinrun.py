"""Recording CoinRun, or another procgen game, into a clip store, and proving a recording by playing it again.

Seed and action log are the source of truth. `record` writes every action of every copy of the game, from the
first step on, into the side files `log-train.u8` and `log-heldout.u8` (uint8 [steps, num_envs]); with the
options in the store's provenance they make the same frames again, bit for bit, without the policy.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import BundleError, InputError
from genie_rt.training.data.game import RealGame, Visuals
from genie_rt.training.data.levels import LEVELS, Copies, copies
from genie_rt.training.data.progress import progress_bar
from genie_rt.training.data.store import NO_ACTION, SPLITS, ClipStore, Frames, Split
from genie_rt.training.data.writer import ClipStoreWriter

HELDOUT_SHARE = 0.05
UNSEEN_KEY = "heldout_levels"
"""Key of the provenance that says how many held-out levels are unseen, and how many were left out."""
MAX_EPISODE = 512
MIN_EPISODE = 4
# A short recording uses fewer copies, so that its episodes still have a middle and an end.
MIN_STEPS = 256
MAX_ENVS = 1024
MAX_STEPS_PER_FRAME = 64
"""Factor by which a split may be played longer to find enough unseen levels."""

BEHAVIOURS = ("travel", "uniform", "sticky")
BEHAVIOUR_SHARES = (0.7, 0.1, 0.2)
# A sticky action lasts 8 frames in the mean: long enough to jump over a gap.
CHANGE_PROBABILITY = (1 / 8, 1.0, 1 / 8)
# A behaviour lasts 64 frames in the mean, so that no copy idles at the start of its level for long.
SWITCH_PROBABILITY = 1 / 64
TRAVEL_WEIGHTS = {
    "left": 0.06,
    "right": 0.26,
    "stay": 0.04,
    "jump": 0.06,
    "left+jump": 0.06,
    "right+jump": 0.52,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """Recording settings of one split, stored in the provenance."""

    env: str
    visuals: Visuals
    seed: int
    start_level: int
    num_levels: int
    num_envs: int

    def game(self, num_threads: int = 2) -> RealGame:
        return RealGame(**asdict(self), num_threads=num_threads)


class Policy:
    """Seeded random play for many copies at once, which drift between three behaviours.

    *travel* repeats an action for a geometric time and likes right and right+jump, so that the agent gets
    somewhere; *uniform* draws anew each frame; *sticky* repeats actions drawn uniformly.
    """

    def __init__(self, action_names: tuple[str, ...], num_envs: int, random: np.random.Generator) -> None:
        uniform = np.full(len(action_names), 1 / len(action_names))
        known = set(action_names) == set(TRAVEL_WEIGHTS)
        travel = np.array([TRAVEL_WEIGHTS[name] for name in action_names]) if known else uniform
        self._cumulative = np.cumsum([travel, uniform, uniform], axis=1)  # [3, A]
        self._change = np.array(CHANGE_PROBABILITY)
        self._random = random
        self._behaviour = np.zeros(num_envs, dtype=np.int64)
        self._action = np.zeros(num_envs, dtype=np.int64)

    def act(self, first: NDArray[np.bool_]) -> NDArray[np.int64]:
        """The next action of each copy, [B] int64; where `first` is true an episode begins."""
        draws = self._random.random((4, len(first)))
        behaviour = np.searchsorted(np.cumsum(BEHAVIOUR_SHARES)[:-1], draws[0], side="right")
        self._behaviour = np.where(first | (draws[3] < SWITCH_PROBABILITY), behaviour, self._behaviour)
        drawn = (draws[2][:, None] >= self._cumulative[self._behaviour][:, :-1]).sum(axis=1)
        change = first | (draws[1] < self._change[self._behaviour])
        self._action = np.where(change, drawn, self._action)
        return self._action


def record(
    out: Path,
    *,
    frames: int,
    env: str = "coinrun",
    visuals: Visuals = "plain",
    seed: int = 0,
    num_envs: int = 64,
    num_threads: int = 2,
) -> ClipStore:
    """Play the game at random and store what happens; about a twentieth of it on held-out levels.

    The store is a pure function of all arguments but `num_threads`. Episodes are cut at 512 frames; pieces
    shorter than 4 frames are dropped, so the store holds slightly fewer frames than asked for. Held-out
    levels that look like a training level are played but not stored; the provenance counts them.

    Args:
        out: folder of the new store.
        frames: about how many frames to record, both splits together.
        env, visuals, seed: see `RealGame`.
        num_envs: how many copies to play side by side; each plays `frames / num_envs` frames.
        num_threads: threads that step the game.

    Raises:
        UnsupportedError: if procgen is not installed.
        InputError: if an argument is out of range or `out` holds a store already.
        BundleError: if the disk fills up; the store then holds what was committed before.
    """
    if frames < 2 * MIN_STEPS or not 1 <= num_envs <= MAX_ENVS:
        raise InputError(
            f"expected frames >= {2 * MIN_STEPS} and num_envs from 1 to {MAX_ENVS}, "
            f"got {frames} and {num_envs}"
        )
    left_out = copies(env, visuals)
    heldout = max(MIN_STEPS, round(frames * HELDOUT_SHARE))
    targets: dict[Split, int] = {"train": frames - heldout, "heldout": heldout}
    recordings: dict[Split, Recording] = {}
    for split, target in targets.items():
        start_level, num_levels = LEVELS[split]
        recordings[split] = Recording(
            env=env,
            visuals=visuals,
            seed=seed,
            start_level=start_level,
            num_levels=num_levels,
            num_envs=max(1, min(num_envs, target // MIN_STEPS)),
        )
    with contextlib.ExitStack() as stack:
        games: dict[Split, RealGame] = {}
        for split, recording in recordings.items():
            games[split] = recording.game(num_threads)
            stack.callback(games[split].close)
        game = games["train"]
        height, width = game.observe().shape[1:3]
        writer = stack.enter_context(
            ClipStoreWriter(
                out,
                source=env,
                height=height,
                width=width,
                action_names=game.action_names,
                provenance={
                    "procgen": game.procgen_version,
                    "recordings": {split: asdict(recording) for split, recording in recordings.items()},
                    UNSEEN_KEY: left_out.as_provenance(),
                },
            )
        )
        progress = stack.enter_context(progress_bar())
        task = progress.add_task(f"Recording {env}", total=frames)
        for split, game in games.items():
            random = np.random.Generator(
                np.random.Philox(np.random.SeedSequence([seed, SPLITS.index(split)]))
            )
            policy = Policy(game.action_names, game.num_envs, random)
            for kept in _record_split(writer, game, policy, split, targets[split], left_out):
                progress.advance(task, kept)
    return ClipStore.open(out)


def _record_split(
    writer: ClipStoreWriter, game: RealGame, policy: Policy, split: Split, target: int, left_out: Copies
) -> Iterator[int]:
    """Play until `target` frames of unseen levels were kept and append the episodes.

    Yields:
        After each step, how many of its frames were kept.

    Raises:
        InputError: if most levels that come up are copies of training levels.
    """
    episodes = _OpenEpisodes(writer, game, split, left_out)
    most_steps = MAX_STEPS_PER_FRAME * -(-target // game.num_envs)
    step = 0
    while episodes.num_kept < target:
        if step == most_steps:
            raise InputError(
                f"played {step * game.num_envs} frames of {split} levels, of which only {episodes.num_kept} "
                "were on levels that look like no training level; record more frames, or use another --seed"
            )
        if step > 0:
            actions = policy.act(game.first)
            writer.append_side_file(log_name(split), actions.astype(np.uint8).tobytes())
            game.step(actions)
        else:
            actions = np.full(game.num_envs, NO_ACTION)
        before = episodes.num_kept
        episodes.add(step, game.observe(), actions, game.first)
        yield episodes.num_kept - before
        step += 1
    episodes.flush(range(game.num_envs))


class _OpenEpisodes:
    """The frames of each copy's unfinished episode, appended to the store when the episode ends."""

    def __init__(self, writer: ClipStoreWriter, game: RealGame, split: Split, left_out: Copies) -> None:
        self._writer, self._game, self._split, self._left_out = writer, game, split, left_out.levels
        num, shape = game.num_envs, writer.frame_shape
        self._frames = np.empty((num, MAX_EPISODE, *shape), dtype=np.uint8)
        self._actions = np.empty((num, MAX_EPISODE), dtype=np.int16)
        self._length = np.zeros(num, dtype=np.int64)
        self._begin = np.zeros(num, dtype=np.int64)
        self._level = np.zeros(num, dtype=np.int64)
        self._is_kept = np.zeros(num, dtype=np.bool_)
        self.num_kept = 0
        """Frames so far of levels that are stored."""

    def add(self, step: int, frames: Frames, actions: NDArray[np.int64], first: NDArray[np.bool_]) -> None:
        self.flush(np.flatnonzero(first | (self._length == MAX_EPISODE)).tolist())
        begins = self._length == 0
        if begins.any():
            seeds = self._game.level_seeds
            for env in np.flatnonzero(begins).tolist():
                self._begin[env], self._level[env] = step, seeds[env]
                self._is_kept[env] = seeds[env] not in self._left_out
        rows = np.arange(len(frames))
        self._frames[rows, self._length] = frames
        self._actions[rows, self._length] = np.where(begins, NO_ACTION, actions)
        self._length += 1
        self.num_kept += int(self._is_kept.sum())

    def flush(self, envs: list[int] | range) -> None:
        for env in envs:
            length = int(self._length[env])
            if length >= MIN_EPISODE and self._is_kept[env]:
                self._writer.append(
                    self._frames[env, :length],
                    self._actions[env, :length],
                    split=self._split,
                    extra={"level": int(self._level[env]), "env": env, "step": int(self._begin[env])},
                )
            self._length[env] = 0


def check_heldout_is_unseen(store: ClipStore) -> None:
    """Refuse a recording whose held-out split may hold copies of training levels.

    Raises:
        InputError: if the store was recorded when levels were held out by number alone.
    """
    if "recordings" in store.provenance and UNSEEN_KEY not in store.provenance:
        raise InputError(
            f"{store.path}: expected held-out levels that look like no training level, found a recording "
            "from before copies were left out: about half of its held-out levels are copies, so figures on "
            "it are too good. Record it again with `genie-rt data coinrun`; the training frames stay the same"
        )


def log_name(split: Split) -> str:
    return f"log-{split}.u8"


def replay(store: ClipStore, *, num_threads: int = 2) -> int:
    """Play a recording again from its provenance and action log and compare every frame and action.

    Returns:
        The number of frames that were compared, all of the store's.

    Raises:
        BundleError: if the store is no recording, its log is too short, or a frame or an action differs.
    """
    for split in SPLITS:
        _replay_split(store, split, num_threads)
    return store.num_frames


def _replay_split(store: ClipStore, split: Split, num_threads: int) -> None:
    begins: dict[int, list[int]] = defaultdict(list)
    steps = 0
    for episode, entry in enumerate(store.episodes):
        if entry.split == split:
            begins[entry.extra["step"]].append(episode)
            steps = max(steps, entry.extra["step"] + entry.length)
    with contextlib.closing(_recording_of(store, split).game(num_threads)) as game:
        log = _read_log(store, split, game.num_envs, max(0, steps - 1))
        running: dict[int, int] = {}  # copy of the game -> the episode that it is in
        for step in range(steps):
            if step > 0:
                game.step(log[step - 1])
            frames = game.observe()
            running |= {store.episodes[episode].extra["env"]: episode for episode in begins[step]}
            for env, episode in list(running.items()):
                entry = store.episodes[episode]
                position = step - entry.extra["step"]
                expected = log[step - 1, env] if position else NO_ACTION
                same = np.array_equal(store.episode_frames(episode)[position], frames[env])
                if not same or store.shard_actions[entry.shard][entry.start + position] != expected:
                    raise BundleError(
                        f"{store.path}: episode {episode} differs at its frame {position} from what the game "
                        "makes of the action log; record the store again"
                    )
                if position + 1 == entry.length:
                    del running[env]


def _read_log(store: ClipStore, split: Split, num_envs: int, steps: int) -> NDArray[np.uint8]:
    """The first `steps` actions of each copy, [steps, B] uint8."""
    log = (
        np.frombuffer(store.read_side_file(log_name(split)), dtype=np.uint8)
        if steps
        else np.empty(0, np.uint8)
    )
    log = log[: steps * num_envs]
    if len(log) < steps * num_envs or (log >= len(store.action_names)).any():
        path = store.path / log_name(split)
        raise BundleError(
            f"{path}: expected {steps} steps of {num_envs} actions below {len(store.action_names)}, found "
            f"{len(log)} bytes, the highest {log.max(initial=0)}"
        )
    return log.reshape(steps, num_envs)


def _recording_of(store: ClipStore, split: Split) -> Recording:
    try:
        recording = Recording(**store.provenance["recordings"][split])
        envs = [
            entry.extra["env"]
            for entry in store.episodes
            if entry.split == split and entry.extra["step"] >= 0
        ]
    except (KeyError, TypeError) as error:
        raise BundleError(
            f"{store.path}: expected a recording, found its provenance incomplete: {error!r}"
        ) from error
    if envs and (min(envs) < 0 or max(envs) >= recording.num_envs):
        raise BundleError(f"{store.path}: expected copies 0 to {recording.num_envs - 1}, found {max(envs)}")
    return recording

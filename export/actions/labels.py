"""Transitions whose key is known: from recorded clips, with the codes that the action model sees in them.

A key that has just gone down has hardly begun to act, so only those count that were down a step before too;
and rare keys come as often as others, so that a few labels say something of each.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import InputError
from genie_rt.export.actions.key_map import Codes
from genie_rt.runtime.bundle import Bundle
from genie_rt.training.data.store import NO_ACTION, Clips, ClipStore
from genie_rt.training.evaluation.definition import load_definition
from genie_rt.training.evaluation.latent import infer_actions, lam_of

HISTORY = 8
"""Frames of a clip: its last transition is the labelled one, and what is before it is the history."""

BATCH = 32

DRAWN = 16
"""Transitions that are looked at for each one that is taken, so that rare keys are found."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transitions:
    """Labelled transitions: one of each key in turn, at random within a key.

    Attributes:
        codes: `[n]`, as the action model sees them. keys: `[n]`, indices of `key_names`.
    """

    codes: Codes
    keys: Codes
    key_names: tuple[str, ...]


def labelled_transitions(
    bundle: Bundle, path: Path, lam_run: Path | None, *, count: int, seed: int
) -> Transitions:
    """Draw transitions from the training clips of a store, as many of each key, and infer their codes.

    Args:
        bundle: of the world.
        path: of a clip store with recorded actions.
        lam_run: as in `lam_of`.
        count: number of transitions; fewer where the store has fewer.
        seed: of the draw.

    Raises:
        InputError: the store has no actions, or pictures of another size; or as `lam_of`.
        BundleError: the store or the bundle is broken.
    """
    import torch

    store = ClipStore.open(path)
    size = bundle.config.tokenizer.height, bundle.config.tokenizer.width
    if not store.action_names:
        raise InputError(f"{path}: expected clips with recorded actions, found none; name codes with --names")
    if (store.height, store.width) != size:
        raise InputError(
            f"{path}: expected frames of {size[1]}x{size[0]}, found {store.width}x{store.height}"
        )
    clips = store.clips(length=HISTORY, split="train")
    drawn = np.random.default_rng(seed).permutation(len(clips))[: DRAWN * count]
    chosen = drawn[_in_turn(_held_keys(clips, drawn), len(store.action_names))][:count]
    model = load_definition(bundle, torch.device("cpu"))
    lam = lam_of(bundle, lam_run, model)
    codes, keys = [], []
    for begin in range(0, len(chosen), BATCH):
        frames, actions = clips.batch(chosen[begin : begin + BATCH])
        codes.append(infer_actions(lam, model, frames, BATCH)[:, -1])
        keys.append(actions[:, -1])
    return Transitions(
        codes=np.concatenate(codes or [np.empty(0, np.int64)]),
        keys=np.concatenate(keys or [np.empty(0, np.int64)]),
        key_names=store.action_names,
    )


def _held_keys(clips: Clips, chosen: NDArray[np.int64]) -> NDArray[np.int64]:
    """The key of each clip's last transition, `NO_ACTION` where it was another a step before: `[n]`."""
    store, keys = clips.store, np.full(len(chosen), NO_ACTION)
    episodes, starts = clips.locate(chosen)
    for row, (episode, start) in enumerate(zip(episodes.tolist(), starts.tolist(), strict=True)):
        entry = store.episodes[episode]
        last = entry.start + start + clips.length - 1
        before, now = store.shard_actions[entry.shard][last - 1 : last + 1].tolist()
        keys[row] = now if now == before else NO_ACTION
    return keys


def _in_turn(keys: NDArray[np.int64], num_keys: int) -> NDArray[np.int64]:
    """Places of the known keys, one of each key in turn for as long as it has any."""
    places = [np.flatnonzero(keys == key) for key in range(num_keys)]
    turns = np.concatenate([np.arange(len(each)) for each in places])
    return np.concatenate(places)[np.argsort(turns, kind="stable")]

"""Transitions whose key is known: from recorded clips, with the codes that the action model sees in them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from genie_rt.errors import InputError
from genie_rt.export.actions.key_map import Codes
from genie_rt.runtime.bundle import Bundle
from genie_rt.training.data.store import NO_ACTION, ClipStore
from genie_rt.training.evaluation.definition import load_definition
from genie_rt.training.evaluation.latent import infer_actions, lam_of

HISTORY = 8
"""Frames of a clip: its last transition is the labelled one, and what is before it is the history."""

BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Transitions:
    """Labelled transitions in random order.

    Attributes:
        codes: `[n]`, as the action model sees them. keys: `[n]`, indices of `key_names`.
    """

    codes: Codes
    keys: Codes
    key_names: tuple[str, ...]


def labelled_transitions(
    bundle: Bundle, path: Path, lam_run: Path | None, *, count: int, seed: int
) -> Transitions:
    """Draw transitions from the training clips of a store, and infer their codes.

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
    chosen = np.random.default_rng(seed).permutation(len(clips))[:count]
    model = load_definition(bundle, torch.device("cpu"))
    lam = lam_of(bundle, lam_run, model)
    codes, keys = [], []
    for begin in range(0, len(chosen), BATCH):
        frames, actions = clips.batch(chosen[begin : begin + BATCH])
        codes.append(infer_actions(lam, model, frames, BATCH)[:, -1])
        keys.append(actions[:, -1])
    known = np.concatenate(keys) != NO_ACTION
    return Transitions(
        codes=np.concatenate(codes)[known], keys=np.concatenate(keys)[known], key_names=store.action_names
    )

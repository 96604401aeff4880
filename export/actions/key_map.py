"""Which code a key stands for, learned from a few transitions whose key is known (Bruce et al. 2024, 3.3).

A key gets the code whose share among the key's transitions exceeds its share among all by the largest
factor (the lift). Two keys may share a code, and a code may have no key.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import InputError
from genie_rt.runtime.manifest import unnamed_action

Codes = NDArray[np.int64]
"""`[n]` int64."""

PRIOR = 2.0
"""Transitions that every key counts as having seen beforehand, shared out over the codes as all are."""

DRAWS = 50
"""Random choices of labelled transitions that an accuracy is averaged over."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LearnedKeys:
    """Code of every key.

    Attributes:
        codes: `[K]`, the code that each key plays.
        lift: `[K, A]`, P(code | key) / P(code).
        likely_key: `[A]`, the key that a code most likely comes from, all keys being as likely beforehand.
    """

    codes: Codes
    lift: NDArray[np.float64]
    likely_key: Codes


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How well single transitions tell their key, on transitions that the map was not learned from.

    Attributes:
        labels: number of labelled transitions.
        balanced: mean over keys of the share of its transitions that are told right.
        spread: standard deviation over draws of the labelled transitions.
        chance: what guessing gives, 1 / keys.
    """

    labels: int
    balanced: float
    spread: float
    chance: float


def learn_keys(codes: Codes, keys: Codes, num_codes: int, num_keys: int) -> LearnedKeys:
    """Learn the map from transitions.

    Args:
        codes, keys: `[n]`, of each transition: what the action model sees, and what was pressed.
        num_codes, num_keys: `A` and `K`.
    """
    counts = np.zeros((num_keys, num_codes))
    np.add.at(counts, (keys, codes), 1)
    overall = (counts.sum(0) + PRIOR / num_codes) / (len(codes) + PRIOR)  # [A]
    given_key = (counts + PRIOR * overall) / (counts.sum(1, keepdims=True) + PRIOR)
    return LearnedKeys(
        codes=(given_key / overall).argmax(1), lift=given_key / overall, likely_key=given_key.argmax(0)
    )


def accuracies(
    codes: Codes, keys: Codes, num_codes: int, num_keys: int, labels: Sequence[int], seed: int = 0
) -> list[Accuracy]:
    """How the accuracy grows with the number of labelled transitions.

    Args:
        codes, keys: `[n]`; those that are not drawn as labelled are told.
        labels: numbers of labelled transitions; those that leave nothing to tell are passed over.
        seed: of the draws.
    """
    random = np.random.default_rng(seed)
    found = []
    for count in labels:
        if 2 * count > len(codes):
            continue
        each = []
        for _ in range(DRAWS):
            order = random.permutation(len(codes))
            known, asked = order[:count], order[count:]
            learned = learn_keys(codes[known], keys[known], num_codes, num_keys)
            each.append(_balanced(learned.likely_key[codes[asked]], keys[asked], num_keys))
        found.append(
            Accuracy(
                labels=count,
                balanced=float(np.mean(each)),
                spread=float(np.std(each)),
                chance=1 / num_keys,
            )
        )
    return found


def named_codes(
    key_names: Sequence[str], codes: Sequence[int], num_codes: int
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names and codes of a bundle's actions: the keys first, then every code that no key plays.

    Raises:
        InputError: a name is empty, stands twice, or is the name of a code that no key plays.
    """
    left = [code for code in range(num_codes) if code not in codes]
    names = (*key_names, *map(unnamed_action, left))
    if len(set(names)) != len(names) or not all(names):
        raise InputError(f"expected every name once and none empty, found {', '.join(names)}")
    return names, (*codes, *left)


def _balanced(told: Codes, keys: Codes, num_keys: int) -> float:
    shares = [float((told[keys == key] == key).mean()) for key in range(num_keys) if (keys == key).any()]
    return float(np.mean(shares))

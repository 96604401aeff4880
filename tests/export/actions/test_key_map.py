"""Keys are learned from labelled transitions, and how well is told honestly."""

import numpy as np
import pytest

from genie_rt.errors import InputError
from genie_rt.export.actions.key_map import accuracies, learn_keys, named_codes


def drawn(table: list[list[float]], count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes and keys; row `k` of the table has the chances of the codes under key `k`."""
    random = np.random.default_rng(seed)
    keys = random.integers(0, len(table), count)
    codes = np.array([random.choice(len(table[0]), p=table[key]) for key in keys])
    return codes, keys


def test_a_key_gets_the_code_that_it_raises_most() -> None:
    """Not the one that is most frequent under it: that may be frequent under all keys."""
    table = [[0.6, 0.4, 0.0], [0.7, 0.0, 0.3], [1.0, 0.0, 0.0]]
    codes, keys = drawn(table, 600)
    learned = learn_keys(codes, keys, 3, 3)
    assert learned.codes.tolist() == [1, 2, 0]
    assert learned.lift[0, 1] == pytest.approx(3.0, rel=0.2)  # 0.4 against a mean of 0.133


def test_a_key_that_nobody_pressed_gets_some_code() -> None:
    learned = learn_keys(np.array([0, 1, 1]), np.array([0, 0, 0]), 2, 2)
    assert np.isfinite(learned.lift).all() and set(learned.codes.tolist()) <= {0, 1}


def test_accuracy_of_codes_that_say_all_and_of_codes_that_say_nothing() -> None:
    told, keys = drawn([[1.0, 0.0], [0.0, 1.0]], 400)
    (sure,) = accuracies(told, keys, 2, 2, (100,))
    assert (sure.balanced, sure.spread, sure.chance) == (1.0, 0.0, 0.5)
    noise, keys = drawn([[0.5, 0.5], [0.5, 0.5]], 2000)
    (guess,) = accuracies(noise, keys, 2, 2, (100,))
    assert guess.balanced == pytest.approx(0.5, abs=0.03)


def test_accuracy_is_balanced_over_keys() -> None:
    """A key that is nearly always pressed does not make a map look good."""
    keys = np.array([0] * 380 + [1] * 20)
    codes = np.zeros(400, np.int64)
    (row,) = accuracies(codes, keys, 2, 2, (100,))
    assert row.balanced == pytest.approx(0.5)


def test_numbers_that_leave_too_little_to_tell_are_passed_over() -> None:
    codes, keys = drawn([[1.0, 0.0], [0.0, 1.0]], 150)
    assert [row.labels for row in accuracies(codes, keys, 2, 2, (50, 100, 500))] == [50]


def test_codes_without_a_key_keep_a_name() -> None:
    names, codes = named_codes(("left", "right", "jump"), (2, 0, 2), 4)
    assert names == ("left", "right", "jump", "latent-1", "latent-3")
    assert codes == (2, 0, 2, 1, 3)


@pytest.mark.parametrize("names", [("left", "left"), ("left", ""), ("latent-1", "left")])
def test_names_have_to_differ(names: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="every name once and none empty"):
        named_codes(names, (0, 2), 3)

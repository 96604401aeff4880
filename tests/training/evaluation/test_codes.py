"""Use of latent actions, by hand."""

import numpy as np
import pytest
from rich.console import Console

from genie_rt.errors import InputError
from genie_rt.training.evaluation.codes import code_use_table, measure_code_use


def test_shares_and_perplexity_by_hand() -> None:
    actions = np.array([[-1, 0, 0, 1], [-1, 1, 0, 3]])
    use = measure_code_use(actions, ("a", "b", "c", "d"))
    assert use.num_steps == 6
    assert [code.share for code in use.actions] == pytest.approx([3 / 6, 2 / 6, 0, 1 / 6])
    assert use.perplexity == pytest.approx(np.exp(np.log(2) / 2 + np.log(3) / 3 + np.log(6) / 6))
    assert use.actions[0].share_interval == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    assert use.actions[2].share_interval == (0.0, 0.0)
    low, high = use.perplexity_interval
    assert 1 <= low <= use.perplexity <= high + 1e-9 and high <= 4


def test_even_use_reaches_the_number_of_actions_and_one_action_alone_reaches_one() -> None:
    even = np.tile(np.arange(8), (5, 3))
    assert measure_code_use(even, tuple("abcdefgh")).perplexity == pytest.approx(8)
    assert measure_code_use(even, tuple("abcdefgh")).perplexity_interval == pytest.approx((8, 8))
    assert measure_code_use(np.full((3, 4), 2), tuple("abc")).perplexity == pytest.approx(1)


def test_the_table_shows_percent() -> None:
    console = Console(width=100)
    with console.capture() as capture:
        console.print(code_use_table(measure_code_use(np.tile([0, 1, 1, 1], (4, 1)), ("a", "b"))))
    assert "75.0 ±0.0 %" in capture.get() and "Perplexity 1.75 ±0.00 of 2" in capture.get()


def test_clips_without_actions_are_refused() -> None:
    with pytest.raises(InputError, match="expected clips with at least one of 2 actions"):
        measure_code_use(np.full((2, 3), -1), ("a", "b"))

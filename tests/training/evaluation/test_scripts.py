"""Scripts: held actions stay, random ones last."""

import numpy as np

from genie_rt.training.evaluation.scripts import CHANGE_PROBABILITY, held, sticky


def test_held_actions_are_the_same_from_every_start() -> None:
    scripts = held(np.array([4, 1]), 3, 5)
    assert scripts.shape == (3, 2, 5)
    assert (scripts[:, 0] == 4).all() and (scripts[:, 1] == 1).all()


def test_sticky_actions_last_and_use_every_choice() -> None:
    choices = np.array([3, 5, 9])
    actions = sticky(choices, 20, 400, np.random.default_rng(0))
    assert actions.shape == (20, 400) and set(np.unique(actions)) == {3, 5, 9}
    changes = (np.diff(actions, axis=1) != 0).mean()
    assert abs(changes - CHANGE_PROBABILITY * 2 / 3) < 0.01  # a third of the draws gives the same again
    for choice in choices:
        assert abs((actions == choice).mean() - 1 / 3) < 0.04
    np.testing.assert_array_equal(actions, sticky(choices, 20, 400, np.random.default_rng(0)))
    assert (actions != sticky(choices, 20, 400, np.random.default_rng(1))).any()
    assert sticky(choices, 2, 1, np.random.default_rng(0)).shape == (2, 1)

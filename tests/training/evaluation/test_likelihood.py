"""The likelihood of true frames, against sums written out."""

from typing import Any

import numpy as np
import pytest
import torch
from makers import make_config, make_model, make_pictures, make_world
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.model.dynamics import NULL_ACTION, UNDECIDED, previous_frame
from genie_rt.runtime.orders.halton import halton_order
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.likelihood import negative_log_likelihood
from genie_rt.training.evaluation.rollout import ModelRollouts

ACTIONS = [2, 0]


@pytest.fixture(scope="module")
def given() -> tuple[ModelRollouts, list[Row], Tensor]:
    """A model, two clips of three frames that it has seen, and the tokens of their fourth."""
    config = make_config()
    rollouts = ModelRollouts(make_world(config))
    frames = np.stack([make_pictures(config, 4, seed) for seed in range(2)])
    prompted = rollouts.prompt(frames, np.ones((2, 4), np.int64), [3], [5, 1 << 63])
    assert prompted.tokens is not None
    return rollouts, prompted.rows[3], prompted.tokens[:, 3]


def likelihood(given: Any, **plan: Any) -> Tensor:
    rollouts, rows, truth = given
    return negative_log_likelihood(rollouts.backend, rollouts.config, rows, ACTIONS, truth, Plan(**plan))


def nats(given: Any, tokens: Tensor) -> Tensor:
    """`-log p` of every true token in a pass over `tokens`: `[B, N]`."""
    rollouts, rows, truth = given
    logits = rollouts.backend.probe(rows, ACTIONS, tokens, Plan(passes=1), 0).logits
    return torch.nn.functional.cross_entropy(logits.permute(0, 2, 1), truth, reduction="none")


@pytest.mark.parametrize("order", ["maskgit", "adaptive", "random", "halton"])
def test_with_one_pass_it_is_the_cross_entropy(given: Any, order: str) -> None:
    truth = given[2]
    expected = nats(given, torch.full_like(truth, UNDECIDED)).mean(1)
    for temperature in (1.0, 0.3):  # the plan's temperature is that of its samples, not of the judgement
        found = likelihood(given, order=order, passes=1, temperature=temperature)
        assert found.dtype == torch.float64
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)


def test_it_is_that_of_the_definition_over_the_whole_clip() -> None:
    """Every frame evaluated at once, without pages; more frames than the window holds."""
    config = make_config(window=2)
    rollouts = ModelRollouts(make_world(config))
    frames = np.stack([make_pictures(config, 6, seed) for seed in range(2)])
    actions = np.array([[0, 2, 1, 1, 0, 2], [0, 1, 0, 2, 2, 0]])
    prompted = rollouts.prompt(frames, actions, [5], [5, 6])
    tokens = prompted.tokens
    assert tokens is not None
    found = negative_log_likelihood(
        rollouts.backend, config, prompted.rows[5], actions[:, 5].tolist(), tokens[:, 5], Plan(passes=1)
    )
    masked, led_by = tokens.clone(), torch.from_numpy(actions).clone()
    masked[:, 5], led_by[:, 0] = UNDECIDED, NULL_ACTION
    model = rollouts.model
    ages = causal_ages(6, 2, torch.device("cpu"))
    previous, table = previous_frame(tokens), model.token_table()
    hidden, _ = model.dynamics(masked, previous, led_by, table, ages)
    logits = model.dynamics.logits(hidden, previous, table)
    nats = torch.nn.functional.cross_entropy(logits[:, 5].permute(0, 2, 1), tokens[:, 5], reduction="none")
    torch.testing.assert_close(found, nats.mean(1), rtol=1e-9, atol=0)  # float64, other sums


def test_another_back_end_finds_the_same(given: Any) -> None:
    """The `cuda` back end by its operators' references in float64, for every order."""
    config = make_config()
    ours = given[0]
    cuda = CudaBackend(make_model(config), Precision.of("float64"), torch.device("cpu"))
    theirs = ModelRollouts(World(make_world(config).bundle, cuda, "float64"), make_model(config))
    frames = np.stack([make_pictures(config, 4, seed) for seed in range(2)])
    found = [
        rollouts.prompt(frames, np.ones((2, 4), np.int64), [3], [5, 1 << 63]) for rollouts in (ours, theirs)
    ]
    np.testing.assert_array_equal(found[0].frames, found[1].frames)
    for order in ("maskgit", "halton", "adaptive"):
        plan = Plan(order=order, passes=3)
        one, other = (
            negative_log_likelihood(
                rollouts.backend, config, prompted.rows[3], ACTIONS, prompted.tokens[:, 3], plan
            )
            for rollouts, prompted in zip((ours, theirs), found, strict=True)
        )
        torch.testing.assert_close(one, other, rtol=1e-9, atol=0)  # float64, other sums


def test_with_two_passes_the_second_knows_what_the_first_should_have_decided(given: Any) -> None:
    truth = given[2]
    plan = Plan(order="halton", passes=2)
    first = torch.from_numpy(halton_order(3, 5))[: plan.decided_after(0, 15)]
    assert 0 < len(first) < 15
    known = torch.full_like(truth, UNDECIDED)
    before = nats(given, known)
    known[:, first] = truth[:, first]
    after = nats(given, known)
    after[:, first] = before[:, first]
    torch.testing.assert_close(likelihood(given, order="halton", passes=2), after.mean(1), rtol=1e-9, atol=0)


def test_an_adaptive_plan_that_is_content_with_everything_needs_one_pass(given: Any) -> None:
    one = likelihood(given, passes=1)
    assert torch.equal(likelihood(given, order="adaptive", passes=5, threshold=1e-9), one)
    assert not torch.equal(likelihood(given, order="adaptive", passes=5, threshold=1.0), one)


@pytest.mark.parametrize("order", ["maskgit", "random", "halton", "adaptive"])
def test_every_token_counts_once(given: Any, order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a model that finds all tokens alike the likelihood is log V, whatever the order."""
    rollouts = given[0]
    real = type(rollouts.backend).probe

    def flat(self: Any, *arguments: Any) -> Any:
        probe = real(self, *arguments)
        return type(probe)(logits=torch.zeros_like(probe.logits), candidates=probe.candidates)

    monkeypatch.setattr(type(rollouts.backend), "probe", flat)
    for passes in (1, 4, 15):
        found = likelihood(given, order=order, passes=passes)
        torch.testing.assert_close(found, torch.full((2,), np.log(24.0), dtype=torch.float64))


def test_clips_do_not_depend_on_each_other(given: Any) -> None:
    rollouts, rows, truth = given
    plan = Plan(order="maskgit", passes=4)
    both = negative_log_likelihood(rollouts.backend, rollouts.config, rows, ACTIONS, truth, plan)
    for i in range(2):
        one = negative_log_likelihood(
            rollouts.backend,
            rollouts.config,
            rows[i : i + 1],
            ACTIONS[i : i + 1],
            truth[i : i + 1],
            plan,
        )
        torch.testing.assert_close(one[0], both[i], rtol=1e-9, atol=0)


def test_reuse_has_no_likelihood(given: Any) -> None:
    with pytest.raises(InputError, match="reuse"):
        likelihood(given, order="halton", passes=2, reuse="passes")

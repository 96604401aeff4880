"""A plan decides every token, some in every pass, and holds nothing that no plan can be."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import make_config

from genie_rt.errors import ConfigError
from genie_rt.runtime.plan import MAX_PASSES, Plan


def counts(passes: int, num_tokens: int) -> list[int]:
    return [Plan(passes=passes).decided_after(k, num_tokens) for k in range(passes)]


@given(passes=st.integers(1, 300), num_tokens=st.integers(1, 1000))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_every_pass_decides_some_until_all_are_decided(passes: int, num_tokens: int) -> None:
    decided = counts(passes, num_tokens)
    steps = [after - before for before, after in zip([0, *decided], decided, strict=False)]
    assert decided[-1] == sum(steps) == num_tokens
    if passes <= num_tokens:
        assert min(steps) >= 1
    else:  # one a pass, and the rest of the passes are not needed
        first_done = decided.index(num_tokens)
        assert min(steps[: first_done + 1]) >= 1
        assert set(steps[first_done + 1 :]) <= {0}


def test_the_schedule_is_the_cosine() -> None:
    assert counts(1, 256) == [256]
    assert counts(2, 256) == [256 - math.floor(256 * math.cos(math.pi / 4)), 256]
    assert counts(4, 256) == [20, 75, 159, 256]  # 256 - floor(256 cos(pi/2 (k+1)/4))
    assert counts(25, 15) == [*range(1, 16), *[15] * 10]


def test_noise_falls_to_nothing_in_the_last_pass() -> None:
    plan = Plan(passes=4, noise=2.0)
    assert [plan.noise_in(k) for k in range(4)] == [1.5, 1.0, 0.5, 0.0]
    assert Plan(passes=1, noise=5.0).noise_in(0) == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"passes": 0}, {"passes": -1}, {"passes": MAX_PASSES + 1}, {"passes": 2.0}, {"passes": True},
        {"passes": "4"}, {"passes": None}, {"temperature": 0}, {"temperature": -1.0}, {"temperature": True},
        {"temperature": math.nan}, {"temperature": math.inf}, {"temperature": "warm"}, {"noise": -0.1},
        {"noise": math.nan}, {"noise": None}, {"order": "random walk"}, {"order": None}, {"threshold": 0},
        {"threshold": 1.01}, {"threshold": -0.5}, {"threshold": math.nan}, {"threshold": None},
        {"fresh": 0}, {"fresh": 2.0}, {"reuse": "all"}, {"reuse": True},
    ],
    ids=str,
)  # fmt: skip
def test_values_that_no_plan_can_have_are_refused_by_name(changes: dict[str, object]) -> None:
    (name,) = changes
    with pytest.raises(ConfigError, match=name):
        Plan(**changes)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=name):
        Plan().replace(**changes)


def test_an_unknown_field_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match=r"'pases'.*'passes'"):
        Plan().replace(pases=3)


def test_replace_changes_what_it_names_and_leaves_the_plan() -> None:
    plan = Plan(passes=4, temperature=2.0)
    assert plan.replace(passes=7, noise=1) == Plan(passes=7, temperature=2.0, noise=1.0)
    assert plan == Plan(passes=4, temperature=2.0)
    with pytest.raises(AttributeError):
        plan.passes = 5  # type: ignore[misc]


@pytest.mark.parametrize("order", ["maskgit", "adaptive"])
def test_reuse_between_passes_needs_an_order_known_in_advance(order: str) -> None:
    with pytest.raises(ConfigError, match=f'"random" or "halton".*{order}'):
        Plan(order=order, reuse="passes")


@pytest.mark.parametrize("order", ["random", "halton", "adaptive"])
def test_reuse_between_frames_needs_the_order_by_confidence_and_passes_that_are_known(order: str) -> None:
    with pytest.raises(ConfigError, match=f'"maskgit".*{order}'):
        Plan(order=order, reuse="frames")
    with pytest.raises(ConfigError, match=r"2 passes or more.*1"):
        Plan(reuse="frames", passes=1)


def test_more_passes_than_tokens_do_not_fit_a_model() -> None:
    config = make_config(grid=(4, 6), merge=2)  # 24 tokens at 6 positions
    assert Plan(passes=24).check(config) == Plan(passes=24)
    with pytest.raises(ConfigError, match=r"at most 24, the tokens.*25"):
        Plan(passes=25).check(config)
    whole = Plan(order="halton", reuse="passes", passes=6)
    assert whole.check(config) is whole
    with pytest.raises(ConfigError, match=r"at most 6, the positions.*7"):
        whole.replace(passes=7).check(config)


def test_passes_decide_along_a_cosine() -> None:
    assert [Plan(passes=4).decided_after(k, 256) for k in range(4)] == [20, 75, 159, 256]


def test_an_adaptive_frame_takes_the_share_of_the_passes_that_it_is_unsure_of() -> None:
    plan = Plan(order="adaptive", passes=4)
    at = {0: 1, 1: 1, 64: 1, 65: 2, 128: 2, 129: 3, 192: 3, 193: 4, 256: 4}
    assert {count: plan.passes_for(count, 256) for count in at} == at
    assert plan.replace(passes=1).passes_for(256, 256) == 1

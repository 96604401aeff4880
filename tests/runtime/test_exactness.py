"""Caching is exact: a session gives what a rollout gives that recomputes the whole history for every pass.

In float64, free-running: one wrong key anywhere changes a token within a few frames, and then everything.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_actions, make_config, make_pictures, make_world
from naive import NaiveFrame
from rollouts import cached_rollout, first_difference, yardstick

from genie_rt.errors import StateError
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.bundle import shipped_bundles
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.orders import ORDERS
from genie_rt.runtime.pages import PagePool
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

SQUARE, ODD = (8, 8), (3, 5)


def assert_exact(config: ModelConfig, plan: Plan, frames: int, prompt_frames: int = 1) -> list[NaiveFrame]:
    world = make_world(config)
    prompt, actions = make_pictures(config, prompt_frames), make_actions(frames - 1)
    expected = yardstick(world, prompt, actions, plan)
    for idle in (True, False):  # the commit fused into the next frame's first pass, and by itself
        found = cached_rollout(make_world(config), prompt, actions, plan, idle=idle)
        assert len(found) == frames - prompt_frames
        assert first_difference(found, expected, logits=plan.static_order is None) is None
    return found


@pytest.mark.parametrize(
    ("window", "passes"),
    [(4, 1), (4, 4), (4, 15), (16, 1), (16, 4), pytest.param(16, 15, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("grid", [SQUARE, ODD])
def test_cached_rollout_equals_naive_one(grid: tuple[int, int], window: int, passes: int) -> None:
    config = make_config(grid=grid, window=window, width=8, head_width=3, mlp_width=8)
    found = assert_exact(config, Plan(passes=passes), 3 * window)
    assert [len(frame.logits) for frame in found] == [passes] * len(found)
    assert (
        len({frame.tokens.numpy().tobytes() for frame in found}) > len(found) // 2
    )  # it does not stand still


@pytest.mark.parametrize("noise", [0.0, 3.0])
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_noise_and_temperature_are_the_same(noise: float, temperature: float) -> None:
    assert_exact(make_config(), Plan(passes=4, noise=noise, temperature=temperature), 12)


@pytest.mark.parametrize("prompt_frames", [2, 3, 7])
def test_prompts_of_several_frames_are_the_same(prompt_frames: int) -> None:
    assert_exact(make_config(), Plan(passes=3), 14, prompt_frames)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("merge", [1, 2])
def test_every_order_with_any_number_of_passes_is_the_same(order: str, merge: int) -> None:
    config = make_config(grid=(4, 6), merge=merge)
    for passes in (1, 4, 24):
        plan = Plan(order=order, passes=passes, threshold=0.3)
        assert_exact(config, plan, 12 if passes < 24 else 6, prompt_frames=2)


def test_adaptive_frames_take_fewer_passes_than_the_plan_has() -> None:
    found = assert_exact(make_config(), Plan(order="adaptive", passes=10, threshold=0.2), 12)
    taken = {len(frame.logits) for frame in found}
    assert max(taken) <= 10 and min(taken) < 10 and len(taken) > 1


def test_an_adaptive_frame_is_a_maskgit_frame_of_its_own_number_of_passes() -> None:
    config = make_config(grid=(4, 6))
    world = make_world(config)
    adaptive = world.session(plan=Plan(order="adaptive", passes=9, threshold=0.4), seed=3)
    adaptive.reset(make_pictures(config, 1)[0])
    taken = set()
    for step in range(12):
        own = adaptive.fork()
        picture = adaptive.step(step % 3)
        taken.add(adaptive.stats.passes)
        own.plan = Plan(passes=adaptive.stats.passes)
        assert np.array_equal(own.step(step % 3), picture)
        assert torch.equal(own.row.tokens, adaptive.row.tokens)
    assert len(taken) > 1


def test_one_pass_is_the_same_in_every_order() -> None:
    config = make_config()
    frames = [assert_exact(config, Plan(order=order, passes=1), 8)[-1] for order in ORDERS]
    assert all(torch.equal(frame.tokens, frames[0].tokens) for frame in frames)


def test_a_window_of_one_frame_is_the_same() -> None:
    assert_exact(make_config(window=1), Plan(passes=3), 8)


def test_a_window_of_two_frames_is_the_same() -> None:
    assert_exact(make_config(window=2), Plan(passes=3), 8)


@pytest.mark.parametrize(("encoder", "dynamics", "decoder"), [(2, 4, 3), (5, 3, 1), (1, 1, 4)])
def test_windows_of_the_parts_may_differ(encoder: int, dynamics: int, decoder: int) -> None:
    config = make_config(window=dynamics, encoder_window=encoder, decoder_window=decoder)
    assert_exact(config, Plan(passes=3), 14, prompt_frames=6)


def test_switches_of_the_dynamics_are_the_same() -> None:
    config = make_config()
    for name in ("tie_codebook", "previous_token", "copy_logit"):
        dynamics = replace(config.dynamics, **{name: False})
        assert_exact(replace(config, dynamics=dynamics), Plan(passes=3), 10)


def test_demo_bundle_is_exact() -> None:
    if "demo" not in shipped_bundles():
        pytest.skip("the demo bundle is not part of this install")
    world = World.load("demo", dtype="float64")
    config = world.bundle.config
    frames = config.dynamics.transformer.window + 6
    actions = np.random.default_rng(0).integers(0, config.dynamics.num_actions, frames - 1).tolist()
    prompt, plan = world.prompt(0)[None], world.bundle.plans["default"].replace(passes=2)
    found = cached_rollout(world, prompt, actions, plan)
    codes = [world.bundle.action_codes[action] for action in actions]  # which the model itself takes
    assert first_difference(found, yardstick(world, prompt, codes, plan)) is None


# What breaks the cache must break the test. Every mutation is made of a pool, or of the back end.

Mutation = Callable[[ReferenceBackend, PagePool], None]


def drop_newest_page(backend: ReferenceBackend, pool: PagePool) -> None:
    pool.push = lambda pages, page: pages  # type: ignore[method-assign]


def drop_oldest_page(backend: ReferenceBackend, pool: PagePool) -> None:
    pool.push = lambda pages, page: (page, *pages)[: pool.window - 2]  # type: ignore[method-assign]


def keep_the_oldest_page_for_ever(backend: ReferenceBackend, pool: PagePool) -> None:
    room = pool.window - 1

    def push(pages, page):
        return (page, *pages) if len(pages) < room else (page, *pages[: room - 2], pages[-1])

    pool.push = push  # type: ignore[method-assign]


def take_a_stale_page_for_the_newest(backend: ReferenceBackend, pool: PagePool) -> None:
    pool.push = lambda pages, page: (pages[0] if pages else page, *pages)[: pool.window - 1]  # type: ignore[method-assign]


def shift_ages_by_one(backend: ReferenceBackend, pool: PagePool) -> None:
    history = PagePool.history

    def shifted(pages):
        keys_values, ages = history(pool, pages)
        return keys_values, torch.where(ages > 0, ages - 1, ages)

    pool.history = shifted  # type: ignore[method-assign]


def swap_two_pages(backend: ReferenceBackend, pool: PagePool) -> None:
    history = PagePool.history
    pool.history = lambda pages: history(pool, (*pages[1:2], *pages[:1], *pages[2:]))  # type: ignore[method-assign]


def write_keys_only(backend: ReferenceBackend, pool: PagePool) -> None:
    write = PagePool.write
    pool.write = lambda kept: write(pool, [(keys, keys) for keys, _ in kept])  # type: ignore[method-assign]


MUTATIONS: dict[str, Mutation] = {
    f.__name__: f
    for f in (
        drop_newest_page, drop_oldest_page, keep_the_oldest_page_for_ever, take_a_stale_page_for_the_newest,
        shift_ages_by_one, swap_two_pages, write_keys_only,
    )
}  # fmt: skip

CONFIG, PLAN = make_config(), Plan(passes=3)
PROMPT, LED_BY = make_pictures(CONFIG, 6), make_actions(13)  # 14 frames; the encoder's pages serve the prompt


@cache
def expected_rollout() -> list[NaiveFrame]:
    return yardstick(make_world(CONFIG), PROMPT, LED_BY, PLAN)


def rollout_differs(mutate: Callable[[ReferenceBackend], None], *, idle: bool = False) -> bool:
    world = make_world(CONFIG)
    mutate(world.backend)  # type: ignore[arg-type]
    try:
        found = cached_rollout(world, PROMPT, LED_BY, PLAN, idle=idle)
    except StateError:  # the back end counts the pages of its decoder
        return True
    return first_difference(found, expected_rollout()) is not None


@pytest.mark.parametrize("idle", [False, True])
def test_without_a_mutation_nothing_differs(idle: bool) -> None:
    assert not rollout_differs(lambda backend: None, idle=idle)


@pytest.mark.parametrize("pool", ["dynamics_pages", "encoder_pages", "decoder_pages"])
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_cache_is_seen(mutation: str, pool: str) -> None:
    assert rollout_differs(lambda backend: MUTATIONS[mutation](backend, getattr(backend, pool)))


# The commit, both where it is fused into the next frame's first pass and where it is made in idle time.


def skip_all(row: Row) -> Row:
    return replace(row, pending=False)


def skip_one(row: Row) -> Row:
    return replace(row, pending=False) if row.frame_index == 8 else row


def commit_other_tokens(row: Row) -> Row:
    return replace(row, tokens=row.tokens.flip(0))


def commit_another_action(row: Row) -> Row:
    return replace(row, action=1 - max(row.action, 0))


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("change", [skip_all, skip_one, commit_other_tokens, commit_another_action])
def test_a_wrong_commit_is_seen(change: Callable[[Row], Row], idle: bool) -> None:
    def mutate(backend: ReferenceBackend) -> None:
        if idle:
            backend._commit = change_commits(backend._commit, change)  # type: ignore[method-assign]
        else:
            backend.frame = change_frames(backend.frame, change)  # type: ignore[method-assign]

    assert rollout_differs(mutate, idle=idle)


def change_commits(commit: Callable[[Row], Row], change: Callable[[Row], Row]) -> Callable[[Row], Row]:
    def committing(row):
        return replace(commit(change(row)), tokens=row.tokens, action=row.action)

    return committing


def change_frames(frame: Callable[..., Any], change: Callable[[Row], Row]) -> Callable[..., Any]:
    """Changes what is committed and, for tokens, nothing that the new frame looks at besides."""

    def framing(rows, actions, plan, **options):
        return frame([change(row) for row in rows], actions, plan, **options)

    return framing

"""The `cuda` back end's orchestration, with the operators' references on a CPU: all of it but the kernels.

In float64 it gives what `reference` gives, token for token and free-running: tables, pages, commits, batches,
plans and reuse are the same algorithm.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_actions, make_config, make_model, make_pictures, make_world

from genie_rt.errors import DeviceError, StateError
from genie_rt.runtime.backends.cuda import backend as backend_module
from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.capture import GraphCapture
from genie_rt.runtime.backends.cuda.frame import Frame
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.backends.decode_loop import DecodeLoop
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.orders import ORDERS
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

FP64 = Precision.of("fp64")
CPU = torch.device("cpu")


def make_cuda_world(config: ModelConfig, seed: int = 0, **options: Any) -> World:
    """`make_world` with the other back end, the same weights and digest."""
    world = make_world(config, seed)
    return World(world.bundle, CudaBackend(make_model(config, seed), FP64, CPU, **options), "float64")


def commit(session: Session) -> None:
    """What `Session.commit` does where a commit ahead changes no bit."""
    (row,) = session.world.backend.commit([session.row])
    session.committed(row)


def play(world: World, plan: Plan, frames: int, *, idle: bool = False, prompt: int = 1) -> list[Any]:
    """Tokens, picture and stats of each frame."""
    config = world.bundle.config
    session = world.session(seed=3, plan=plan)
    actions = make_actions(frames + prompt - 1)
    seen: list[Any] = [session.reset(make_pictures(config, prompt), actions[: prompt - 1]).tobytes()]
    for action in actions[prompt - 1 :]:
        if idle:
            commit(session)
        picture = session.step(action)
        seen.append((session.row.tokens.tolist(), picture.tobytes(), session.stats))
    return seen


def assert_same(config: ModelConfig, plan: Plan, frames: int = 12, **options: Any) -> None:
    expected = play(make_world(config), plan, frames, **options)
    found = play(make_cuda_world(config), plan, frames, **options)
    for t, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours == theirs, f"frame {t}"
    assert len({str(frame) for frame in found}) > len(found) // 2  # it does not stand still


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("merge", [1, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_the_references(order: str, merge: int, idle: bool) -> None:
    config = make_config(grid=(4, 6), merge=merge)
    assert_same(config, Plan(order=order, passes=5, threshold=0.3), idle=idle, prompt=2)


@pytest.mark.parametrize("window", [1, 2, 5])
def test_every_window_is_the_references(window: int) -> None:
    assert_same(make_config(window=window), Plan(passes=3))


@pytest.mark.parametrize("order", ["halton", "random"])
@pytest.mark.parametrize("merge", [1, 2])
def test_reuse_between_passes_is_the_references(order: str, merge: int) -> None:
    config = make_config(grid=(4, 6), merge=merge)
    assert_same(config, Plan(order=order, passes=4, reuse="passes"))


@pytest.mark.parametrize("merge", [1, 2])
@pytest.mark.parametrize("fresh", [0.4, 1.0])
def test_reuse_between_frames_is_the_references(fresh: float, merge: int) -> None:
    config = make_config(grid=(4, 6), merge=merge)
    assert_same(config, Plan(passes=3, reuse="frames", fresh=fresh))


@pytest.mark.parametrize("switch", ["tie_codebook", "previous_token", "copy_logit"])
def test_every_switch_of_the_model_is_the_references(switch: str) -> None:
    config = make_config(merge=1)
    assert_same(replace(config, dynamics=replace(config.dynamics, **{switch: False})), Plan(passes=3))


def test_a_pool_is_its_sessions_whoever_else_is_in_the_batch() -> None:
    config, plan = make_config(), Plan(order="adaptive", passes=6, threshold=0.3)
    pictures = make_pictures(config, 3)
    alone = [make_world(config).session(seed=seed, plan=plan) for seed in range(3)]
    world = make_cuda_world(config)
    pool = world.pool(4, plan=plan)
    together: list[Session] = []
    expected: list[list[Any]] = [[], [], []]
    for t in range(9):
        if t % 3 == 0:  # one more joins; the others are in the middle of their games
            seed = t // 3
            together.append(pool.join(seed=seed))
            for session in (alone[seed], together[seed]):
                session.reset(pictures[seed])
        if t == 4:
            commit(together[0])  # rows of two kinds in one batch
        actions = {session: (t + i) % 3 for i, session in enumerate(together)}
        frames = pool.step(actions)
        for i, session in enumerate(together):
            expected[i].append(alone[i].step((t + i) % 3))
            assert np.array_equal(frames[session], expected[i][-1])
            assert torch.equal(session.row.tokens, alone[i].row.tokens)
            assert session.stats == alone[i].stats


def test_rows_that_fill_up_a_batch_decide_no_passes() -> None:
    """Blank rows are unsure of everything; three real ones of a batch of four may be sure."""
    config, plan = make_config(), Plan(order="adaptive", passes=6, threshold=0.05)
    world = make_cuda_world(config)
    pool = world.pool(3, plan=plan)
    players = [pool.join(seed=seed) for seed in range(3)]
    for player in players:
        player.reset(make_pictures(config, 1)[0])
    passes: list[int] = []
    first, later = Frame.first, DecodeLoop.later

    def started(frame: Frame) -> None:
        passes.append(1)
        first(frame)

    def noted(loop: Any, k: int) -> None:
        passes[-1] += 1
        later(loop, k)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Frame, "first", started)
        patch.setattr(DecodeLoop, "later", noted)
        for t in range(8):
            pool.step(dict.fromkeys(players, t % 3))
            most = max(player.stats.passes for player in players if player.stats)
            assert passes[-1] == (most if t else 6)  # at first all are captured
    assert min(passes) < 6


@pytest.mark.parametrize("order", ["adaptive", "maskgit"])
def test_nothing_is_captured_in_play(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config, captured = make_config(), list[Any]()
    prepare = GraphCapture.prepare

    def noted(graphs: GraphCapture, stage: Any) -> Any:
        captured.append(stage)
        return prepare(graphs, stage)

    monkeypatch.setattr(GraphCapture, "prepare", noted)
    session = make_cuda_world(config).session(seed=3, plan=Plan(order=order, passes=6, threshold=0.05))
    session.reset(make_pictures(config, 1)[0])
    session.step(0)
    assert len(captured) == (7 if order == "adaptive" else 1)
    seen = {session.stats.passes} if session.stats else set()
    for t in range(12):
        session.step(t % 3)
        assert session.stats is not None and not session.stats.cold
        seen.add(session.stats.passes)
    assert len(captured) == (7 if order == "adaptive" else 1)
    assert (len(seen) > 1) == (order == "adaptive")


@pytest.mark.parametrize("pooled", [False, True])
def test_a_capture_does_not_cost_passes(pooled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a frame takes once it is captured says whether it comes in time."""
    now, prepare = [0], GraphCapture.prepare

    def slow(graphs: GraphCapture, stage: Any) -> Any:
        now[0] += 400_000_000
        return prepare(graphs, stage)

    monkeypatch.setattr(GraphCapture, "prepare", slow)
    config = make_config()
    world = make_cuda_world(config)
    session = world.session(seed=3, target_ms=40, plan=Plan(order="adaptive", passes=6))
    session._deadline.clock_ns = lambda: now[0]  # type: ignore[union-attr]  # it has one
    session.reset(make_pictures(config, 1)[0])
    pool = world.pool(1)
    pool.join(session)
    for t in range(12):
        if t % 2:
            commit(session)  # a frame of another kind, captured as well
        pool.step({session: t % 3}) if pooled else session.step(t % 3)
        assert session.passes == 6
    assert now[0] > 12 * 40_000_000


def test_a_pool_takes_its_memory_at_once() -> None:
    config = make_config(window=4, decoder_window=3)
    world = make_cuda_world(config)
    pool = world.pool(40)
    memory = world.backend.memory
    before = memory.dynamics.memory, memory.decoder.memory, memory.frames.tokens
    assert [len(each) for each in before] == [160, 120 + config.dynamics.num_actions, 81]
    players = [pool.join(seed=seed) for seed in range(40)]
    for player in players:
        player.reset(make_pictures(config, 1)[0])
    for t in range(6):
        pool.step(dict.fromkeys(players, t % 3))
    after = memory.dynamics.memory, memory.decoder.memory, memory.frames.tokens
    assert all(ours is theirs for ours, theirs in zip(before, after, strict=True))
    world.pool(2)
    assert memory.dynamics.memory is before[0]  # what is there is enough


def test_players_come_and_go_without_a_new_capture() -> None:
    config = make_config()
    world = make_cuda_world(config, num_sessions=8)
    pool = world.pool(8)
    players = [pool.join(seed=seed) for seed in range(4)]
    for player in players:
        player.reset(make_pictures(config, 1)[0])
    pool.step(dict.fromkeys(players, 0))
    known = set(world.backend._frames)
    pool.leave(players.pop())
    pool.step(dict.fromkeys(players, 1))
    assert set(world.backend._frames) == known


@pytest.mark.parametrize("idle", [False, True])
def test_peeks_are_the_references(idle: bool) -> None:
    config = make_config(grid=(4, 6), merge=2)
    worlds = make_world(config), make_cuda_world(config)
    sessions = [world.session(seed=5, plan=Plan(passes=4)) for world in worlds]
    for session in sessions:
        session.reset(make_pictures(config, 1)[0])
    for t in range(6):
        if idle:
            for session in sessions:
                session.commit()
        seen = [session.peek() for session in sessions]
        assert {name: frame.tobytes() for name, frame in seen[0].items()} == {
            name: frame.tobytes() for name, frame in seen[1].items()
        }
        steps = [session.step(t % 3).tobytes() for session in sessions]
        assert steps[0] == steps[1]
    assert all(pool.num_used for pool in (worlds[1].backend.memory.dynamics,))


def test_more_rows_than_a_batch_takes_are_computed_in_several(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config()
    monkeypatch.setattr(backend_module, "MAX_ROWS", 2)
    worlds = make_world(config), make_cuda_world(config)
    found: list[list[bytes]] = []
    for world in worlds:
        pool = world.pool(5)
        players = [pool.join(seed=seed) for seed in range(5)]
        for player in players:
            player.reset(make_pictures(config, 1)[0])
        pool.step(dict.fromkeys(players, 1))
        pool.commit()
        found.append([frame.tobytes() for frame in pool.step(dict.fromkeys(players, 2)).values()])
    assert found[0] == found[1]
    assert max(kind.num_rows for _, kind in worlds[1].backend._frames) == 2


def test_rollouts_without_pictures_are_the_references() -> None:
    config = make_config()
    worlds = make_world(config), make_cuda_world(config)
    plans = [[0, 1, 2, 0], [0, 1, 1, 1], [2, 2, 2, 2]]
    found = []
    for world in worlds:
        session = world.session(seed=5)
        session.reset(make_pictures(config, 1)[0])
        found.append(session.rollout(plans, frames=False).tokens)
    assert np.array_equal(*found)
    with pytest.raises(StateError, match="decoded"):
        (row,), _, _ = world.backend.frame([session.row], [0], Plan(passes=1), decode=False)
        world.backend.frame([row], [0], Plan(passes=1))


@pytest.mark.parametrize("plan", [Plan(passes=3), Plan(passes=3, reuse="frames", fresh=0.5)], ids=str)
def test_snapshots_pass_between_the_back_ends(plan: Plan) -> None:
    config = make_config()
    worlds = make_world(config), make_cuda_world(config)
    sessions = [world.session(seed=5, plan=plan) for world in worlds]
    for session in sessions:
        session.reset(make_pictures(config, 1)[0])
        for action in (0, 1, 2, 1):
            session.step(action)
    crossed = [world.session(plan=plan) for world in worlds]
    for session, world, other in zip(crossed, worlds, reversed(sessions), strict=True):
        session.restore(world.load_snapshot(other.snapshot().to_bytes()))
    steps = {session.step(2).tobytes() for session in (*sessions, *crossed)}
    assert len(steps) == 1


def test_pages_and_slots_return_when_nobody_holds_them() -> None:
    config = make_config()
    world = make_cuda_world(config)
    memory = world.backend.memory
    slots = len(memory.frames.tokens)
    session = world.session(plan=Plan(passes=2, order="maskgit", reuse="frames"))
    session.reset(make_pictures(config, 1)[0])
    for t in range(100):
        session.step(t % 3)
        if t % 10 == 0:
            session.peek()
    assert len(memory.frames.tokens) == slots
    window = config.dynamics.transformer.window
    assert memory.dynamics.num_used <= window + 1
    assert world.backend.encoder_pages.num_used == 0
    del session
    assert memory.dynamics.num_used == memory.decoder.num_used == 0
    assert len(memory.frames.free) == slots - 1


def test_memory_that_grows_changes_nothing() -> None:
    config, plan = make_config(window=4), Plan(passes=3)
    worlds = make_world(config), make_cuda_world(config, num_sessions=1)
    before = worlds[1].backend.memory.dynamics.num_pages
    held: list[list[Session]] = [[], []]
    for kind, world in enumerate(worlds):
        for seed in range(40):
            session = world.session(seed=seed, plan=plan)
            session.reset(make_pictures(config, 1)[0])
            session.step(seed % 3)
            held[kind].append(session)
    assert worlds[1].backend.memory.dynamics.num_pages > before
    for ours, theirs in zip(*held, strict=True):
        assert np.array_equal(ours.step(1), theirs.step(1))


def test_no_memory_for_more_pages_is_an_error_that_says_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config(window=4)
    world = make_cuda_world(config)
    sessions = [world.session(seed=seed) for seed in range(3)]
    sessions[0].reset(make_pictures(config, 1)[0])
    for _ in range(4):
        sessions[0].step(0)
    held = [sessions[0].fork(seed=seed) for seed in range(3)]
    pool = world.backend.memory.dynamics
    taken = [pool.take() for _ in range(len(pool.free))]

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError

    expected = held[0].snapshot()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "empty", full)
        with pytest.raises(DeviceError, match="pages"):
            held[0].step(1)
    taken.clear()
    twin = world.session()
    twin.restore(expected)
    assert np.array_equal(held[0].step(1), twin.step(1))  # as if nothing had happened


@pytest.mark.parametrize(
    ("where", "between"),
    [
        ("layer", "between layer 0 and layer 1"),
        ("head", "between layer 2 and the output"),
        ("copy", "between layer 2 and the output"),
    ],
)
@pytest.mark.parametrize("fault", [torch.nan, torch.inf])
@pytest.mark.parametrize("plan", [Plan(passes=2), Plan(order="halton", passes=2, reuse="passes")])
def test_nan_is_reported_by_the_next_call_with_the_layer(
    where: str, between: str, fault: float, plan: Plan
) -> None:
    config = make_config()
    world = make_cuda_world(config)
    session = world.session(plan=plan)
    session.reset(make_pictures(config, 1)[0])
    dynamics = world.backend.model.dynamics
    weight = {
        "layer": dynamics.transformer.blocks[1].temporal.q_norm,
        "head": dynamics.head[3],
        "copy": dynamics.copy[0],
    }[where]
    kept = weight.clone()
    with torch.inference_mode():
        weight.fill_(fault)
    session.step(0)
    with pytest.raises(DeviceError, match=f"dynamics of .* {between}"):
        session.step(0)
    with torch.inference_mode():
        weight.copy_(kept)
    session.reset(make_pictures(config, 1)[0])
    session.step(0)
    session.step(0)


def test_a_wrong_age_or_a_stale_page_is_seen() -> None:
    """The comparison above has teeth: a page that is off by one, or not written, changes tokens."""
    config, plan = make_config(), Plan(passes=3)
    expected = play(make_world(config), plan, 12)
    for column in ("fused", "later"):
        world = make_cuda_world(config)
        inputs_of = world.backend._captured

        def shifted(plan: Plan, kind: Any, inputs_of: Any = inputs_of, column: str = column) -> Any:
            captured = inputs_of(plan, kind)
            send = captured.frame.inputs.send

            def wrong(rows: Any) -> None:
                send(rows)
                table = getattr(captured.frame.inputs, column)
                table[:, 2:] = table[:, 2:].flip(1)  # the past in another order

            captured.frame.inputs.send = wrong
            return captured

        world.backend._captured = shifted
        assert play(world, plan, 12) != expected

"""The back end of exported graphs, with graphs that torch computes from the definition in float64.

It gives what `reference` gives, token for token and free-running: pages, commits, schedules and reuse are the
same algorithm. What engines compute is proven elsewhere.
"""

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_actions, make_config, make_pictures, make_world, used_pages
from torch_engine import GRAPHS, TorchGraph, make_exported_world

from genie_rt.errors import BundleError, DeviceError, StateError
from genie_rt.runtime.backends.exported.signature import signatures
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.orders import ORDERS
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World


def play(world: World, plan: Plan, frames: int, *, idle: bool = False, prompt: int = 1) -> list[Any]:
    """Tokens, picture and stats of each frame."""
    config = world.bundle.config
    session = world.session(seed=3, plan=plan)
    actions = make_actions(frames + prompt - 1)
    seen: list[Any] = [session.reset(make_pictures(config, prompt), actions[: prompt - 1]).tobytes()]
    for action in actions[prompt - 1 :]:
        if idle:
            session.commit()
        picture = session.step(action)
        seen.append((session.row.tokens.tolist(), picture.tobytes(), session.stats))
    return seen


def assert_same(config: ModelConfig, plan: Plan, frames: int = 9, **options: Any) -> None:
    expected = play(make_world(config), plan, frames, **options)
    found = play(make_exported_world(config), plan, frames, **options)
    for t, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours == theirs, f"frame {t}"
    assert len({str(frame) for frame in found}) > len(found) // 2  # it does not stand still


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("merge", [1, 2])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_is_the_references(order: str, merge: int, idle: bool) -> None:
    config = make_config(grid=(4, 6), merge=merge)
    assert_same(config, Plan(order=order, passes=5, threshold=0.3), idle=idle, prompt=3)


@pytest.mark.parametrize("passes", [1, 3])
@pytest.mark.parametrize("window", [1, 2, 5])
def test_every_window_is_the_references(window: int, passes: int) -> None:
    assert_same(make_config(window=window), Plan(passes=passes), prompt=2)


def test_windows_of_the_tokenizer_are_their_own() -> None:
    assert_same(make_config(window=2, encoder_window=3, decoder_window=5), Plan(passes=2), prompt=4)


@pytest.mark.parametrize("order", ["halton", "random"])
@pytest.mark.parametrize("merge", [1, 2])
def test_reuse_between_passes_is_the_references(order: str, merge: int) -> None:
    config = make_config(grid=(4, 6), merge=merge)
    assert_same(config, Plan(order=order, passes=4, reuse="passes"))


@pytest.mark.parametrize("idle", [False, True])
@pytest.mark.parametrize("merge", [1, 2])
@pytest.mark.parametrize("fresh", [0.4, 1.0])
def test_reuse_between_frames_is_the_references(fresh: float, merge: int, idle: bool) -> None:
    config = make_config(grid=(4, 6), merge=merge)
    assert_same(config, Plan(passes=3, reuse="frames", fresh=fresh), idle=idle)


@pytest.mark.parametrize("switch", ["tie_codebook", "previous_token", "copy_logit"])
def test_every_switch_of_the_model_is_the_references(switch: str) -> None:
    config = make_config(merge=1)
    assert_same(replace(config, dynamics=replace(config.dynamics, **{switch: False})), Plan(passes=3))


def test_players_of_a_pool_get_the_frames_that_they_get_alone() -> None:
    """They come one after the other, and one is committed while the others are not."""
    config, plan = make_config(), Plan(order="adaptive", passes=6, threshold=0.3)
    pictures = make_pictures(config, 3)
    alone = [make_world(config).session(seed=seed, plan=plan) for seed in range(3)]
    world = make_exported_world(config)
    pool = world.pool(4, plan=plan)
    together = []
    for t in range(9):
        if t % 3 == 0:
            seed = t // 3
            together.append(pool.join(seed=seed))
            for session in (alone[seed], together[seed]):
                session.reset(pictures[seed])
        if t == 4:
            together[0].commit()
        frames = pool.step({session: (t + i) % 3 for i, session in enumerate(together)})
        for i, session in enumerate(together):
            assert np.array_equal(frames[session], alone[i].step((t + i) % 3))
            assert torch.equal(session.row.tokens, alone[i].row.tokens)
            assert session.stats == alone[i].stats


@pytest.mark.parametrize(
    "plan", [Plan(passes=4), Plan(passes=3, reuse="frames")], ids=lambda plan: plan.reuse
)
def test_peeks_are_the_references_and_share_one_commit(plan: Plan) -> None:
    config = make_config(grid=(4, 6), merge=2)
    worlds = make_world(config), make_exported_world(config)
    sessions = [world.session(seed=5, plan=plan) for world in worlds]
    for session in sessions:
        session.reset(make_pictures(config, 1)[0])
    for t in range(5):
        worlds[1].backend.graphs.engine.calls.clear()
        seen = [session.peek() for session in sessions]
        assert worlds[1].backend.graphs.engine.calls.count("commit") == 1
        assert {name: frame.tobytes() for name, frame in seen[0].items()} == {
            name: frame.tobytes() for name, frame in seen[1].items()
        }
        assert used_pages(worlds[0]) == used_pages(worlds[1])
        steps = [session.step(t % 3).tobytes() for session in sessions]
        assert steps[0] == steps[1]


def test_rollouts_without_pictures_are_the_references() -> None:
    config = make_config()
    found = []
    for world in (make_world(config), make_exported_world(config)):
        session = world.session(seed=5)
        session.reset(make_pictures(config, 1)[0])
        found.append(session.rollout([[0, 1, 2, 0], [0, 1, 1, 1], [2, 2, 2, 2]], frames=False).tokens)
    assert np.array_equal(*found)
    with pytest.raises(StateError, match="decoded"):
        (row,), _, _ = world.backend.frame([session.row], [0], Plan(passes=1), decode=False)
        world.backend.frame([row], [0], Plan(passes=1))


@pytest.mark.parametrize("plan", [Plan(passes=3), Plan(passes=3, reuse="frames", fresh=0.5)], ids=str)
def test_snapshots_pass_between_the_back_ends(plan: Plan) -> None:
    config = make_config()
    worlds = make_world(config), make_exported_world(config)
    digest = worlds[0].bundle.digest
    worlds[1].bundle = replace(worlds[1].bundle, digest=digest)
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


def test_a_moment_that_is_gone_back_to_is_as_it_was() -> None:
    config, plan = make_config(), Plan(passes=3)
    session = make_exported_world(config).session(seed=5, plan=plan)
    session.reset(make_pictures(config, 1)[0])
    for action in (0, 1, 2):
        session.step(action)
    moment = session.snapshot()
    first = [session.step(action).tobytes() for action in (1, 1, 0)]
    session.restore(moment)
    assert [session.step(action).tobytes() for action in (1, 1, 0)] == first


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("merge", [1, 2])
def test_a_frame_graph_gives_the_frames_of_its_plan(order: str, merge: int) -> None:
    """Also of peeked actions, and where commits, which it cannot serve, come in between."""
    config = make_config(grid=(4, 6), merge=merge)
    plan = Plan(order=order, passes=4, threshold=0.3)
    world = make_exported_world(config, plans={"quick": plan}, whole_frames=True)
    sessions = [each.session(seed=3, plan=plan) for each in (make_world(config), world)]
    for session in sessions:
        session.reset(make_pictures(config, 1)[0])
    calls = world.backend.graphs.engine.calls
    for t in range(9):
        calls.clear()
        if t % 4 == 3:
            for session in sessions:
                session.committed(*session.world.backend.commit([session.row]))
        if t == 5:
            assert len({str(session.peek()) for session in sessions}) == 1
        expected, found = (session.step(t % 3) for session in sessions)
        assert np.array_equal(found, expected), f"frame {t}"
        assert sessions[0].row.tokens.tolist() == sessions[1].row.tokens.tolist()
        assert sessions[0].stats == sessions[1].stats
        assert ("frame-quick" in calls) == (t % 4 != 3)


@pytest.mark.parametrize("pooled", [False, True])
def test_a_session_leaves_the_commit_to_a_frame_graph(pooled: bool) -> None:
    config, plan = make_config(), Plan(passes=2)
    world = make_exported_world(config, plans={"quick": plan})
    assert not world.backend.commits_ahead(plan) and world.backend.commits_ahead(plan.replace(passes=3))
    assert make_exported_world(config, plans={"quick": plan}, whole_frames=False).backend.commits_ahead(plan)
    pool = world.pool(1)
    session = pool.join()
    session.reset(make_pictures(config, 1)[0])
    for own in (plan, plan.replace(passes=3)):
        session.plan = own
        (pool if pooled else session).commit()
        assert session.is_pending == (own == plan)


def test_without_pictures_a_frame_graph_gives_the_same_tokens() -> None:
    config, plan = make_config(), Plan(passes=2)
    world = make_exported_world(config, plans={"quick": plan})
    session = world.session(seed=3, plan=plan)
    session.reset(make_pictures(config, 1)[0])
    calls, rows = world.backend.graphs.engine.calls, [session.row]
    for action in (0, 1, 2, 0, 1, 2):
        calls.clear()
        rows, pictures, _ = world.backend.frame(rows, [action], plan, decode=False)
        session.step(action)
        assert calls == ["frame-quick", "frame-quick"] and pictures is None
        assert rows[0].tokens.tolist() == session.row.tokens.tolist()
        assert rows[0].decoder == ()
    with pytest.raises(StateError, match="without pictures"):
        world.backend.frame(rows, [0], plan)
    calls.clear()
    world.backend.frame([session.row], [0], plan.replace(temperature=0.5))
    assert "frame-quick" not in calls


def test_pages_return_when_nobody_holds_them() -> None:
    config = make_config()
    world = make_exported_world(config)
    for plan in (Plan(passes=2, reuse="frames"), Plan(order="halton", passes=4, reuse="passes")):
        session = world.session(plan=plan)
        session.reset(make_pictures(config, 1)[0])
        for t in range(40):
            session.step(t % 3)
            if t % 10 == 0:
                session.peek()
        window = config.dynamics.transformer.window
        assert world.backend.dynamics_pages.num_used <= window + 1
        assert world.backend.encoder_pages.num_used == 0
        del session
        assert used_pages(world) == [0, 0, 0]
    assert world.backend.memory_use.pool_bytes > world.backend.memory_use.page_bytes == 0


def test_sessions_in_threads_do_not_disturb_each_other() -> None:
    config, plan = make_config(), Plan(passes=3, reuse="frames")
    expected = {seed: played(make_world(config), seed, plan) for seed in range(4)}
    world, found = make_exported_world(config), {}
    threads = [
        threading.Thread(target=lambda seed=seed: found.update({seed: played(world, seed, plan)}))
        for seed in expected
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


def played(world: World, seed: int, plan: Plan) -> list[bytes]:
    session = world.session(seed=seed, plan=plan)
    session.reset(make_pictures(world.bundle.config, 1, seed)[0])
    return [session.step((seed + t) % 3).tobytes() for t in range(8)]


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        ("dynamics.transformer.blocks.1.temporal.k_norm", "the dynamics of 3 .* layer 0 and layer 1"),
        ("dynamics.token_out.weight", "the dynamics of 3 .* layer 2 and the output"),
        ("tokenizer.decoder.blocks.0.temporal.k_norm", "decoder of 2 .* the input and layer 0"),
    ],
)
@pytest.mark.parametrize("how", ["passes", "frame graph", "reuse"])
def test_nan_is_an_error_with_the_layer_and_the_session_stays_where_it_was(
    weight: str, message: str, how: str
) -> None:
    config = make_config()
    plan = Plan(passes=2, reuse="frames" if how == "reuse" else "none")
    world = make_exported_world(config, plans={"quick": plan}, whole_frames=how == "frame graph")
    session = world.session(seed=3, plan=plan)
    session.reset(make_pictures(config, 1)[0])
    session.step(0)
    row, frame = session.row, session.frame
    broken = world.backend.graphs.engine.model.get_parameter(weight)
    kept = broken.clone()
    broken.fill_(torch.nan)
    with pytest.raises(DeviceError, match=message):
        session.step(1)
    assert session.row is row and np.array_equal(session.frame, frame)
    broken.copy_(kept)
    twin = make_world(config).session(seed=3, plan=plan)
    twin.reset(make_pictures(config, 1)[0])
    twin.step(0)
    assert np.array_equal(session.step(1), twin.step(1))


def test_a_prompt_whose_encoder_gives_nan_is_an_error() -> None:
    world = make_exported_world(make_config())
    world.backend.graphs.engine.model.get_parameter("tokenizer.code_in.weight").fill_(torch.nan)
    with pytest.raises(DeviceError, match="tokenizer's encoder of 2 layers"):
        world.session().reset(make_pictures(world.bundle.config, 1)[0])


@pytest.mark.parametrize("shift", [5000, -5000])
@pytest.mark.parametrize(
    ("plan", "graph"),
    [
        (Plan(passes=2), "pass"),
        (Plan(passes=2, reuse="frames"), "pass-at"),
        (Plan(order="halton", passes=2, reuse="passes"), "pass-at"),
        (Plan(passes=2), "frame"),
        (Plan(passes=2), "encode"),
    ],
)
def test_a_token_that_the_codebook_lacks_is_an_error_and_reaches_no_graph(
    plan: Plan, graph: str, shift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = make_exported_world(make_config(), plans={"quick": plan}, whole_frames=graph == "frame")
    session = world.session(seed=3, plan=plan)
    method = {"pass": "whole", "pass-at": "at"}.get(graph, graph)
    computed = getattr(TorchGraph, method)

    def shifted(self: TorchGraph, x: Any) -> Any:
        found = computed(self, x)
        return found | {name: found[name] + shift for name in ("tokens", "candidates") if name in found}

    if graph != "encode":
        session.reset(make_pictures(world.bundle.config, 1)[0])
    monkeypatch.setattr(TorchGraph, method, shifted)
    calls = world.backend.graphs.engine.calls
    with pytest.raises(
        DeviceError, match=rf"graph {graph}.*: expected tokens from 0 to 23, found -?\d+; exp"
    ):
        session.reset(make_pictures(world.bundle.config, 1)[0]) if graph == "encode" else session.step(0)
    assert calls[-1].startswith(graph)


@pytest.mark.parametrize("count", [0, 3, -1])
def test_passes_that_the_plan_does_not_allow_are_an_error(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Plan(passes=2)
    world = make_exported_world(make_config(), plans={"quick": plan}, whole_frames=True)
    session = world.session(seed=3, plan=plan)
    session.reset(make_pictures(world.bundle.config, 1)[0])
    frame = TorchGraph.frame
    monkeypatch.setattr(
        TorchGraph, "frame", lambda self, x: frame(self, x) | {"passes": torch.tensor([count])}
    )
    with pytest.raises(DeviceError, match=f"frame-quick: expected 1 to 2 passes, found {count}; export"):
        session.step(0)


@pytest.mark.parametrize("how", ["passes", "frame graph", "reuse"])
def test_the_default_dtype_of_the_program_changes_nothing(how: str) -> None:
    """Contracts name their dtypes; `TorchEngine` checks them."""
    config, plan = make_config(), Plan(passes=2, reuse="frames" if how == "reuse" else "none")
    expected = play(make_exported_world(config), plan, 4)
    world = make_exported_world(config, plans={"quick": plan}, whole_frames=how == "frame graph")
    torch.set_default_dtype(torch.float16)
    try:
        assert play(world, plan, 4) == expected
        make_exported_world(config)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", GRAPHS)
def test_a_bundle_without_a_graph_says_what_writes_it(name: str) -> None:
    def start() -> None:
        session = make_exported_world(make_config(), without=name).session(
            plan=Plan(passes=2, reuse="frames")
        )
        session.reset(make_pictures(make_config(), 1)[0])
        session.step(0)

    with pytest.raises(BundleError, match=rf"graph {name}\.onnx, found none; .*genie-rt export .* --onnx"):
        start()


def test_a_wrong_age_is_seen() -> None:
    """The comparison above has teeth: pages in another order change tokens."""
    config, plan = make_config(), Plan(passes=3)
    expected = play(make_world(config), plan, 9)
    world = make_exported_world(config)
    pool = world.backend.dynamics_pages
    past = pool.past
    pool.past = lambda pages, prefix="": past(pages[::-1], prefix)  # type: ignore[method-assign]
    assert play(world, plan, 9) != expected


def test_signatures_keep_to_rank_four_and_name_no_side_twice() -> None:
    """What graph writers rely on: pages bind as they lie, sides are fixed but those of a subset."""
    config = make_config(grid=(4, 6), merge=2)
    all_of_them = signatures(config, "float32", {"quick": Plan(passes=3)})
    assert set(all_of_them) == {*GRAPHS, "frame-quick"}
    for name, signature in all_of_them.items():
        assert "checksum" in signature.outputs
        for value in (*signature.inputs.values(), *signature.outputs.values()):
            assert len(value.shape) <= 4
            assert all(isinstance(side, int) for side in value.shape) or name == "pass-at"

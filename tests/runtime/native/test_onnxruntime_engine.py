"""The C library's engine of ONNX Runtime plays what Python's back end `onnx` plays, bit for bit."""

import importlib.util
from collections.abc import Callable
from ctypes import byref, c_int32, c_void_p
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_actions, make_pictures
from numpy.typing import NDArray

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from graph_world import CONFIGS, GRAPH_PLANS, OTHER_PLANS, SEED, GraphWorld, python_session, write

from genie_rt.runtime.backends.native import header
from genie_rt.runtime.backends.native.handles import Handle, NativeSession
from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "runtime" / "bundles" / "demo"

pytestmark = pytest.mark.skipif(
    not BACKENDS["native"].is_installed, reason="the C library is not built: make native"
)


def assert_same_play(
    ours: NativeSession,
    theirs: Session,
    plans: list[Plan],
    steps: int,
    *,
    prompt: int = 3,
    idle: bool = False,
) -> None:
    config = theirs.world.bundle.config
    pictures, actions = make_pictures(config, prompt), make_actions(steps + prompt - 1)
    shown = ours.reset(torch.from_numpy(pictures), actions[: prompt - 1], SEED)
    assert np.array_equal(shown, theirs.reset(pictures, actions[: prompt - 1]))
    for t, action in enumerate(actions[prompt - 1 :]):
        theirs.plan = plan = plans[t % len(plans)]
        ours.set_plan(plan)
        if idle:
            ours.commit()
        picture, took = ours.step(action)
        expected = theirs.step(action)
        assert ours.tokens().tolist() == theirs.row.tokens.tolist(), f"frame {t}, {plan}"
        assert np.array_equal(picture, expected), f"frame {t}, {plan}"
        assert theirs.stats is not None
        assert (took.passes, took.tokens) == (theirs.stats.passes, theirs.stats.tokens), f"frame {t}, {plan}"
    assert len(set(ours.tokens().tolist())) > 2  # something is to be seen


QUICK = ("padded pages", "pages in place")
SOME = [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in CONFIGS if name not in QUICK)]


@pytest.mark.parametrize("precision", ["float32", pytest.param("int8", marks=pytest.mark.slow)])
@pytest.mark.parametrize("config", SOME)
def test_whole_frames_are_those_of_python(
    config: str, precision: str, bundle_of: Callable[[str], Path]
) -> None:
    folder = bundle_of(config)
    ours, theirs = NativeSession(GraphWorld(folder, precision)), python_session(folder, precision)
    assert_same_play(ours, theirs, list(GRAPH_PLANS.values()), 12)


@pytest.mark.parametrize("config", SOME)
def test_frames_pass_by_pass_are_those_of_python(config: str, bundle_of: Callable[[str], Path]) -> None:
    folder = bundle_of(config)
    ours, theirs = NativeSession(GraphWorld(folder)), python_session(folder, "float32")
    for plan in OTHER_PLANS.values():
        assert_same_play(ours, theirs, [plan], 6, prompt=2)
    assert_same_play(ours, theirs, [*OTHER_PLANS.values(), *GRAPH_PLANS.values()], 24, prompt=1, idle=True)


@pytest.mark.slow
def test_graphs_of_the_older_opset_play(tmp_path: Path) -> None:
    folder = write(tmp_path / "older", CONFIGS["padded pages"], opset=20)
    ours, theirs = NativeSession(GraphWorld(folder)), python_session(folder, "float32")
    assert_same_play(ours, theirs, [GRAPH_PLANS["default"], OTHER_PLANS["fresh"]], 6)


def test_idle_commits_change_no_frame_where_a_graph_has_the_commit_in_it(
    bundle_of: Callable[[str], Path],
) -> None:
    folder = bundle_of("padded pages")
    ours, theirs = NativeSession(GraphWorld(folder)), python_session(folder, "float32")
    assert_same_play(ours, theirs, [GRAPH_PLANS["default"]], 8, idle=True)


@pytest.fixture(scope="module")
def onnx_player() -> ModuleType:
    spec = importlib.util.spec_from_file_location("onnx_player", ROOT / "examples" / "onnx_player.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "plan",
    ["default", *(pytest.param(name, marks=pytest.mark.slow) for name in ("quality", "balanced", "fast"))],
)
def test_the_demo_plays_as_in_the_example(plan: str, onnx_player: ModuleType) -> None:
    """examples/onnx_player.py knows nothing of genie_rt."""
    world = World.load(DEMO, backend="reference")
    picture, codes = world.prompt(1), world.bundle.action_codes
    player = onnx_player.Player(DEMO, plan, torch.get_num_threads())
    ours = NativeSession(GraphWorld(DEMO))
    ours.set_plan(world.bundle.plans[plan])
    shown = ours.reset(torch.from_numpy(picture)[None], [], 7)
    assert np.array_equal(shown, player.reset(picture, seed=7))
    for t, action in enumerate(np.random.default_rng(0).integers(0, len(codes), 8).tolist()):
        assert np.array_equal(ours.step(action)[0], player.step(codes[action])), f"frame {t}"


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_a_probe_gives_the_logits_of_python(precision: str, bundle_of: Callable[[str], Path]) -> None:
    folder = bundle_of("pages in place")
    ours, theirs = NativeSession(GraphWorld(folder, precision)), python_session(folder, precision)
    plan = replace(OTHER_PLANS["longer"], temperature=0.6)
    assert_same_play(ours, theirs, [plan], 4)
    backend = theirs.world.backend
    (row,) = backend.commit([theirs.row])
    tokens = torch.arange(24) % 9 - 1
    expected = backend.probe([row], [2], tokens[None], plan, 3)
    logits, candidates = ours.probe(2, tokens, 3)
    assert torch.equal(logits, expected.logits[0])
    assert candidates.tolist() == expected.candidates[0].tolist()


def test_given_tokens_are_shown_as_in_python(bundle_of: Callable[[str], Path]) -> None:
    folder = bundle_of("padded pages")
    ours, theirs = NativeSession(GraphWorld(folder)), python_session(folder, "float32")
    assert_same_play(ours, theirs, [GRAPH_PLANS["default"]], 3)
    tokens = torch.arange(15) % 24
    _, pictures = theirs.world.backend.show([theirs.row], [1], tokens[None])
    assert np.array_equal(ours.force(1, tokens), pictures[0].numpy())
    assert ours.tokens().tolist() == tokens.tolist()


def played(session: NativeSession, actions: list[int]) -> list[bytes]:
    return [session.step(action)[0].tobytes() for action in actions]


@pytest.mark.parametrize("plan", ["default", "longer", "fresh"])
def test_moments_are_come_back_to(plan: str, bundle_of: Callable[[str], Path]) -> None:
    """By snapshots, and by bytes in another world."""
    folder, config = bundle_of("padded pages"), CONFIGS["padded pages"]
    session, actions = NativeSession(GraphWorld(folder)), make_actions(6)
    session.set_plan((GRAPH_PLANS | OTHER_PLANS)[plan])
    session.reset(torch.from_numpy(make_pictures(config, 2)), [1], SEED)
    played(session, actions)
    snapshot, saved = session.snapshot(), session.save()
    ahead = played(session, actions)
    session.restore(snapshot)
    assert played(session, actions) == ahead
    other = NativeSession(GraphWorld(folder))
    other.set_plan((GRAPH_PLANS | OTHER_PLANS)[plan])
    other.load(saved)
    assert played(other, actions) == ahead


def images(world: GraphWorld, count: int) -> tuple[NDArray[np.uint8], Any]:
    pictures = np.zeros((count, *world.frame_shape), np.uint8)
    given = [
        header.Image(pixels=each.ctypes.data, size=each.size, format=header.FORMAT_RGB8) for each in pictures
    ]
    return pictures, (header.Image * count)(*given)


@pytest.mark.parametrize("plan", ["default", "longer"])
def test_peeked_frames_are_those_of_the_steps(plan: str, bundle_of: Callable[[str], Path]) -> None:
    world = GraphWorld(bundle_of("padded pages"))
    pointer = c_void_p()
    world.library.call("session_create", world.pointer, None, byref(pointer))
    session = Handle(world.library, pointer, world.library.session_free)
    helper = NativeSession(world)
    helper.set_plan((GRAPH_PLANS | OTHER_PLANS)[plan])
    helper.reset(torch.from_numpy(make_pictures(CONFIGS["padded pages"], 1)), [], SEED)
    helper.step(0)
    moment = helper.snapshot()
    own = header.Plan()
    helper.call("get_plan", byref(own))
    world.library.call("session_set_plan", session.pointer, byref(own))
    world.library.call("session_restore", session.pointer, moment.pointer)
    pictures, given = images(world, 3)
    world.library.call("session_peek", session.pointer, (c_int32 * 3)(0, 1, 2), 3, given)
    for action in range(3):
        helper.restore(moment)
        assert np.array_equal(helper.step(action)[0], pictures[action])
    shown, (image,) = images(world, 1)
    stats = header.StepStats()
    world.library.call("session_step", session.pointer, 1, byref(image), byref(stats))
    assert stats.from_peek == 1
    assert np.array_equal(shown[0], pictures[1])


def test_a_cancelled_frame_leaves_the_session_as_it_was(bundle_of: Callable[[str], Path]) -> None:
    session = NativeSession(GraphWorld(bundle_of("padded pages")))
    session.set_plan(OTHER_PLANS["longer"])
    session.reset(torch.from_numpy(make_pictures(CONFIGS["padded pages"], 1)), [], SEED)
    before, snapshot = session.save(), session.snapshot()
    for _ in range(5):
        session.call("submit", 2)
        session.call("cancel")
        assert session.save() == before
    again = played(session, [1, 2])
    session.restore(snapshot)
    assert played(session, [1, 2]) == again

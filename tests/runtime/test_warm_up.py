"""After a warm-up nothing is left to be made ready, and every frame is what it would have been without."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from makers import make_actions, make_config, make_model, make_pictures, make_world, state_of
from torch_engine import make_exported_world

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.backends.exported.signature import PAGE_DTYPES
from genie_rt.runtime.manifest import GRAPH_FORMATS
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

CONFIG = make_config(grid=(4, 6))
PLANS = {
    "maskgit": Plan(passes=2),
    "adaptive": Plan(order="adaptive", passes=4, threshold=0.3),
    "reuses passes": Plan(order="halton", passes=3, reuse="passes"),
    "reuses frames": Plan(passes=2, reuse="frames", fresh=0.5),
    "in one graph": Plan(order="random", passes=2),
}
NUM_PLAYERS = 5


def make_cuda_world() -> World:
    """The `cuda` back end on a CPU, where a stage runs in place of being captured and counts all the same."""
    backend = CudaBackend(make_model(CONFIG), Precision.of("fp64"), torch.device("cpu"))
    return World(make_world(CONFIG).bundle, backend, "float64")


WORLDS: dict[str, Callable[[], World]] = {
    "reference": lambda: make_world(CONFIG),
    "exported": lambda: make_exported_world(CONFIG, plans={"whole": PLANS["in one graph"]}),
    "cuda": make_cuda_world,
}


@pytest.fixture(autouse=True)
def _float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGE_DTYPES, "float64", "float64")
    monkeypatch.setitem(GRAPH_FORMATS, "float64", "")


def num_ready(world: World) -> int:
    """Count what a back end made ready by now."""
    backend: Any = world.backend
    if isinstance(backend, CudaBackend):
        return sum(len(captured._stages) for captured in backend._frames.values())
    graphs = getattr(backend, "graphs", None)
    return 0 if graphs is None else graphs.num_ready


def games(world: World, plan: Plan, *, players: int = NUM_PLAYERS) -> Iterator[tuple[Session, Any]]:
    """Sessions that are played in all ways, and where each step led."""
    pool = world.pool(players, plan=plan)
    for seed in range(players):
        session = pool.join(seed=seed)
        session.reset(make_pictures(CONFIG, 2, seed), [0])
    for step, action in enumerate(make_actions(6)):
        if step % 2:
            pool.commit()
        if step % 3 == 1:
            pool.sessions[0].peek()
        mine = pool.sessions[: 1 + step % players]
        pool.step(dict.fromkeys(mine, action))
        yield from ((session, state_of(session)) for session in mine)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
@pytest.mark.parametrize("make", WORLDS.values(), ids=WORLDS)
def test_nothing_is_made_ready_in_play_and_frames_are_the_same(make: Callable[[], World], plan: Plan) -> None:
    expected = [state for _, state in games(make(), plan)]
    world = make()
    world.warm_up(plan, slots=NUM_PLAYERS, peek=3, prompt_frames=2)
    ready = num_ready(world)
    assert world.backend.memory_use.page_bytes == 0
    found = []
    for session, state in games(world, plan):
        assert session.stats is not None and not session.stats.cold
        found.append(state)
    assert found == expected
    assert num_ready(world) == ready


@pytest.mark.parametrize("make", [WORLDS["exported"], WORLDS["cuda"]], ids=["exported", "cuda"])
def test_a_session_in_play_is_not_disturbed(make: Callable[[], World]) -> None:
    plan, other = PLANS["maskgit"], PLANS["reuses frames"]
    alone, disturbed = make(), make()
    alone.backend.reserve(NUM_PLAYERS)
    states = []
    for world in (alone, disturbed):
        session = world.session(seed=3, plan=plan)
        session.reset(make_pictures(CONFIG, 1)[0])
        session.step(1)
        session.peek([0])
        before, row, stats = state_of(session), session.row, session.stats
        if world is disturbed:
            world.warm_up(other, slots=NUM_PLAYERS, peek=2)
        assert state_of(session) == before and session.row is row and session.stats is stats
        states.append([(session.step(action), state_of(session))[1] for action in make_actions(4)])
    assert states[0] == states[1]


def test_without_one_the_first_frame_says_that_it_was_cold() -> None:
    """So that whoever keeps times can leave it out."""
    world = WORLDS["exported"]()
    session = world.session(plan=PLANS["in one graph"])
    session.reset(make_pictures(CONFIG, 1)[0])
    cold = []
    for action in make_actions(3):
        session.step(action)
        assert session.stats is not None
        cold.append(session.stats.cold)
    assert cold == [True, False, False]


def test_only_what_a_plan_needs_is_made_ready() -> None:
    """A graph takes seconds to compile."""
    world = WORLDS["exported"]()
    world.warm_up(PLANS["in one graph"])
    calls = set(world.backend.graphs.engine.calls)  # type: ignore[attr-defined]
    assert calls == {"encode", "decode", "frame-whole"}
    world.warm_up(PLANS["in one graph"], prompt_frames=2)
    assert set(world.backend.graphs.engine.calls) == calls | {"commit"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("asked", "error", "words"),
    [
        ({"slots": 0}, InputError, "slots: expected a whole number from 1"),
        ({"slots": True}, InputError, "slots"),
        ({"peek": 4}, InputError, "peek: expected a whole number from 0 to 3, found 4"),
        ({"prompt_frames": 0}, InputError, "prompt_frames"),
        ({"plan": "fastest"}, InputError, "unknown plan"),
        ({"passes": 0}, ConfigError, "passes"),
    ],
)
def test_what_cannot_be_is_refused(asked: dict[str, Any], error: type[Exception], words: str) -> None:
    world = make_world(make_config())
    with pytest.raises(error, match=words):
        world.warm_up(**asked)

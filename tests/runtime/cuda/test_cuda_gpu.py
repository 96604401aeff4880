"""The `cuda` back end on a GPU: graphs, streams, memory. Skipped where there is none."""

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_actions, make_config, make_model, make_pictures, make_world

from genie_rt.runtime.backends.cuda import backend as backend_module
from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.capture import GraphCapture
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.backends.select import find_device
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

CONFIG = make_config(grid=(8, 8), merge=1, width=128, num_heads=2, head_width=64, mlp_width=256, window=6)
PLANS = {
    "maskgit": Plan(passes=4),
    "adaptive": Plan(order="adaptive", passes=4, threshold=0.3),
    "random": Plan(order="random", passes=4),
    "halton": Plan(order="halton", passes=4),
    "halton, reuse": Plan(order="halton", passes=4, reuse="passes"),
    "frames": Plan(passes=4, reuse="frames"),
}


def make_gpu_world(config: ModelConfig = CONFIG, precision: str = "fp32", **options: Any) -> World:
    backend = CudaBackend(
        make_model(config, dtype=torch.float32), Precision.of(precision), torch.device("cuda"), **options
    )
    return World(make_world(config).bundle, backend, precision)


def play(session: Session, frames: int, *, idle: bool = False) -> list[bytes]:
    seen = [session.reset(make_pictures(session.world.bundle.config, 1)[0]).tobytes()]
    for action in make_actions(frames):
        if idle:
            session.commit()
        seen.append(session.step(action).tobytes())
    return seen


@pytest.fixture(autouse=True)
def empty_device() -> Iterator[None]:
    yield
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.parametrize("name", PLANS)
def test_graphs_give_what_eager_stages_give(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    captured = play(make_gpu_world().session(seed=3, plan=PLANS[name]), 20)

    def eager(graphs: GraphCapture, stage: Any) -> Any:
        stage()
        return stage

    monkeypatch.setattr(GraphCapture, "prepare", eager)
    assert play(make_gpu_world().session(seed=3, plan=PLANS[name]), 20) == captured


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16", "fp8", "int8"])
def test_a_replay_is_the_same_bit_for_bit(precision: str) -> None:
    if precision == "fp8" and torch.cuda.get_device_capability() < (8, 9):
        pytest.skip("this GPU has no fp8")
    world = make_gpu_world(precision=precision)
    plan = Plan(passes=3)
    assert play(world.session(seed=3, plan=plan), 20) == play(world.session(seed=3, plan=plan), 20)


@pytest.mark.parametrize("name", PLANS)
def test_a_frame_neither_waits_nor_allocates(name: str) -> None:
    world, plan = make_gpu_world(), PLANS[name]
    session = world.session(plan=plan)
    play(session, 20)
    play(session, 20, idle=True)
    backend = world.backend
    rows = [session.row]
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats()["num_device_alloc"]
    held = torch.cuda.memory_allocated()
    mode = "default" if plan.order == "adaptive" else "error"  # that asks once, after its first pass
    torch.cuda.set_sync_debug_mode(mode)
    try:
        for action in range(20):
            rows, pictures, _ = backend.frame(rows, [action % 3], plan)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    assert pictures is not None
    assert torch.cuda.memory_stats()["num_device_alloc"] == before  # nothing was asked of the driver
    assert torch.cuda.max_memory_allocated() - held <= 4 * pictures.nbytes + 4096  # the pictures handed out


def test_a_frame_is_one_graph_of_few_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    world = make_gpu_world()
    play(world.session(plan=Plan(passes=2)), 3)
    with capsys.disabled():
        for (plan, kind), captured in world.backend._frames.items():
            for name, num_nodes in captured.num_nodes().items():
                print(f"\n{plan.order} K={plan.passes} {kind}: {name}, {num_nodes} nodes")
                assert 0 < num_nodes < 400


def test_memory_holds_weights_pages_and_little_else() -> None:
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    world = make_gpu_world()
    backend = world.backend
    taken = torch.cuda.memory_allocated() - before
    assert taken <= 1.15 * (backend.weight_bytes + backend.pool_bytes) + 2**22


def test_frames_of_another_stream_are_right() -> None:
    expected = play(make_gpu_world().session(seed=3, plan=PLANS["maskgit"]), 12)
    with torch.cuda.stream(torch.cuda.Stream()):
        assert play(make_gpu_world().session(seed=3, plan=PLANS["maskgit"]), 12) == expected


def test_a_world_made_on_one_stream_may_be_played_on_another_at_once() -> None:
    expected = play(make_gpu_world().session(seed=3, plan=PLANS["maskgit"]), 4)
    world = make_gpu_world()
    with torch.cuda.stream(torch.cuda.Stream()):
        assert play(world.session(seed=3, plan=PLANS["maskgit"]), 4) == expected


def test_a_graph_outlives_others_and_their_work_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cuBLAS computes in is let go with any graph of its stream, and by `torch.compile`."""
    world = make_gpu_world(precision="bf16")
    plans = [Plan(passes=passes) for passes in (2, 3, 4)]
    expected = [play(world.session(seed=3, plan=plan), 6) for plan in plans]
    monkeypatch.setattr(backend_module, "MAX_FRAMES", 4)
    for plan in plans:  # the frames of one are let go while those of the others are used
        play(world.session(seed=3, plan=plan), 6)
    torch._C._cuda_clearCublasWorkspaces()
    gc.collect()
    torch.cuda.empty_cache()
    hog = torch.full((2**26,), torch.nan, device="cuda")  # lies where the work space was
    assert [play(world.session(seed=3, plan=plan), 6) for plan in reversed(plans)] == expected[::-1]
    del hog


def test_the_device_that_is_current_when_a_world_is_made_stays_its_own() -> None:
    assert find_device("cuda") == torch.device("cuda", torch.cuda.current_device())


def test_in_fp32_it_is_close_to_the_reference() -> None:
    """Free-running, so a count: `genie-rt verify` compares pass by pass and has the bounds."""
    plan = Plan(passes=2, temperature=0.5)
    sessions = [make_world(CONFIG).session(seed=3, plan=plan), make_gpu_world().session(seed=3, plan=plan)]
    picture = make_pictures(CONFIG, 1)[0]
    first = [session.reset(picture).astype(int) for session in sessions]
    assert np.abs(first[0] - first[1]).max() <= 1
    (ours, theirs) = (session.step(1).astype(int) for session in sessions)
    assert np.mean(ours == theirs) > 0.9


@pytest.mark.parametrize("where", ["load", "capture", "growth"])
def test_no_memory_leaves_the_process_usable(where: str) -> None:
    from genie_rt.errors import DeviceError

    world = make_gpu_world() if where != "load" else None
    session = None if world is None else world.session(plan=Plan(passes=2))
    if session is not None:
        play(session, 3)
    free, _ = torch.cuda.mem_get_info()
    hog = torch.empty(max(free - 2**21, 1), dtype=torch.uint8, device="cuda")
    big = make_config(grid=(32, 32), merge=1, width=1024, num_heads=16, head_width=64, mlp_width=4096)
    with pytest.raises(DeviceError, match="expected"):
        if where == "load":
            make_gpu_world(big)
        elif where == "capture":
            assert world is not None and session is not None
            world.backend.frame([session.row] * 512, [0] * 512, Plan(passes=3))
        else:
            assert world is not None
            world.backend.memory.dynamics.reserve(2**18)
    del hog
    torch.cuda.empty_cache()
    if session is None:
        session = make_gpu_world().session(plan=Plan(passes=2))
        session.reset(make_pictures(CONFIG, 1)[0])
    session.step(0)

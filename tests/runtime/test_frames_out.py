"""Frames left on the device, or copied in the background, are those of `step`, and nobody overwrites them."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from makers import (
    broken_weight,
    counted_calls,
    make_actions,
    make_config,
    make_model,
    make_pictures,
    make_world,
    play,
    state_of,
)

from genie_rt.errors import DeviceError, InputError, StateError
from genie_rt.runtime.backends.cuda.backend import CudaBackend
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.frames_out import HeldFrame, PendingFrame
from genie_rt.runtime.images import Picture
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.presets import preset
from genie_rt.runtime.session import Session
from genie_rt.runtime.turn import Home
from genie_rt.runtime.world import World

CONFIG = make_config()
PICTURES = make_pictures(CONFIG, 1)
LED_BY = make_actions(9)


def make_cuda_world(
    config: ModelConfig = CONFIG, dtype: str = "fp64", device: str = "cpu", seed: int = 0
) -> World:
    """A world of the other back end; on a CPU it runs the operators' references."""
    precision = Precision.of(dtype)
    model = make_model(config, seed, precision.activations)
    bundle = make_world(config, seed).bundle
    return World(bundle, CudaBackend(model, precision, torch.device(device)), dtype)


WORLDS: dict[str, Callable[[], World]] = {"reference": lambda: make_world(CONFIG), "cuda": make_cuda_world}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest) -> World:
    return WORLDS[request.param]()


def started(world: World, seed: int = 7, **options: Any) -> Session:
    session = world.session(seed=seed, **options)
    session.reset(PICTURES[0])
    return session


STEPS: dict[str, Callable[[Session, str | int], Picture]] = {
    "tensor": lambda session, action: session.step_tensor(action).cpu().numpy(),
    "async": lambda session, action: session.step_async(action).wait(),
    "tensor of async": lambda session, action: session.step_async(action).tensor.cpu().numpy(),
}
"""Every way to a frame but `step`."""

PLANS = {
    "maskgit": Plan(passes=3),
    "adaptive": Plan(order="adaptive", passes=6, threshold=0.3),
    "halton with reuse": Plan(order="halton", passes=3, reuse="passes"),
    "reuse of frames": Plan(passes=3, reuse="frames"),
}


# The frames of `step`.


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("way", STEPS)
def test_every_way_gives_the_frames_and_states_of_step(world: World, way: str, plan: str) -> None:
    plain, other = (started(world, plan=PLANS[plan]) for _ in range(2))
    for t, action in enumerate(LED_BY):
        if t % 3 == 2:
            plain.commit(), other.commit()
        expected, found = plain.step(action), STEPS[way](other, action)
        np.testing.assert_array_equal(found, expected)
        assert (other.stats, other.passes) == (plain.stats, plain.passes)
        assert state_of(other) == state_of(plain)


def test_the_ways_take_turns(world: World) -> None:
    plain, other = started(world), started(world)
    pool = world.pool(2)
    pool.join(other)
    ways = [*STEPS.values(), Session.step, lambda session, action: pool.step({session: action})[session]]
    for t, action in enumerate(make_actions(3 * len(ways))):
        np.testing.assert_array_equal(ways[t % len(ways)](other, action), plain.step(action))
    assert state_of(other) == state_of(plain)


def test_a_frame_is_contiguous_uint8_on_the_back_ends_device(world: World) -> None:
    session = started(world)
    for tensor in (session.step_tensor(0), session.step_async("right").tensor):
        assert tensor.shape == (*world.output_size, 3)
        assert tensor.dtype == torch.uint8
        assert tensor.device == torch.device("cpu")
        assert tensor.is_contiguous()
        assert not tensor.is_inference()  # the caller may write to it anywhere


def test_snapshots_and_forks_are_those_after_step(world: World) -> None:
    plain = started(world)
    play(plain, LED_BY[:4])
    expected = plain.snapshot().to_bytes()
    for way in (Session.step_tensor, Session.step_async):
        session = started(world)
        for action in LED_BY[:4]:
            way(session, action)
        fork = session.fork()
        assert session.snapshot().to_bytes() == expected
        assert fork.snapshot().to_bytes() == expected
        way(session, 0)
        np.testing.assert_array_equal(session.restore(fork.snapshot()), plain.frame)
        assert play(session, LED_BY[4:]) == play(plain.fork(), LED_BY[4:])


def test_the_picture_is_fetched_only_when_it_is_asked_for_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    session = started(make_world(CONFIG))
    fetched: list[torch.Size] = []
    fetch = torch.Tensor.cpu

    def noted(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype == torch.uint8:
            fetched.append(tensor.shape)
        return fetch(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", noted)
    for action in LED_BY:
        session.step_tensor(action)
        session.commit()
    fork = session.fork()
    assert fetched == []
    for _ in range(3):
        assert session.frame.tobytes() == fork.frame.tobytes() == session.snapshot().frame.tobytes()
    assert fetched == [(6, 10, 3)]


# Who owns what.


def test_others_take_the_frame_without_a_copy(world: World) -> None:
    session = started(world)
    for step in (session.step_tensor, lambda action: session.step_async(action).tensor):
        tensor = step(0)
        array, twin = np.from_dlpack(tensor), torch.from_dlpack(tensor)  # type: ignore[arg-type]
        assert array.__array_interface__["data"][0] == twin.data_ptr() == tensor.data_ptr()
        np.testing.assert_array_equal(array, session.frame)
        tensor[0, 0] = torch.tensor([1, 2, 3], dtype=torch.uint8)
        assert array[0, 0].tolist() == twin[0, 0].tolist() == [1, 2, 3]


def test_later_steps_leave_earlier_frames_alone(world: World) -> None:
    session, plain = started(world), started(world)
    tensors, pendings = [], []
    for action in LED_BY:
        tensors.append(session.step_tensor(action))
        pendings.append(session.step_async(action))
    session.reset(PICTURES[0])
    expected = [plain.step(action) for action in LED_BY for _ in range(2)]
    for t, (tensor, pending) in enumerate(zip(tensors, pendings, strict=True)):
        np.testing.assert_array_equal(tensor.numpy(), expected[2 * t])
        np.testing.assert_array_equal(pending.wait(), expected[2 * t + 1])
        np.testing.assert_array_equal(pending.tensor.numpy(), expected[2 * t + 1])


def test_drawing_on_a_frame_changes_nothing(world: World) -> None:
    session, plain = started(world), started(world)
    plain.step(0)
    session.step_tensor(0).zero_()
    assert state_of(session) == state_of(plain)
    plain.step(1)
    pending = session.step_async(1)
    pending.wait()[:] = 0
    np.testing.assert_array_equal(pending.tensor.numpy(), plain.frame)
    pending.tensor.zero_()
    assert state_of(session) == state_of(plain)
    session.peek(), plain.peek()
    session.step_tensor(2).zero_()
    plain.step(2)
    assert state_of(session) == state_of(plain)


def test_a_pending_frame_gives_the_same_array_and_tensor_again(world: World) -> None:
    session = started(world)
    pending = session.step_async(0)
    assert pending.ready()
    assert pending.wait() is pending.wait()
    assert pending.tensor is pending.tensor


# What was peeked.


@pytest.mark.parametrize("way", STEPS)
def test_a_peeked_frame_is_taken_without_an_evaluation(world: World, way: str) -> None:
    plain, session = started(world), started(world)
    expected = plain.step("right")
    session.peek(["left", "right"])
    with counted_calls(world) as calls:
        found = STEPS[way](session, "right")
    assert calls == []
    np.testing.assert_array_equal(found, expected)
    assert (session.stats, state_of(session)) == (plain.stats, state_of(plain))
    with counted_calls(world) as calls:
        found = STEPS[way](session, "right")
    assert calls == [("frame", 1)]
    np.testing.assert_array_equal(found, plain.step("right"))


# Faults.


@pytest.mark.parametrize("way", ["step_tensor", "step_async"])
def test_errors_leave_the_session_as_it_was(world: World, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session, untroubled = started(world), started(world)
    step = getattr(session, way)
    step(0), untroubled.step(0)
    session.peek(["left"])
    with pytest.raises(InputError, match="left, stay, right"):
        step("fly")
    with pytest.raises(InputError, match="0 to 2"):
        step(3)

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError

    with monkeypatch.context() as patch:  # the frame is there, and no memory for its copy
        patch.setattr(HeldFrame, "copy_to", full)
        patch.setattr(HeldFrame, "copy_to_host", full)
        with pytest.raises(torch.OutOfMemoryError):
            step(1)
    with counted_calls(world) as calls:
        step("left")  # the peek is still there
    assert calls == []
    untroubled.step("left")
    assert (session.stats, state_of(session)) == (untroubled.stats, state_of(untroubled))
    with pytest.raises(StateError, match="reset"):
        getattr(world.session(), way)(0)


@pytest.mark.parametrize("way", ["step_tensor", "step_async"])
def test_a_session_with_a_deadline_refuses(world: World, way: str) -> None:
    session, untroubled = started(world, target_ms=50), started(world)
    with pytest.raises(StateError, match=r"target_ms=50.*call step"):
        getattr(session, way)(0)
    assert session.stats is None
    assert session.step(0).tobytes() == untroubled.step(0).tobytes()


@pytest.mark.parametrize("way", ["step_tensor", "step_async"])
def test_nan_that_the_back_end_finds_at_once_leaves_the_session(way: str) -> None:
    world = make_world(CONFIG)
    session, untroubled = started(world), started(world)
    with broken_weight(world), pytest.raises(DeviceError, match="NaN or Inf"):
        getattr(session, way)(0)
    assert state_of(session) == state_of(untroubled)


def broken_cuda_session() -> tuple[Session, Callable[[], None]]:
    """A session whose next frames are NaN, and what mends it."""
    session = started(make_cuda_world())
    weight = session.world.backend.model.dynamics.transformer.blocks[1].temporal.q_norm  # type: ignore[attr-defined]
    sound = weight.clone()
    weight.fill_(torch.nan)
    return session, lambda: weight.copy_(sound)


def test_wait_says_that_a_frame_was_nan_every_time_and_the_session_can_be_restored() -> None:
    with torch.inference_mode():
        session, mend = broken_cuda_session()
    moment = session.snapshot()
    pending = session.step_async(0)
    for _ in range(2):
        with pytest.raises(DeviceError, match=r"dynamics of .* between layer 0 and layer 1"):
            pending.wait()
    with torch.inference_mode():
        mend()
    session.restore(moment)
    untroubled = started(make_cuda_world())
    np.testing.assert_array_equal(session.step_async(0).wait(), untroubled.step(0))


def test_a_nan_frame_left_on_the_device_is_reported_by_the_next_call() -> None:
    with torch.inference_mode():
        session, _ = broken_cuda_session()
    session.step_tensor(0)
    before = session.row
    with pytest.raises(DeviceError, match="NaN or Inf"):
        session.step_tensor(1)
    assert session.row is before


class Later:
    """Stands for a frame whose copy arrives when somebody says so, and notes what is asked of it."""

    def __init__(self, *, sound: bool = True) -> None:
        self.asked: list[str] = []
        self.arrived = False
        self.sound = sound
        self.picture = np.zeros((2, 2, 3), np.uint8)

    def copy_to_host(self) -> tuple[Picture, Any]:
        return self.picture, SimpleNamespace(query=self.query, synchronize=self.synchronize)

    def query(self) -> bool:
        self.asked.append("query")
        return self.arrived

    def synchronize(self) -> None:
        self.asked.append("synchronize")
        self.arrived = True

    def check(self) -> None:
        self.asked.append("check")
        if not self.sound:
            raise DeviceError("NaN or Inf")


def pending_of(later: Any, backend: Any) -> PendingFrame:
    return PendingFrame(later, torch.device("cpu"), backend, Home())


def test_ready_only_looks_and_wait_checks_what_has_arrived() -> None:
    later = Later()
    pending = pending_of(later, later)
    assert later.asked == []
    assert [pending.ready(), pending.ready()] == [False, False]
    assert later.asked == ["query", "query"]
    assert pending.wait() is later.picture
    assert later.asked[2:] == ["synchronize", "check"]
    assert pending.ready()
    pending.wait()
    assert later.asked.count("check") == 1


def test_two_threads_may_fetch_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = HeldFrame(torch.arange(12, dtype=torch.uint8).view(2, 2, 3))
    fetch = torch.Tensor.cpu
    others: list[Picture] = []

    def overtaken(tensor: torch.Tensor) -> torch.Tensor:
        monkeypatch.setattr(torch.Tensor, "cpu", fetch)
        others.append(frame.picture())  # what another thread does in the meantime
        return fetch(tensor)

    monkeypatch.setattr(torch.Tensor, "cpu", overtaken)
    mine = frame.picture()
    for picture in (mine, *others, frame.picture()):
        assert picture.flatten().tolist() == list(range(12))
        assert not picture.flags.writeable


# On a GPU.

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
GPU_CONFIG = preset("demo")
WARM = 3 * GPU_CONFIG.dynamics.transformer.window
"""Steps after which every frame of `GPU_CONFIG` is captured and all pages are made."""

LONG = 2**30
"""Clock cycles that keep a stream busy for about half a second."""


def warm_pair() -> tuple[Session, Session]:
    """Two sessions at one moment, each of a world of its own on a GPU; everything is captured."""
    pair = []
    for _ in range(2):
        session = make_cuda_world(GPU_CONFIG, "fp32", "cuda").session(seed=7, plan=Plan(passes=2))
        session.reset(make_pictures(GPU_CONFIG, 1)[0])
        for action in make_actions(WARM):
            session.step(action)
        session.step_tensor(0)
        session.step_async(0).wait()
        pair.append(session)
    torch.cuda.synchronize()
    return pair[0], pair[1]


@pytest.mark.gpu
@needs_gpu
def test_a_warm_step_waits_for_nothing_and_arrives_later() -> None:
    session, plain = warm_pair()
    expected = [plain.step(action) for action in (1, 2)]
    torch.cuda.set_sync_debug_mode("error")
    try:
        torch.cuda._sleep(LONG)
        tensor = session.step_tensor(1)
        pending = session.step_async(2)
        assert not pending.ready()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert pending.wait().tobytes() == expected[1].tobytes()
    assert pending.ready()
    np.testing.assert_array_equal(tensor.cpu().numpy(), expected[0])
    np.testing.assert_array_equal(session.frame, expected[1])


@pytest.mark.gpu
@needs_gpu
def test_frames_of_several_streams_are_in_order() -> None:
    session, plain = warm_pair()
    streams = [torch.cuda.Stream() for _ in range(2)]
    actions = make_actions(8)
    found = []
    for t, action in enumerate(actions):
        with torch.cuda.stream(streams[t % 2]):
            torch.cuda._sleep(LONG // 16)
            found.append(session.step_tensor(action))
    shown = session.frame  # fetched on the default stream, while the last one's is still busy
    torch.cuda.synchronize()
    expected = [plain.step(action) for action in actions]
    np.testing.assert_array_equal(np.stack([tensor.cpu().numpy() for tensor in found]), np.stack(expected))
    np.testing.assert_array_equal(shown, expected[-1])


@pytest.mark.gpu
@needs_gpu
def test_a_picture_that_is_waited_for_lies_in_pinned_memory_and_is_kept() -> None:
    session, plain = warm_pair()
    actions = make_actions(8)
    pictures = [session.step_async(action).wait() for action in actions]
    for picture, action in zip(pictures, actions, strict=True):
        assert torch.from_numpy(picture).is_pinned()
        np.testing.assert_array_equal(picture, plain.step(action))


@pytest.mark.gpu
@needs_gpu
def test_others_take_the_frame_on_the_gpu_without_a_copy() -> None:
    session, _ = warm_pair()
    session.peek()
    for tensor in (session.step_tensor(0), session.step_tensor(0), session.step_async(1).tensor):
        assert torch.from_dlpack(tensor).data_ptr() == tensor.data_ptr()
        interface = tensor.__cuda_array_interface__
        assert interface["data"][0] == tensor.data_ptr()
        assert interface["shape"] == (*session.world.output_size, 3)
        assert interface["typestr"] == "|u1"
        assert interface["strides"] is None  # contiguous

"""A session replays bit for bit, comes back to its snapshots, and survives whatever it is given."""

import hashlib
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import (
    ACTIONS,
    counted_calls,
    make_actions,
    make_config,
    make_model,
    make_pictures,
    make_world,
)
from torch.utils._python_dispatch import TorchDispatchMode

from genie_rt.errors import ConfigError, DeviceError, InputError, StateError
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

CONFIG = make_config()
PICTURES = make_pictures(CONFIG, 4)
WORLD = make_world(CONFIG)
LED_BY = make_actions(9)


def started(seed: int = 7, world: World = WORLD) -> Session:
    session = world.session(seed=seed)
    session.reset(PICTURES[0])
    return session


def frames_of(session: Session, actions: list[int]) -> list[bytes]:
    return [session.step(action).tobytes() for action in actions]


# Replay.

REPLAY = """
import hashlib, sys
from genie_rt import World
world = World.load(sys.argv[1])
for seed in map(int, sys.argv[2].split(",")):
    session, digest = world.session(seed=seed), hashlib.sha256()
    digest.update(session.reset(world.prompt(0)))
    for action in map(int, sys.argv[3].split(",")):
        digest.update(session.step(action))
    print(digest.hexdigest())
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    write_bundle(
        out, name="tiny", config=CONFIG, weights=make_model(CONFIG, dtype=torch.float32).state_dict(),
        action_names=ACTIONS, default_action="stay", plans={"default": Plan(passes=3)},
        prompts=[PICTURES[0]], provenance={}, model_card="# tiny\n",
    )  # fmt: skip
    return out


def test_another_process_gives_the_same_frames_and_another_seed_does_not(bundle: Path) -> None:
    seeds = (7, 8, 2**64 - 1)
    arguments = [str(bundle), ",".join(map(str, seeds)), ",".join(map(str, LED_BY))]
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, *arguments], capture_output=True, text=True, check=True
    )
    world, found = World.load(bundle), []
    for seed in seeds:
        session, digest = world.session(seed=seed), hashlib.sha256()
        digest.update(session.reset(world.prompt(0)))
        for action in LED_BY:
            digest.update(session.step(action))
        found.append(digest.hexdigest())
    assert done.stdout.split() == found
    assert len(set(found)) == 3


def test_the_same_seed_gives_the_same_frames_and_every_input_counts() -> None:
    def play(seed: int = 7, picture: int = 0, actions: list[int] = LED_BY, passes: int = 3) -> bytes:
        session = WORLD.session(seed=seed, passes=passes)
        session.reset(PICTURES[picture])
        return b"".join(frames_of(session, actions))

    other_actions = [(LED_BY[0] + 1) % 3, *LED_BY[1:]]
    different = [
        play(),
        play(seed=8),
        play(seed=7 + 2**63),
        play(picture=1),
        play(actions=other_actions),
        play(passes=4),
    ]
    assert play() == different[0]
    assert len(set(different)) == len(different)


def test_names_and_indices_are_the_same_action() -> None:
    session = started()
    moment = session.snapshot()
    for index, name in enumerate(ACTIONS):
        frames = []
        for action in (index, name, np.int64(index)):
            session.restore(moment)
            frames.append(session.step(action).tobytes())
        assert len(set(frames)) == 1


def test_sessions_of_one_world_do_not_disturb_each_other() -> None:
    alone = [frames_of(started(seed), LED_BY) for seed in (1, 2)]
    a, b = started(1), started(2)
    together = [(a.step(action).tobytes(), b.step(action).tobytes()) for action in LED_BY]
    assert [list(frames) for frames in zip(*together, strict=True)] == alone


def test_a_session_that_leaves_its_frames_on_the_device_replays_too() -> None:
    session = started()
    frames = [session.step_tensor(action).cpu().numpy().tobytes() for action in LED_BY]
    assert frames == frames_of(started(), LED_BY)


def test_sessions_in_several_threads_give_the_frames_they_give_alone() -> None:
    seeds = range(4)
    alone = [frames_of(started(seed), LED_BY) for seed in seeds]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda seed: frames_of(started(seed), LED_BY), seeds))
    assert together == alone


def test_reset_starts_anew() -> None:
    session = started()
    first = frames_of(session, LED_BY)
    session.reset(PICTURES[0])
    assert frames_of(session, LED_BY) == first
    assert session.frame_index == len(LED_BY)


# Snapshots.


def test_restore_goes_on_identically_as_often_as_one_likes() -> None:
    session = started()
    frames_of(session, LED_BY[:5])
    moment, shown = session.snapshot(), session.frame
    after = frames_of(session, LED_BY[5:])
    for stray in ([], [0, 0], [2] * 9):
        np.testing.assert_array_equal(session.restore(moment), shown)
        frames_of(session, stray)
        session.restore(moment)
        assert frames_of(session, LED_BY[5:]) == after


def test_a_snapshot_of_another_session_brings_its_seed_along() -> None:
    donor = started(seed=1)
    frames_of(donor, LED_BY[:5])
    receiver = started(seed=2)
    receiver.restore(donor.snapshot())
    assert receiver.seed == 1
    assert frames_of(receiver, LED_BY) == frames_of(donor, LED_BY)


def test_a_snapshot_outlives_its_session() -> None:
    session = started()
    frames_of(session, LED_BY[:5])
    moment, expected = session.snapshot(), frames_of(session, LED_BY[5:])
    del session
    frames_of(started(3), LED_BY)  # takes the pages that became free
    other = WORLD.session()
    other.restore(moment)
    assert frames_of(other, LED_BY[5:]) == expected


class NoTensorWork(TorchDispatchMode):
    """Every operation on tensors raises; those that allocate and copy are such operations."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise AssertionError(f"an operation on tensors: {func}")


def test_the_guard_against_tensor_work_sees_it() -> None:
    tensor = torch.zeros(3)
    for work in (tensor.clone, lambda: torch.empty(3), lambda: tensor[0], lambda: tensor.copy_(tensor)):
        with pytest.raises(AssertionError, match="operation on tensors"), NoTensorWork():
            work()


@pytest.mark.parametrize("committed", [True, False])
def test_snapshot_and_restore_copy_no_tensor_and_take_no_page(committed: bool) -> None:
    session = started()
    frames_of(session, LED_BY[:6])
    if committed:
        session.commit()
    pools = [WORLD.backend.dynamics_pages, WORLD.backend.decoder_pages, WORLD.backend.encoder_pages]
    used = [(pool.num_used, pool.num_pages) for pool in pools]
    with NoTensorWork():
        moment = session.snapshot()
        more = [session.snapshot() for _ in range(50)]
    assert [(pool.num_used, pool.num_pages) for pool in pools] == used
    row = session._row
    assert row is not None
    frames_of(session, LED_BY)
    with NoTensorWork():
        session.restore(moment)
        for snapshot in more:
            session.restore(snapshot)
    assert session._row is row
    assert [(pool.num_used, pool.num_pages) for pool in pools] == used


def test_a_snapshot_of_another_world_is_refused() -> None:
    session, stranger = started(), started(world=make_world(CONFIG))
    with pytest.raises(InputError, match="loaded elsewhere"):
        session.restore(stranger.snapshot())
    assert frames_of(session, LED_BY) == frames_of(started(), LED_BY)


# Commits.


def test_idle_commits_change_no_frame() -> None:
    lazy, idle, twice = started(), started(), started()
    for action in LED_BY:
        idle.commit()
        twice.commit(), twice.commit()
        frames = {session.step(action).tobytes() for session in (lazy, idle, twice)}
        assert len(frames) == 1


def test_a_step_is_one_evaluation_whether_somebody_committed_or_not() -> None:
    session = started()
    with counted_calls(WORLD) as calls:
        session.step(0)
        assert calls == [("frame", 1)] and session.is_pending
        session.commit()
        session.commit()
        assert calls == [("frame", 1), ("commit", 1)] and not session.is_pending
        session.step(0)
    assert calls == [("frame", 1), ("commit", 1), ("frame", 1)]


def test_a_commit_takes_one_page_and_a_second_one_none() -> None:
    session, pool = started(), WORLD.backend.dynamics_pages
    used = pool.num_used
    session.commit()
    assert pool.num_used == used + 1
    session.commit()
    assert pool.num_used == used + 1


# Plans.


def test_a_plan_may_change_between_steps_and_stats_tell_what_was_taken() -> None:
    session = started()
    assert session.stats is None and session.passes == 3
    session.step(0)
    assert session.stats == FrameStats(passes=3, tokens=45) and session.passes == 3
    session.plan = session.plan.replace(passes=1)
    assert session.passes == 3 and session.next_plan.passes == 1  # of the last step, of the next one
    session.step(0)
    assert session.stats == FrameStats(passes=1, tokens=15) and session.passes == 1
    session.reset(PICTURES[0])
    assert session.stats is None and session.passes == 1


def test_a_plan_that_the_model_cannot_decode_with_is_refused_and_the_old_one_stays() -> None:
    session, untroubled = started(), started()
    session.peek(["left"])
    for plan, error, message in (
        (Plan(passes=16), ConfigError, "at most 15"),
        ("best", InputError, "world.plan"),
        (None, InputError, "expected a Plan"),
    ):
        with pytest.raises(error, match=message):
            session.plan = plan  # type: ignore[assignment]
    assert session.plan == Plan(passes=3)
    with counted_calls(WORLD) as calls:
        assert frames_of(session, [0]) == frames_of(untroubled, [0])
    assert calls == [("frame", 1)]  # that of `untroubled`: the peek is still there


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(passes=3), range(1, 25)),
        (Plan(passes=3, reuse="frames"), range(2, 25)),
        (Plan(passes=3, order="halton"), range(1, 25)),
        (Plan(passes=3, order="halton", reuse="passes"), range(1, 7)),
    ],
)
def test_the_range_of_passes_is_that_of_the_plans_which_are_possible(plan: Plan, expected: range) -> None:
    world = make_world(make_config(grid=(4, 6), merge=2))
    session = world.session(plan=plan)
    assert session.passes_range == expected
    for passes in (expected[0], expected[-1]):
        session.plan = plan.replace(passes=passes)
    for passes in (expected[0] - 1, expected[-1] + 1):
        with pytest.raises(ConfigError):
            session.plan = plan.replace(passes=passes)
    assert session.plan.passes == expected[-1]


# The caller's arrays are the caller's.


def test_drawing_on_a_frame_changes_nothing() -> None:
    session = started()
    shown = session.frame.copy()
    session.frame[:] = 0
    moment = session.snapshot()
    session.reset(PICTURES[0])[:] = 0
    np.testing.assert_array_equal(session.frame, shown)
    session.step(0)[:] = 0
    session.restore(moment)[:] = 0
    np.testing.assert_array_equal(session.frame, shown)


def test_the_picture_given_may_be_changed_and_is_not_written_to() -> None:
    picture = PICTURES[0].copy()
    session = WORLD.session(seed=7)
    session.reset(picture)
    np.testing.assert_array_equal(picture, PICTURES[0])
    picture[:] = 0
    assert frames_of(session, LED_BY) == frames_of(started(), LED_BY)


def test_strided_pictures_and_tensors_are_the_same_picture() -> None:
    wide = np.zeros((6, 20, 3), np.uint8)
    wide[:, ::2] = PICTURES[0]
    for picture in (wide[:, ::2], torch.from_numpy(PICTURES[0].copy()), np.asfortranarray(PICTURES[0])):
        session = WORLD.session(seed=7)
        session.reset(picture)
        assert frames_of(session, LED_BY[:2]) == frames_of(started(), LED_BY[:2])


# Bad input: one error that says what to do, and a session that goes on as if nothing had been.

BAD_CALLS: dict[str, tuple[type[Exception], str, Callable[[Session], object]]] = {
    "too high": (InputError, r"\[6, 10, 3\]", lambda s: s.reset(np.zeros((7, 10, 3), np.uint8))),
    "turned": (InputError, r"\[6, 10, 3\]", lambda s: s.reset(np.zeros((10, 6, 3), np.uint8))),
    "grey": (InputError, "channels", lambda s: s.reset(np.zeros((6, 10), np.uint8))),
    "channels first": (InputError, "channels last", lambda s: s.reset(np.zeros((3, 6, 10), np.uint8))),
    "RGBA": (InputError, "channels", lambda s: s.reset(np.zeros((6, 10, 4), np.uint8))),
    "float picture": (InputError, "uint8", lambda s: s.reset(np.zeros((6, 10, 3), np.float32))),  # type: ignore[arg-type]
    "int64 picture": (InputError, "uint8", lambda s: s.reset(np.zeros((6, 10, 3), np.int64))),  # type: ignore[arg-type]
    "a path": (InputError, "load_image", lambda s: s.reset("picture.png")),  # type: ignore[arg-type]
    "nothing": (InputError, "array", lambda s: s.reset(None)),  # type: ignore[arg-type]
    "no frames": (InputError, "at least one", lambda s: s.reset(np.zeros((0, 6, 10, 3), np.uint8))),
    "too few actions": (InputError, "3 actions for 4", lambda s: s.reset(PICTURES, [0, 1])),
    "too many actions": (InputError, "3 actions for 4", lambda s: s.reset(PICTURES, [0, 1, 2, 0])),
    "actions of one picture": (InputError, "0 actions for 1", lambda s: s.reset(PICTURES[0], [0])),
    "unknown action in a prompt": (InputError, "fly", lambda s: s.reset(PICTURES, [0, "fly", 0])),
    "one bad frame in a prompt": (
        InputError, "uint8", lambda s: s.reset(PICTURES.astype(np.float64), [0, 1, 2]),  # type: ignore[arg-type]
    ),
    "unknown action": (InputError, "left, stay, right", lambda s: s.step("fly")),
    "unknown action on the device": (InputError, "left, stay, right", lambda s: s.step_tensor("fly")),
    "unknown action in the background": (InputError, "0 to 2", lambda s: s.step_async(3)),
    "other case": (InputError, "left, stay, right", lambda s: s.step("LEFT")),
    "index too large": (InputError, "0 to 2", lambda s: s.step(3)),
    "negative index": (InputError, "0 to 2", lambda s: s.step(-1)),
    "truth value": (InputError, "True", lambda s: s.step(True)),
    "NumPy truth value": (InputError, "True", lambda s: s.step(np.bool_(True))),  # type: ignore[arg-type]
    "a float": (InputError, "1.0", lambda s: s.step(1.0)),  # type: ignore[arg-type]
    "no action": (InputError, "None", lambda s: s.step(None)),  # type: ignore[arg-type]
    "a list": (InputError, r"\[0\]", lambda s: s.step([0])),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.mark.parametrize("call", BAD_CALLS)
def test_bad_input_raises_one_error_and_leaves_the_session(call: str) -> None:
    error, message, attempt = BAD_CALLS[call]
    session = started()
    session.step(0)
    row, shown = session._row, session.frame
    with pytest.raises(error, match=message):
        attempt(session)
    assert session._row is row
    np.testing.assert_array_equal(session.frame, shown)
    untroubled = started()
    untroubled.step(0)
    assert session.step(1).tobytes() == untroubled.step(1).tobytes()


EARLY_CALLS: dict[str, Callable[[Session], object]] = {
    "step": lambda s: s.step(0),
    "step_tensor": lambda s: s.step_tensor(0),
    "step_async": lambda s: s.step_async(0),
    "commit": lambda s: s.commit(),
    "snapshot": lambda s: s.snapshot(),
    "frame": lambda s: s.frame,
    "frame_index": lambda s: s.frame_index,
}


@pytest.mark.parametrize("call", EARLY_CALLS)
def test_before_reset_a_session_says_to_call_it(call: str) -> None:
    session = WORLD.session(seed=7)
    with pytest.raises(StateError, match="reset"):
        EARLY_CALLS[call](session)
    session.reset(PICTURES[0])
    assert frames_of(session, LED_BY[:2]) == frames_of(started(), LED_BY[:2])


def test_a_bad_picture_leaves_a_new_session_new() -> None:
    session = WORLD.session()
    with pytest.raises(InputError):
        session.reset(np.zeros((1, 1, 3), np.uint8))
    with pytest.raises(StateError):
        session.step(0)


NAN_WEIGHTS = {
    "dynamics.token_in.weight": "dynamics.*between the input and layer 0",
    "dynamics.transformer.blocks.1.spatial.qkv.weight": "dynamics.*between layer 0 and layer 1",
    "dynamics.transformer.blocks.0.down.weight": "dynamics.*between layer 0 and layer 1",
    "dynamics.transformer.blocks.2.temporal.qkv.weight": "dynamics.*between layer 2 and the output",
    "dynamics.token_out.weight": "dynamics.*between layer 2 and the output",
    "tokenizer.decoder.blocks.0.temporal.qkv.weight": "decoder.*between layer 0 and layer 1",
    "tokenizer.patch_out.weight": "decoder.*between layer 1 and the output",
}


@pytest.mark.parametrize("name", NAN_WEIGHTS)
def test_nan_is_an_error_that_names_the_layers_and_leaves_the_session(name: str) -> None:
    world = make_world(CONFIG)
    session = started(world=world)
    session.step(0)
    row, shown = session._row, session.frame
    pools = [world.backend.dynamics_pages, world.backend.decoder_pages]
    used = [pool.num_used for pool in pools]
    weight = world.backend.model.get_parameter(name)
    element = (0,) * weight.ndim
    sound = float(weight[element])
    for broken in (torch.nan, torch.inf):
        weight[element] = broken
        with pytest.raises(DeviceError, match=NAN_WEIGHTS[name]):
            session.step(1)
    assert session._row is row
    assert [pool.num_used for pool in pools] == used
    np.testing.assert_array_equal(session.frame, shown)
    weight[element] = sound
    untroubled = started()
    untroubled.step(0)
    assert session.step(1).tobytes() == untroubled.step(1).tobytes()


def test_nan_in_the_encoder_is_an_error_of_reset() -> None:
    world = make_world(CONFIG)
    session = started(world=world)
    world.backend.model.tokenizer.patch_in.weight[0, 0] = torch.nan
    with pytest.raises(DeviceError, match=r"encoder.*between the input and layer 0"):
        session.reset(PICTURES[0])
    assert frames_of(session, LED_BY[:2]) == frames_of(started(), LED_BY[:2])

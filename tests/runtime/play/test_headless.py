"""A headless game gives every frame, every time, and the same again."""

from types import SimpleNamespace

import numpy as np
import pytest

from genie_rt.errors import InputError
from genie_rt.runtime.play import headless
from genie_rt.runtime.play.headless import play_headless

ACTIONS = (1, 1, 5, 2, 0)


def test_frames_times_and_commits(session, prompts) -> None:
    seen = []
    rollout = play_headless(session, prompts[0].image, ACTIONS, on_step=lambda: seen.append(1))
    assert session.steps == list(ACTIONS)
    assert session.num_commits == 6  # after the prompt and after every step, never twice
    assert len(rollout.frames) == 6 and len(rollout.step_ms) == len(rollout.commit_ms) == len(seen) == 5
    np.testing.assert_array_equal(rollout.frames[-1], session.frame)
    assert rollout.percentile_ms(50) <= rollout.percentile_ms(95)
    assert rollout.fps > 0


def test_the_first_frame_and_cold_ones_are_told_apart(session, prompts, monkeypatch) -> None:
    took = iter([9.0, 0.01, 7.0, 0.02])
    now_ns = [0]

    def step(action, step=session.step):
        seconds = next(took)
        now_ns[0] += int(seconds * 1e9)
        session.cold = seconds == 7.0
        return step(action)

    monkeypatch.setattr(session, "step", step)
    monkeypatch.setattr(headless, "time", SimpleNamespace(perf_counter_ns=lambda: now_ns[0]))
    rollout = play_headless(session, prompts[0].image, (1, 1, 1, 1))
    assert (rollout.first_ms, rollout.num_cold, rollout.warm) == (9000.0, 1, (1, 3))
    assert (rollout.percentile_ms(50), rollout.percentile_ms(95)) == (10.0, 20.0)
    assert rollout.fps == pytest.approx(2 / 0.03)


def test_of_one_step_only_the_first_frame_is_told(session, prompts) -> None:
    rollout = play_headless(session, prompts[0].image, (1,))
    assert rollout.first_ms == rollout.step_ms[0]
    assert rollout.percentile_ms(50) is None and rollout.fps is None


def test_same_game_twice_is_bit_exact_and_other_passes_are_not(session, prompts) -> None:
    first = play_headless(session, prompts[0].image, ACTIONS)
    again = play_headless(session, prompts[0].image, ACTIONS, keep_frames=False)
    assert again.frames == ()
    assert again.trail.frames_crc32 == first.trail.frames_crc32
    other = play_headless(session, prompts[0].image, ACTIONS, passes=(4, 4, 5, 5, 4))
    assert other.trail.frames_crc32[:3] == first.trail.frames_crc32[:3]
    assert other.trail.frames_crc32[3:] != first.trail.frames_crc32[3:]


def test_frames_are_copies(session, prompts, monkeypatch) -> None:
    buffer = np.zeros((64, 64, 3), np.uint8)  # a session may reuse its buffer

    def step(action):
        buffer[:] = action
        return buffer

    monkeypatch.setattr(session, "step", step)
    monkeypatch.setattr(session, "commit", lambda: None)
    rollout = play_headless(session, prompts[0].image, (1, 5))
    assert [frame.max() for frame in rollout.frames[1:]] == [1, 5]


def test_too_many_frames_are_refused_before_the_first_step(session, prompts, monkeypatch) -> None:
    monkeypatch.setattr(headless, "_MAX_KEPT_BYTES", 3 * 64 * 64 * 3)
    with pytest.raises(InputError, match="at most 2 steps"):
        play_headless(session, prompts[0].image, (1, 1, 1))
    assert session.steps == []
    play_headless(session, prompts[0].image, (1, 1, 1), keep_frames=False)

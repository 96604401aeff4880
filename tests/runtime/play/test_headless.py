"""A headless game gives every frame, every time, and the same again."""

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

"""The rules of playing: what steps, what does not, and that undo leads back to the very same frames."""

import numpy as np
import pytest

from genie_rt.errors import InputError
from genie_rt.runtime.play.action_log import frame_crc32
from genie_rt.runtime.play.loop import PlayLoop

RIGHT, JUMP = 1, 3


def test_ticks_step_and_time(loop, session, clock, monkeypatch) -> None:
    def slow_step(action, step=session.step):
        clock.now += 0.0125
        return step(action)

    monkeypatch.setattr(session, "step", slow_step)
    assert loop.tick(RIGHT) and loop.tick(JUMP)
    assert session.steps == [RIGHT, JUMP]
    assert loop.num_steps == 2
    assert loop.times.percentile_ms(95) == pytest.approx(12.5)


def test_neither_the_first_step_nor_a_cold_one_is_among_the_times(loop, session, clock, monkeypatch) -> None:
    took = iter([9.0, 0.01, 7.0, 0.02])

    def step(action, step=session.step):
        seconds = next(took)
        clock.now += seconds
        session.cold = seconds == 7.0
        return step(action)

    monkeypatch.setattr(session, "step", step)
    loop.tick(RIGHT)
    assert loop.times.percentile_ms(95) is None
    for _ in range(3):
        loop.tick(RIGHT)
    assert loop.times.percentile_ms(50) == pytest.approx(10)
    assert loop.times.percentile_ms(100) == pytest.approx(20)


def test_paused_loop_steps_once_per_request(loop, session) -> None:
    loop.toggle_pause()
    assert not loop.tick(RIGHT)
    loop.request_step()
    loop.request_step()  # while a slow step ran: no queue
    assert loop.wants_step
    assert loop.tick(RIGHT) and not loop.tick(RIGHT)
    loop.toggle_pause()
    assert loop.tick(RIGHT)
    assert session.steps == [RIGHT, RIGHT]


def test_request_pauses_a_running_game(loop) -> None:
    loop.request_step()
    assert loop.paused and loop.tick(RIGHT) and not loop.tick(RIGHT)


def test_commit_happens_once_and_when_idle(loop, session) -> None:
    loop.idle()
    loop.idle()
    assert session.num_commits == 1
    loop.tick(RIGHT)
    assert session.num_commits == 1
    loop.idle()
    assert session.num_commits == 2
    loop.tick(RIGHT)
    loop.tick(RIGHT)  # no idle moment in between: the step commits by itself
    assert session.num_commits == 3


@pytest.mark.parametrize("idle", [True, False])
def test_undo_leads_back_over_the_same_frames(loop, idle: bool) -> None:
    frames = [loop.frame]
    for action in (RIGHT, RIGHT, JUMP, 5):
        if idle:
            loop.idle()
        loop.tick(action)
        frames.append(loop.frame)
    for expected in reversed(frames[:-1]):
        assert loop.undo()
        np.testing.assert_array_equal(loop.frame, expected)
        loop.idle()
    assert not loop.undo()
    assert loop.num_steps == 0
    for action, expected in zip((RIGHT, RIGHT, JUMP, 5), frames[1:], strict=True):
        loop.tick(action)
        np.testing.assert_array_equal(loop.frame, expected)


def test_undo_is_bounded(loop) -> None:
    for _ in range(20):
        loop.tick(RIGHT)
    assert sum(loop.undo() for _ in range(30)) == 8
    assert loop.num_steps == 12
    assert len(loop.trail.frames_crc32) == 13


def test_trail_follows_undo(loop) -> None:
    loop.tick(RIGHT)
    loop.tick(RIGHT)
    loop.undo()
    loop.change_passes(+2)
    loop.tick(JUMP)
    log = loop.trail.log(
        ("l", "r", "s", "j"),
        bundle="b", bundle_sha256=None, seed=0, plan=loop.first_plan, prompt="p", prompt_crc32=0,
    )  # fmt: skip
    assert log.actions == ("r", "j")
    assert log.passes == (4, 6)
    assert log.plan.passes == 4
    assert log.frames_crc32[-1] == frame_crc32(loop.frame)


def test_reset_and_prompts(loop, prompts) -> None:
    first = loop.frame
    loop.tick(RIGHT)
    loop.reset()
    np.testing.assert_array_equal(loop.frame, first)
    assert not loop.can_undo and loop.num_steps == 0
    loop.reset(4)
    assert loop.prompt_index == 1
    np.testing.assert_array_equal(loop.frame[-1, 1:], prompts[1].image[-1, 1:])


def test_reset_forgets_a_requested_step_but_not_the_pause(loop) -> None:
    loop.request_step()
    loop.reset()
    assert loop.paused and not loop.tick(RIGHT)


def test_passes_change_as_far_as_the_model_goes(loop, session) -> None:
    assert loop.change_passes(+1) == 5
    assert loop.change_passes(-10) == 1
    assert session.plan.passes == 1
    assert loop.change_passes(+(10**6)) == 256
    assert session.plan.passes == 256
    assert session.plan.temperature == loop.first_plan.temperature


def test_loop_needs_a_prompt(session) -> None:
    with pytest.raises(InputError, match="at least one picture"):
        PlayLoop(session, [])

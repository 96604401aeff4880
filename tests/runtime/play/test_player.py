"""Keys do what the help says, and act once, however late the frame."""

import numpy as np
from PIL import Image

from genie_rt.errors import ConfigError
from genie_rt.runtime.play.action_log import ActionLog, read_log
from genie_rt.runtime.play.player import Player


def press(player: Player, *keys: str) -> None:
    for key in keys:
        player.press(key)
        player.release(key)


def test_held_keys_act_in_every_step(player, session, action_names) -> None:
    player.press("right")
    player.tick()
    player.press("space")
    player.tick()
    player.release("right")
    player.tick()
    player.release("space")
    player.tick()
    assert [action_names[index] for index in session.steps] == ["right", "right+jump", "jump", "stay"]


def test_a_tap_between_two_steps_counts_once(player, session, action_names) -> None:
    press(player, "space")
    player.tick()
    player.tick()
    assert [action_names[index] for index in session.steps] == ["jump", "stay"]


def test_taps_during_a_late_frame_do_not_queue(player, session, action_names) -> None:
    press(player, "left", "left", "left", "n", "n", "n")
    for _ in range(5):
        player.tick()
    assert [action_names[index] for index in session.steps] == ["left"]


def test_lost_focus_releases_everything(player, session, action_names) -> None:
    player.press("right")
    player.press("z")
    player.release_all()
    player.tick()
    assert not player.rewinding
    assert [action_names[index] for index in session.steps] == ["stay"]


def test_pause_and_single_steps(player, session) -> None:
    press(player, "p")
    assert player.status().mode == "paused" and not player.wants_tick
    player.tick()
    press(player, ".")
    assert player.wants_tick
    player.tick()
    press(player, "n")
    player.tick()
    press(player, "p")
    player.tick()
    assert len(session.steps) == 3


def test_undo_is_instant_and_rewinds_while_held(player, clock) -> None:
    frames = [player.loop.frame]
    player.press("right")
    for _ in range(6):
        player.tick()
        frames.append(player.loop.frame)
    player.press("backspace")
    np.testing.assert_array_equal(player.loop.frame, frames[5])  # without a tick
    player.tick()
    assert player.loop.num_steps == 5  # held for a moment only: one step, and none forward
    clock.now += 0.3
    player.tick()
    player.tick()
    np.testing.assert_array_equal(player.loop.frame, frames[3])
    assert player.status().mode == "rewind"
    player.release("backspace")
    player.tick()
    assert player.loop.num_steps == 4


def test_undo_works_while_paused(player, clock) -> None:
    player.tick()
    player.tick()
    press(player, "p", "z")
    assert player.loop.num_steps == 1
    player.press("z")
    clock.now += 1
    assert player.wants_tick
    player.tick()
    assert player.status().message == "nothing left to undo"
    assert player.loop.num_steps == 0


def test_reset_and_prompts(player) -> None:
    player.tick()
    press(player, "r")
    assert player.loop.num_steps == 0
    press(player, "tab")
    assert player.loop.prompt_index == 1
    press(player, "2")  # as `--prompt` counts
    assert player.loop.prompt_index == 2
    press(player, "0")
    assert player.loop.prompt_index == 0
    press(player, "2")
    press(player, "9", "tab")
    assert player.loop.prompt_index == 0
    assert player.status().message == "00.png"


def test_digits_play_worlds_without_directions(loop, session, clock, tmp_path) -> None:
    from genie_rt.runtime.play.recorder import Recorder

    names = tuple(f"latent {index}" for index in range(6))
    player = Player(loop, names, Recorder(fps=15), clock=clock, folder=tmp_path)
    player.press("2")
    player.tick()
    assert session.steps == [2]
    assert loop.prompt_index == 0
    assert ("2", "latent 2") in player.help_lines()
    player.greet()
    assert player.status().message == "0-5: act    H: help"
    assert player.status().moves == frozenset()


def test_passes_change_live(player) -> None:
    press(player, "]", "]", "[")
    assert player.status().passes == 5
    assert player.status().message == "5 passes a frame"
    press(player, "[", "[", "[", "[", "[")
    assert player.status().message == "1 pass a frame"


def test_messages_pass(player, clock) -> None:
    press(player, "]")
    player.dirty = False
    player.idle()
    assert player.status().message and not player.dirty
    clock.now += 10
    player.idle()
    assert player.status().message == "" and player.dirty


def test_escape_closes_help_first(player) -> None:
    press(player, "h")
    assert player.show_help
    press(player, "escape")
    assert not player.show_help and not player.quit
    press(player, "escape")
    assert player.quit


def test_game_waits_behind_the_help(player, session) -> None:
    press(player, "h")
    assert not player.wants_tick
    player.tick()
    press(player, "h")
    player.tick()
    assert len(session.steps) == 1


def test_greeting_says_how_to_play(player) -> None:
    player.greet()
    assert player.status().message == "Arrows, WASD, Space: move    H: help"


def test_script_comes_before_the_keys(make_player, session) -> None:
    player = make_player(script=[1, 5])
    player.press("left")
    for _ in range(3):
        player.tick()
    assert session.steps == [1, 5, 0]


def test_default_action_is_what_no_key_means(make_player, session) -> None:
    make_player(default_action="right").tick()
    assert session.steps == [1]


def test_status_before_and_after_a_step(player) -> None:
    status = player.status()
    assert (status.action, status.step, status.fps, status.p50_ms) == ("", 0, None, None)
    player.press("d")
    player.tick()
    status = player.status()
    assert (status.action, status.step, status.moves) == ("right", 1, {"right"})
    assert status.p95_ms is None  # the first step may find things that no later one does
    player.tick()
    assert player.status().p95_ms is not None


def test_help_names_every_command(player) -> None:
    words = " ".join(keys for keys, _ in player.help_lines()).casefold()
    for key in ("p", "n", "z", "r", "tab", "[", "]", "v", "h", "esc"):
        assert key in words


def test_recording_writes_a_gif_and_its_log(make_player, loop, action_names, tmp_path) -> None:
    def make_log() -> ActionLog:
        return loop.trail.log(
            action_names,
            bundle="b",
            bundle_sha256=None,
            seed=0,
            plan=loop.first_plan,
            prompt="00.png",
            prompt_crc32=1,
        )

    player = make_player(make_log=make_log)
    press(player, "v")
    assert player.status().recording
    player.press("right")
    for _ in range(4):
        player.tick()
    player.press("z")  # what the player sees is what is recorded
    press(player, "f12")
    assert not player.status().recording
    player.recorder.join()
    player.idle()
    assert player.status().message.startswith("saved ")
    gif, log = sorted(tmp_path.iterdir())
    with Image.open(gif) as picture:
        assert picture.n_frames == 6
    assert read_log(log).actions == ("right",) * 3


def test_two_recordings_within_a_second_keep_both(player, tmp_path) -> None:
    for _ in range(3):
        press(player, "v")
        player.tick()
        press(player, "v")
    player.recorder.join()
    assert len(list(tmp_path.glob("*.gif"))) == 3


def test_failed_recording_is_told_and_play_goes_on(make_player, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    player = make_player(folder=tmp_path / "file")
    press(player, "v")
    player.tick()
    press(player, "v")
    player.recorder.join()
    player.idle()
    assert player.status().message.startswith("not saved: ")
    player.tick()


def test_game_too_long_for_a_log_is_still_recorded(make_player, tmp_path) -> None:
    def make_log() -> ActionLog:
        raise ConfigError("too many steps")

    player = make_player(make_log=make_log)
    press(player, "v", "v")
    assert player.status().message == "no action log: too many steps"
    player.recorder.join()
    assert [path.suffix for path in tmp_path.iterdir()] == [".gif"]


def test_full_recording_stops_by_itself(player, monkeypatch, tmp_path) -> None:
    from genie_rt.runtime.play import recorder

    monkeypatch.setattr(recorder, "_MAX_BYTES", 3 * 64 * 64 * 3)
    press(player, "v")
    for _ in range(4):
        player.tick()
    assert not player.status().recording
    assert "full" in player.status().message
    player.recorder.join()
    assert len(list(tmp_path.glob("*.gif"))) == 1

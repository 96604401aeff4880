"""`genie-rt play` end to end, with a world that needs no model."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import tyro
from PIL import Image

import genie_rt
from genie_rt.errors import BundleError, InputError, UnsupportedError
from genie_rt.runtime.config import DynamicsConfig, ModelConfig, TokenizerConfig, TransformerConfig
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.play.commands import PlayCommand


@pytest.fixture(autouse=True)
def world(monkeypatch, session, action_names, prompts, tmp_path):
    """What `World.load` gives; it notes how it was called."""
    paths = []
    for prompt in prompts:
        paths.append(tmp_path / "bundle" / prompt.name)
        paths[-1].parent.mkdir(exist_ok=True)
        Image.fromarray(prompt.image).save(paths[-1])

    def make_session(*, seed, plan, target_ms=None, **changes):
        world.seed = seed
        session.plan = (Plan(passes=4) if plan == "default" else plan).replace(**changes)
        return session

    side = TransformerConfig(num_layers=1, width=8, num_heads=1, head_width=8, mlp_width=8, window=2)
    config = ModelConfig(
        tokenizer=TokenizerConfig(
            height=64, width=64, patch=4, decoder_patch=4, codebook_size=8, codebook_dim=4,
            encoder=side, decoder=side,
        ),
        dynamics=DynamicsConfig(transformer=side, num_actions=6),
    )  # fmt: skip
    world = SimpleNamespace(
        action_names=action_names,
        prompts=tuple(paths),
        session=make_session,
        warmed_up=[],
        warm_up=lambda plan: world.warmed_up.append(plan),
        backend=SimpleNamespace(device="cpu"),
        bundle=SimpleNamespace(
            digest="ab" * 32,
            default_action="stay",
            config=config,
        ),
    )

    def load(source, **options):
        world.source, world.options = source, options
        backend, dtype = options["backend"], options["dtype"]
        if backend == "cuda":
            raise UnsupportedError("no such device")
        if dtype == "int8":
            raise BundleError("no such graphs")
        name = "openvino" if backend == "auto" else backend
        world.backend = SimpleNamespace(name=name, device=torch.device("cpu"))
        world.dtype = "bfloat16" if dtype == "auto" else dtype
        return world

    monkeypatch.setitem(vars(genie_rt), "World", SimpleNamespace(load=load))
    monkeypatch.chdir(tmp_path)
    return world


def play(*words: str) -> None:
    tyro.cli(PlayCommand, args=words).run()


def test_headless_defaults(world, session, capsys) -> None:
    play("--headless")
    assert session.steps[:24] == [1] * 20 + [5] * 4
    assert len(session.steps) == 64
    out = capsys.readouterr().out
    assert "demo: 64 steps from 00.png, 4 passes, temperature 1, seed 0; openvino bfloat16 on " in out
    ready, _, times = out.splitlines()
    assert re.fullmatch(r"preparing openvino bfloat16 \.\.\. \d+\.\d s", ready)
    assert world.warmed_up == [session.plan]
    assert re.fullmatch(
        r"first frame \S+ ms; the others \S+ ms p50, \S+ ms p95 from action to frame, \S+ FPS with commits",
        times,
    )


def test_one_step_has_no_median(capsys) -> None:
    play("--headless", "--steps", "1")
    assert re.fullmatch(r"first frame \S+ ms", capsys.readouterr().out.splitlines()[-1])


def test_all_numbers_of_passes_that_the_game_begins_with_are_made_ready(world, tmp_path: Path) -> None:
    play("--headless", "--steps", "3", "--target-ms", "20", "--log", "a.json")
    assert [plan.passes for plan in world.warmed_up] == [4, 1]
    world.warmed_up.clear()
    log = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").write_text(json.dumps(log | {"passes": [2, 4, 3]}))
    play("--headless", "--actions", "a.json")
    assert [plan.passes for plan in world.warmed_up] == [4, 3, 2]
    world.warmed_up.clear()
    play("--headless", "--actions", "a.json", "--passes", "1")
    assert [plan.passes for plan in world.warmed_up] == [1]


def test_flags_reach_the_world(world, session) -> None:
    play(
        "my-bundle", "--headless", "--steps", "3", "--seed", "9", "--passes", "2", "--temperature", "0.5",
        "--backend", "reference", "--dtype", "float64", "--rebuild", "--prompt", "2",
    )  # fmt: skip
    assert (world.source, world.seed) == ("my-bundle", 9)
    assert world.options == {
        "backend": "reference", "dtype": "float64", "device": None, "rebuild": True
    }  # fmt: skip
    assert (session.plan.passes, session.plan.temperature) == (2, 0.5)
    assert len(session.steps) == 3


def test_clip_and_log_are_written_and_replayed(session, tmp_path: Path, capsys) -> None:
    play(
        "--headless", "--actions", "right*3 jump", "--seed", "5", "--prompt", "1", "--passes", "7",
        "--out", "new/a.gif", "--log", "new/a.json", "--scale", "2",
    )  # fmt: skip
    first = capsys.readouterr().out
    assert "wrote new/a.gif: 5 frames" in first and "wrote new/a.json" in first
    log = json.loads((tmp_path / "new" / "a.json").read_text())
    assert log["actions"] == ["right", "right", "right", "jump"]
    assert (log["seed"], log["prompt"], log["plan"]["passes"]) == (5, "01.png", 7)
    assert (log["backend"], log["dtype"]) == ("openvino", "bfloat16")

    session.plan = session.plan.replace(passes=1)
    play("--headless", "--actions", "new/a.json", "--out", "b.gif", "--scale", "2", "--log", "b.json")
    assert "replay: all 5 frames match the log bit for bit" in capsys.readouterr().out
    assert (tmp_path / "b.gif").read_bytes() == (tmp_path / "new" / "a.gif").read_bytes()
    assert json.loads((tmp_path / "b.json").read_text()) == log


def test_replay_says_where_it_differs(world, tmp_path: Path, capsys) -> None:
    play("--headless", "--actions", "right*4", "--log", "a.json")
    log = json.loads(Path("a.json").read_text())
    log["frames_crc32"][3] ^= 1
    Path("a.json").write_text(json.dumps(log))
    capsys.readouterr()
    play("--headless", "--actions", "a.json")
    assert "differ from the log from step 3 on" in capsys.readouterr().out
    world.bundle.digest = "cd" * 32
    play("--headless", "--actions", "a.json")
    assert "another bundle" in capsys.readouterr().out
    play("--headless", "--actions", "a.json", "--passes", "9")  # asked for other frames
    assert "replay" not in capsys.readouterr().out


def written_log(**changes: object) -> None:
    """`a.json` of a game, with these fields changed; None takes one out."""
    play("--headless", "--actions", "right*2", "--log", "a.json", "--backend", "onnx", "--dtype", "float32")
    log = json.loads(Path("a.json").read_text()) | changes
    Path("a.json").write_text(json.dumps({key: value for key, value in log.items() if value is not None}))


def computed_with(world) -> tuple[str, str]:
    return world.options["backend"], world.options["dtype"]


def test_replay_takes_the_back_end_of_the_log_unless_one_is_named(world) -> None:
    written_log()
    for flags, expected in (
        ((), ("onnx", "float32")),
        (("--backend", "reference"), ("reference", "auto")),
        (("--dtype", "float64"), ("auto", "float64")),
        (("--backend", "auto"), ("auto", "auto")),
    ):
        play("--headless", "--actions", "a.json", *flags)
        assert computed_with(world) == expected
    written_log(backend=None, dtype=None)  # as they were written once
    play("--headless", "--actions", "a.json")
    assert computed_with(world) == ("auto", "auto")


@pytest.mark.parametrize(("backend", "dtype"), [("cuda", "fp8"), ("onnx", "int8")])
def test_replay_says_what_it_takes_where_the_back_end_of_the_log_cannot_be_had(
    world, capsys, backend: str, dtype: str
) -> None:
    written_log(backend=backend, dtype=dtype)
    capsys.readouterr()
    play("--headless", "--actions", "a.json")
    assert computed_with(world) == ("auto", "auto")
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith(f"the log was played with {backend} {dtype}, which is not available (no such")
    assert first.endswith("using openvino bfloat16")


@pytest.mark.parametrize("known", [True, False])
def test_frames_that_differ_name_both_back_ends(capsys, known: bool) -> None:
    written_log(frames_crc32=[1, 2, 3], **({} if known else {"backend": None, "dtype": None}))
    play("--headless", "--actions", "a.json", "--backend", "reference", "--dtype", "float64")
    was = "onnx float32" if known else "an unknown back end"
    assert (
        f"step 0 on; the log was played with {was}, this with reference float64;" in capsys.readouterr().out
    )


def test_a_log_of_any_name_is_replayed(capsys) -> None:
    play("--headless", "--actions", "right*3", "--log", "z.txt")
    for name in ("z.txt", "@z.txt"):
        play("--headless", "--actions", name)
        assert "all 4 frames match the log bit for bit" in capsys.readouterr().out


def test_a_game_with_a_target_says_how_many_passes_its_frames_took(session, monkeypatch, capsys) -> None:
    def step(action, once=session.step):
        session.plan = session.plan.replace(passes=max(1, session.plan.passes - 1))
        return once(action)

    def make_session(*, target_ms=None, seed, plan):
        session.plan = Plan(passes=5)
        return session

    monkeypatch.setattr(session, "step", step)
    monkeypatch.setattr(genie_rt.World.load("demo", backend="auto", dtype="auto"), "session", make_session)
    play("--headless", "--actions", "right*6", "--target-ms", "20")
    assert "passes per frame within 20 ms: 1 min, 1 median, 4 max" in capsys.readouterr().out
    play("--headless", "--actions", "right*6")
    assert "passes per frame" not in capsys.readouterr().out


def test_replay_can_be_cut_but_not_made_longer(session) -> None:
    play("--headless", "--actions", "right*4", "--log", "a.json")
    session.steps.clear()
    play("--headless", "--actions", "a.json", "--steps", "2")
    assert session.steps == [1, 1]
    with pytest.raises(InputError, match="--steps: expected 1 to the log's 4"):
        play("--headless", "--actions", "a.json", "--steps", "5")


def test_replay_refuses_another_picture(world, prompts) -> None:
    play("--headless", "--actions", "right", "--log", "a.json")
    Image.fromarray(255 - prompts[0].image).save(world.prompts[0])
    with pytest.raises(InputError, match=r"prompt '00\.png': expected the picture"):
        play("--headless", "--actions", "a.json")


def test_any_picture_can_be_the_prompt(session, tmp_path: Path) -> None:
    Image.fromarray(np.full((100, 300, 3), 77, np.uint8)).save(tmp_path / "mine.png")
    play("--headless", "--steps", "1", "--prompt", "mine.png", "--log", "a.json")
    assert (session.frame[-1] == 77).all()
    play("--headless", "--actions", "a.json")


@pytest.mark.parametrize("beside", ["log", "player"])
def test_a_log_s_picture_lies_beside_the_log_or_here(
    session, tmp_path: Path, capsys, monkeypatch, beside: str
) -> None:
    picture = Image.fromarray(np.full((100, 300, 3), 77, np.uint8))
    (tmp_path / "logs").mkdir()
    place = tmp_path / "logs" / "mine.png"
    picture.save("mine.png")
    play("--headless", "--steps", "1", "--prompt", "mine.png", "--log", "logs/a.json")
    if beside == "log":
        Path("mine.png").rename(place)
        Image.fromarray(np.zeros((100, 300, 3), np.uint8)).save("mine.png")  # another one, which is not taken
    capsys.readouterr()
    play("--headless", "--actions", "logs/a.json")
    taken = place if beside == "log" else tmp_path / "mine.png"
    assert f"the log begins with the picture mine.png, taken from {taken}\n" in capsys.readouterr().out
    assert (session.frame[-1] == 77).all()


@pytest.mark.parametrize("name", ["gone.png", "a" * 300, "nul\0"])
def test_a_log_whose_picture_is_gone_says_where_it_was_looked_for(tmp_path: Path, name: str) -> None:
    Image.fromarray(np.full((100, 300, 3), 77, np.uint8)).save("mine.png")
    play("--headless", "--steps", "1", "--prompt", "mine.png", "--log", "a.json")
    log = json.loads(Path("a.json").read_text())
    Path("a.json").write_text(json.dumps(log | {"prompt": name}))
    with pytest.raises(InputError, match=f"expected it in the log's folder {tmp_path}.*--prompt FILE"):
        play("--headless", "--actions", "a.json")


def test_actions_from_a_file(session, tmp_path: Path) -> None:
    (tmp_path / "moves.txt").write_text("right*2\njump # up\n")
    play("--headless", "--actions", "@moves.txt")
    assert session.steps == [1, 1, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--actions", "rihgt"], "did you mean 'right'"),
        (["--prompt", "3"], "prompt: expected a whole number from 0 to 2"),
        (["--prompt", "none.png"], "none.png"),
        (["--out", "a.webm"], r"\.gif"),
        (["--fps", "0"], "--fps"),
        (["--scale", "0"], "--scale"),
        (["--steps", "0"], "steps"),
        (["--threads", "0"], "--threads"),
        (["--actions", "none.json"], "none.json"),
    ],
)
def test_wrong_flags_are_refused_before_anything_is_played(session, words, message) -> None:
    with pytest.raises(InputError, match=message):
        play("--headless", *words)
    assert session.steps == []


def test_window_plays_records_and_logs(session, monkeypatch, capsys, tmp_path: Path) -> None:
    from genie_rt.runtime.play import window

    def run_window(player, **options):
        assert options == {"title": "genie-rt: demo", "fps": 20.0, "scale": None}
        player.press("left")
        for _ in range(4):
            player.tick()
        player.stop_recording()
        player.recorder.join()

    monkeypatch.setattr(window, "run_window", run_window)
    play("--fps", "20", "--actions", "right*2", "--out", "a.gif", "--log", "b.json")
    assert session.steps == [1, 1, 0, 0]
    out = capsys.readouterr().out
    assert "\ndemo: openvino bfloat16 on " in out
    assert "saved a.gif" in out and "wrote b.json" in out
    for name in ("a.json", "b.json"):  # beside the clip, and where asked
        assert json.loads(Path(name).read_text())["actions"] == ["right", "right", "left", "left"]


def test_window_without_a_screen_points_to_headless(monkeypatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.raises(UnsupportedError, match="--headless"):
        play()

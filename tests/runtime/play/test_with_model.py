"""Playing with a real session: undo, replay and the idle commit change no bit of the frames."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genie_rt import World
from genie_rt.errors import InputError
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.config import DynamicsConfig, ModelConfig, TokenizerConfig, TransformerConfig
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.play.action_log import read_log
from genie_rt.runtime.play.commands import PlayCommand
from genie_rt.runtime.play.game import undo_steps
from genie_rt.runtime.play.headless import play_headless
from genie_rt.runtime.play.loop import PlayLoop
from genie_rt.runtime.play.prompt import load_prompts
from genie_rt.runtime.session import Session

SIDE = TransformerConfig(num_layers=1, width=16, num_heads=2, head_width=8, mlp_width=16, window=2)
CONFIG = ModelConfig(
    tokenizer=TokenizerConfig(
        height=8, width=12, patch=4, decoder_patch=4, codebook_size=16, codebook_dim=4,
        encoder=SIDE, decoder=SIDE,
    ),
    dynamics=DynamicsConfig(transformer=SIDE, num_actions=3, embedding_dim=4),
)  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(shape, generator=generator) for name, shape in parameter_shapes(CONFIG).items()
    }
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    write_bundle(
        out,
        name="tiny",
        config=CONFIG,
        weights=weights,
        action_names=("left", "stay", "right"),
        default_action="stay",
        plans={"default": Plan(passes=2)},
        prompts=list(np.random.default_rng(0).integers(0, 256, (2, 8, 12, 3), dtype=np.uint8)),
        provenance={},
        model_card="# tiny\n",
    )
    return out


@pytest.fixture
def make_loop(bundle: Path) -> Callable[[], PlayLoop]:
    world = World.load(bundle)
    return lambda: PlayLoop(world.session(seed=3), load_prompts(world.prompts))


def test_undo_and_idle_commits_change_no_frame(make_loop: Callable[[], PlayLoop]) -> None:
    straight, winding = make_loop(), make_loop()
    for action in (0, 2, 2, 1, 0):
        straight.tick(action)
        for wrong in (1, 2):
            winding.idle()
            winding.tick(wrong)
        winding.undo()
        winding.undo()
        winding.tick(action)
        winding.idle()
    assert straight.trail.frames_crc32 == winding.trail.frames_crc32
    assert len(set(straight.trail.frames_crc32)) > 1  # else the test sees nothing


def test_headless_log_replays_bit_for_bit(bundle: Path, tmp_path: Path, capsys) -> None:
    log = tmp_path / "log.json"
    script = "left*3 right ..."
    PlayCommand(bundle=str(bundle), headless=True, actions=script, steps=9, seed=4, log=log).run()
    PlayCommand(bundle=str(bundle), headless=True, actions=str(log), out=tmp_path / "clip.gif").run()
    assert "all 10 frames match the log bit for bit" in capsys.readouterr().out
    assert (tmp_path / "clip.gif").exists()


def test_more_passes_stop_at_what_the_model_can_take(make_loop: Callable[[], PlayLoop]) -> None:
    loop = make_loop()
    assert [loop.change_passes(+3), loop.change_passes(+3)] == [5, 6]  # the tokens of a frame
    loop.tick(0)
    assert loop.change_passes(-10) == 1
    loop.session.plan = Plan(passes=3, reuse="frames")
    assert loop.change_passes(-10) == 2


def test_a_game_with_a_deadline_replays_bit_for_bit_with_the_passes_that_it_took(bundle: Path) -> None:
    world, ticks = World.load(bundle), itertools.count(step=10_000_000)  # two looks at the clock: 10 ms
    session = Session(world, seed=3, plan=Plan(passes=6), target_ms=5.0, clock_ns=lambda: next(ticks))
    actions = [0, 2, 2, 1, 0, 1, 1, 2]
    game = play_headless(session, world.prompt(0), actions)
    log = game.trail.log(
        world.action_names,
        bundle="b", bundle_sha256=None, seed=3, plan=session.plan, prompt="p", prompt_crc32=0,
    )  # fmt: skip
    assert log.passes == (6, 6, 3, 3, 1, 1, 1, 1) and log.plan.passes == 6
    replay = play_headless(world.session(seed=3, plan=log.plan), world.prompt(0), actions, passes=log.passes)
    assert replay.trail.frames_crc32 == game.trail.frames_crc32
    other = play_headless(world.session(seed=3, plan=log.plan), world.prompt(0), actions)
    assert other.trail.frames_crc32 != game.trail.frames_crc32


def test_undo_is_deep_for_small_models_and_bounded_for_large_ones() -> None:
    assert undo_steps(CONFIG) == 256
    large = TransformerConfig(
        num_layers=48, width=5120, num_heads=36, head_width=128, mlp_width=2048, window=16
    )
    dynamics = DynamicsConfig(transformer=large, num_actions=8, embedding_dim=4)
    # a page of 48 layers x keys and values x 6 positions x 4608 x 4 bytes is 10.6 MB
    assert undo_steps(ModelConfig(tokenizer=CONFIG.tokenizer, dynamics=dynamics)) == 50


def test_a_game_with_a_deadline_replays_from_its_log(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The passes follow the clock, and the log says how many each step took."""
    game = PlayCommand(
        bundle=str(bundle), headless=True, actions="left*6 right*6", target_ms=1e-3,
        out=tmp_path / "a.png", log=tmp_path / "a.json",
    )  # fmt: skip
    game.run()
    log = read_log(tmp_path / "a.json")
    assert log.passes[0] == 2 and log.passes[-1] == 1  # no deadline of a microsecond is met
    again = PlayCommand(
        bundle=str(bundle), headless=True, actions=str(tmp_path / "a.json"), out=tmp_path / "b.png"
    )
    again.run()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with pytest.raises(InputError, match="--target-ms or an action log"):
        replace(again, target_ms=50.0).run()

"""Figures of a latent action model with known answers, and what a run does with them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from makers import make_config
from tiny_runs import tiny_loop
from torch import Tensor

from genie_rt.errors import StateError
from genie_rt.runtime.action_health import ActionHealth
from genie_rt.runtime.config import ConvLamConfig, ModelConfig
from genie_rt.training.commands import DynamicsCommand, LamCommand, TokenizerCommand, lam_loop
from genie_rt.training.data.writer import ClipStoreWriter
from genie_rt.training.frozen import run_state
from genie_rt.training.lam import LamObjective
from genie_rt.training.lam_health import action_health
from genie_rt.training.quantiser import CosineQuantiser, SignQuantiser, build_quantiser
from genie_rt.training.watch import LamWatch

SIDE = 8


def make_objective(**changes: object) -> LamObjective:
    base = make_config(grid=(SIDE // 2, SIDE // 2))
    sizes: dict[str, object] = {"num_actions": 4, "width": 8, "past_frames": 1}
    lam = ConvLamConfig(**(sizes | changes))  # type: ignore[arg-type]
    torch.manual_seed(0)
    dynamics = replace(base.dynamics, num_actions=4)
    return LamObjective(ModelConfig(tokenizer=base.tokenizer, dynamics=dynamics, lam=lam), None)


def steps(count: int) -> tuple[Tensor, Tensor]:
    """Clips of two frames `[B, 2, 8, 8, 3]`, and the grey level (0 ... 3) that each turns to."""
    levels = torch.arange(count) % 4
    before = torch.full((count, SIDE, SIDE, 3), 128)
    after = (levels * 60 + 20)[:, None, None, None].expand_as(before)
    return torch.stack([before, after], 1).to(torch.uint8), levels


def paint(objective: LamObjective, *, heed: bool) -> None:
    """Puts an encoder and a decoder with known answers in the place of the learned ones."""
    codebook = objective.quantiser.codebook()
    targets = torch.tensor([20.0, 80.0, 140.0, 200.0]) / 127.5 - 1

    def action_vectors(inputs: Tensor) -> Tensor:
        level = ((inputs[:, 1:, 0, 0, 0] + 1) * 127.5 - 20) / 60
        return codebook[level.round().long()]

    def predict(inputs: Tensor, vectors: Tensor) -> Tensor:
        scores = vectors.float() @ codebook.T
        value = targets[scores.argmax(-1)] if heed else torch.zeros(vectors.shape[:2])
        return value[..., None, None, None].expand(*vectors.shape[:2], SIDE, SIDE, 3)

    objective.model.action_vectors = action_vectors  # type: ignore[method-assign, assignment]
    objective.model.predict = predict  # type: ignore[method-assign, assignment]


def test_a_perfect_model_has_perfect_figures() -> None:
    objective = make_objective()
    paint(objective, heed=True)
    frames, _ = steps(40)
    health = action_health(objective.eval(), frames, batch=7)
    assert health.true_db > 90
    # the next code is one level further, three levels for the last: mean of 60, 60, 60 and 180 squared
    wrong = (3 * 60**2 + 180**2) / 4
    assert health.shuffled_db == pytest.approx(10 * np.log10(255**2 / wrong), abs=0.01)
    copied = np.mean([(128 - level) ** 2 for level in (20, 80, 140, 200)])
    assert health.copy_db == pytest.approx(10 * np.log10(255**2 / copied), abs=0.01)
    assert health.shares == pytest.approx((0.25,) * 4)
    assert health.code_cosine == pytest.approx(0.0, abs=1e-6)  # signs of two dimensions
    assert health.problem() is None


def test_a_decoder_that_ignores_the_code_is_found() -> None:
    objective = make_objective()
    paint(objective, heed=False)
    health = action_health(objective.eval(), steps(40)[0])
    assert health.delta_db == pytest.approx(0.0, abs=1e-4)
    assert health.effect_likeness == 1.0
    assert "ignores the codes" in str(health.problem())


def test_the_batch_changes_nothing() -> None:
    objective = make_objective()
    frames, _ = steps(20)
    whole, parts = (action_health(objective.eval(), frames, batch=batch).as_figures() for batch in (64, 3))
    assert whole == pytest.approx(parts, abs=1e-3)


@pytest.mark.parametrize("bottleneck", ["fsq", "lfq", "vq"])
def test_every_bottleneck_gives_unit_codes_that_the_model_looks_up(bottleneck: str) -> None:
    objective = make_objective(bottleneck=bottleneck)
    quantiser = build_quantiser(objective.model.codebook, bottleneck)
    assert isinstance(quantiser, CosineQuantiser if bottleneck == "vq" else SignQuantiser)
    vectors = torch.randn(5, 3, objective.model.codebook.shape[1], requires_grad=True)
    codes, indices, loss = quantiser(vectors)
    assert torch.allclose(codes.norm(dim=-1), torch.ones(5, 3), atol=1e-5)
    if bottleneck != "vq":  # whose codebook moves in the call
        assert torch.allclose(codes, quantiser.codebook()[indices], atol=1e-6)
    (codes.sum() + loss).backward()
    assert vectors.grad is not None and vectors.grad.abs().sum() > 0


def test_the_watch_warns_and_then_stops() -> None:
    watch = LamWatch(make_objective(), steps(4)[0], min_delta_db=0.5)
    dead = ActionHealth(
        true_db=20.0, shuffled_db=19.9, none_db=19.0, copy_db=18.0, shares=(0.5, 0.5), code_cosine=0.0,
        effect_likeness=0.0,
    ).as_figures()  # fmt: skip
    assert watch.check(dead, 0.05) is None
    assert "ignores the codes" in str(watch.check(dead, 0.3))
    with pytest.raises(StateError, match=r"shuffled codes cost 0\.10 dB, expected at least --min-delta 0\.5"):
        watch.check(dead, 0.5)
    assert "Δ 0.10" in watch.line(dead)


def write_moves(path: Path, *, moving: bool = True) -> Path:
    """A white square on black that goes left, right, up or down at random, or hides its moves in noise."""
    random = np.random.default_rng(0)
    with ClipStoreWriter(path, source="square", height=16, width=16) as writer:
        for episode in range(12):
            frames = np.zeros((64, 16, 16, 3), np.uint8)
            x, y = 6, 6
            for t in range(64):
                if moving:
                    dx, dy = ((-2, 0), (2, 0), (0, -2), (0, 2))[random.integers(4)]
                    x, y = (x + dx) % 14, (y + dy) % 14
                    frames[t, y : y + 3, x : x + 3] = 255
                else:
                    frames[t] = 100
            writer.append(frames, split="heldout" if episode == 0 else "train")
    return path


def test_moves_are_learned_from_pictures_alone(
    tmp_path: Path, tiny_preset: None, capfd: pytest.CaptureFixture[str]
) -> None:
    store = write_moves(tmp_path / "store")
    loop = lam_loop(steps=300, batch=32, log_every=100, learning_rate=5e-3, checkpoint_every=300)
    command = LamCommand(
        data=store, out=tmp_path / "lam", preset="tiny", past_frames=1, min_delta=0.0, loop=loop
    )
    assert command.run() == 0
    health = ActionHealth.from_figures(run_state(tmp_path / "lam")["figures"])
    assert health is not None and health.problem() is None
    assert health.delta_db > 1 and health.num_used == 4
    printed = capfd.readouterr().out
    assert "held out: next frame" in printed and "codes used" in printed
    assert "next: genie-rt train dynamics --data" in printed


def test_a_dead_model_stops_and_is_told_downstream(
    tmp_path: Path, tiny_preset: None, capfd: pytest.CaptureFixture[str]
) -> None:
    store = write_moves(tmp_path / "store", moving=False)
    command = LamCommand(data=store, out=tmp_path / "lam", preset="tiny", loop=tiny_loop(steps=4))
    with pytest.raises(StateError, match=r"saved .*checkpoint-"):
        command.run()
    LamCommand(data=store, out=tmp_path / "all", preset="tiny", min_delta=0.0, loop=tiny_loop(steps=4)).run()
    TokenizerCommand(data=store, out=tmp_path / "tok", preset="tiny", loop=tiny_loop()).run()
    capfd.readouterr()
    dynamics = DynamicsCommand(
        data=store, out=tmp_path / "dyn", tokenizer=tmp_path / "tok", lam=tmp_path / "all", preset="tiny",
        loop=tiny_loop(),
    )  # fmt: skip
    assert dynamics.run() == 0
    assert "warning: the decoder ignores the codes" in capfd.readouterr().out

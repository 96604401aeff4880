"""Sets of rollouts: the real ones are the floor, blurred, frozen and other ones are farther."""

from pathlib import Path

import numpy as np
import pytest
from fake_i3d import StandIn, saved
from rich.console import Console

from genie_rt.training.evaluation.fvd import I3d
from genie_rt.training.evaluation.realism import Realism, measure_realism, realism_table

WINDOW = 4


def scenes(count: int, *, frames: int = 12, seed: int = 0) -> np.ndarray:
    """Scrolling blocks of colour, `[M, T, 32, 32, 3]`."""
    random = np.random.default_rng(seed)
    ground = random.integers(0, 256, (count, 8, 24, 3), dtype=np.uint8).repeat(4, 1).repeat(4, 2)
    speeds = random.integers(1, 4, count)
    return np.stack(
        [[g[:, v * t : v * t + 32] for t in range(frames)] for g, v in zip(ground, speeds, strict=True)]
    )


def measure(generated: np.ndarray, real: np.ndarray, **more: object) -> Realism:
    return measure_realism(generated, real, real[:, 0], window=WINDOW, **more)


def test_the_truth_is_its_own_floor_and_blur_is_farther() -> None:
    real = scenes(40)
    truth = measure(real, real).clip_distance
    assert truth.rollouts == truth.floor > 0 and truth.rollouts_noise == truth.floor_noise > 0
    assert (truth.num_clips, truth.num_reference_clips, truth.num_frames) == (20, 20, WINDOW)
    blurred = ((real.astype(int) + np.roll(real, 3, 3) + np.roll(real, 3, 2)) // 3).astype(np.uint8)
    grey = np.full_like(real, 128)
    shuffled = np.random.default_rng(1).permuted(real, axis=3)
    far = [measure(each, real).clip_distance for each in (blurred, grey, shuffled)]
    for each in far:
        assert each.floor == truth.floor and each.rollouts > 1.5 * truth.floor
    assert truth.frozen > truth.floor  # nothing moves


def test_clips_that_were_the_reference_are_not_measured() -> None:
    real = scenes(40)
    generated = real.copy()
    generated[::2] = 0
    assert measure(generated, real).clip_distance == measure(real, real).clip_distance


def test_too_few_clips_or_equal_ones_have_no_clip_distance() -> None:
    assert measure(scenes(9), scenes(9)).clip_distance is None
    alike = np.repeat(scenes(1), 40, axis=0)
    assert measure(alike, alike).clip_distance is None
    assert measure(scenes(1), scenes(1)) == Realism(clip_distance=None, fvd=None)


def test_fvd_is_there_only_with_an_i3d(tmp_path: Path) -> None:
    real = scenes(30)
    assert measure(real, real).fvd is None
    net = I3d(saved(StandIn(), tmp_path))
    truth = measure(real, real, i3d=net).fvd
    assert truth.rollouts == truth.floor > 0 and truth.num_frames == 12
    grey = measure(np.full_like(real, 128), real, i3d=net).fvd
    assert grey.rollouts > 2 * grey.floor and grey.floor == truth.floor
    long = scenes(30, frames=16)
    padded = np.concatenate([long, np.zeros_like(long)], axis=1)
    first = measure_realism(padded, padded, padded[:, 0], window=WINDOW, i3d=net).fvd
    assert first.num_frames == 16  # what follows does not count
    assert first.rollouts == measure(long, long, i3d=net).fvd.rollouts


@pytest.mark.parametrize("with_i3d", [False, True])
def test_the_table_calls_nothing_fvd_that_is_none(with_i3d: bool, tmp_path: Path) -> None:
    real = scenes(40)
    figures = measure(real, real, i3d=I3d(saved(StandIn(), tmp_path)) if with_i3d else None)
    console = Console(width=100)
    with console.capture() as capture:
        console.print(realism_table(figures))
    lines = capture.get().splitlines()
    assert any(line.startswith("│ clip distance") for line in lines)
    assert any(line.startswith("│ FVD") for line in lines) == with_i3d
    assert "20 against 20" in capture.get()
    assert ("fewer than 2,048 clips" in " ".join(capture.get().split())) == with_i3d

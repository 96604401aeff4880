"""The formulas against values worked out by hand, and against torchmetrics."""

import math

import numpy as np
import pytest
import torch
from torchmetrics.functional.image import peak_signal_noise_ratio

from genie_rt.training.evaluation.metrics import (
    MAX_DB,
    changed_pixels,
    decibels,
    mean_change,
    mean_gradient,
    psnr,
    ratio,
    squared_errors,
    ssim,
)


def grey(*levels: int, side: int = 16) -> np.ndarray:
    """One uniform frame per level."""
    return np.stack([np.full((side, side, 3), level, np.uint8) for level in levels])


def noise(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def test_both_averages_by_hand() -> None:
    # errors 1 and 100: the pooled figure follows their mean, the other the mean of 48.13 and 28.13 dB
    figures = psnr(squared_errors(grey(11, 30), grey(10, 20)))
    assert figures.pooled_db == pytest.approx(10 * math.log10(255**2 / 50.5))
    assert figures.mean_db == pytest.approx(10 * math.log10(255**2) - 10)
    assert figures.num_frames == 2
    assert figures.mean_db - figures.pooled_db == pytest.approx(10 * math.log10(50.5) - 10)


def test_errors_do_not_wrap_around_in_uint8() -> None:
    assert squared_errors(grey(0), grey(255)).mean[0] == 255**2
    assert mean_change(grey(0), grey(255))[0] == 255
    black_and_white = np.zeros((1, 4, 4, 3), np.uint8)
    black_and_white[:, :, ::2] = 255
    assert mean_gradient(black_and_white)[0] == 255 / 2  # all columns differ, no rows do


def test_a_perfect_frame_counts_as_the_cap_in_both_averages() -> None:
    frames = noise(3)
    figures = psnr(squared_errors(frames, frames))
    assert figures.pooled_db == figures.mean_db == MAX_DB == 60.0
    assert decibels(255.0**2 * 1e-6) == pytest.approx(60.0)
    assert decibels(255.0**2 * 1e-7) == pytest.approx(60.0)


def test_psnr_is_that_of_torchmetrics() -> None:
    frames, truth = noise(4, 1), noise(4, 2)
    pair = torch.from_numpy(frames).float(), torch.from_numpy(truth).float()
    figures = psnr(squared_errors(frames, truth))
    pooled = peak_signal_noise_ratio(*pair, data_range=255.0)
    mean = peak_signal_noise_ratio(*pair, data_range=255.0, dim=(1, 2, 3))
    assert figures.pooled_db == pytest.approx(float(pooled), abs=1e-4)
    assert figures.mean_db == pytest.approx(float(mean), abs=1e-4)


def test_masked_errors_count_pixels_in_the_pool_and_frames_in_the_mean() -> None:
    truth = grey(0, 0, 0)
    frames = grey(10, 100, 200)
    mask = np.zeros((3, 16, 16), bool)
    mask[0, :3, 0] = True  # 3 pixels of error 100
    mask[1, 0, 0] = True  # 1 pixel of error 10,000; none of frame 2
    figures = psnr(squared_errors(frames, truth, mask))
    assert figures.num_frames == 2
    assert figures.pooled_db == pytest.approx(10 * math.log10(255**2 / ((3 * 100 + 10_000) / 4)))
    assert figures.mean_db == pytest.approx(10 * math.log10(255**2) - (20 + 40) / 2)


def test_frames_of_one_clip_are_resampled_together() -> None:
    # two clips, all frames of one alike: resamples of clips give one figure, the other, or their mean
    truth = grey(*[0] * 20)
    errors = squared_errors(grey(*[10] * 10, *[100] * 10), truth, clip=np.repeat([7, 3], 10))
    figures = psnr(errors)
    assert figures.mean_db_interval == pytest.approx(
        (10 * math.log10(255**2) - 40, 10 * math.log10(255**2) - 20)
    )
    apart = psnr(squared_errors(grey(*[10] * 10, *[100] * 10), truth))
    assert apart.mean_db == figures.mean_db and apart.num_frames == figures.num_frames == 20
    low, high = apart.mean_db_interval
    assert high - low < 10  # 20 clips know more than 2
    assert psnr(errors.of(errors.clip == 7)).pooled_db_interval is None


def test_the_pooled_interval_is_that_of_a_bootstrap_written_out() -> None:
    levels = np.random.default_rng(3).integers(20, 120, 30)
    errors = squared_errors(grey(*levels), grey(*[0] * 30), clip=np.arange(30) // 3)
    random = np.random.default_rng(5)
    figures = []
    for _ in range(4000):
        drawn = random.integers(0, 10, 10)
        figures.append(decibels(np.mean([errors.mean[3 * clip : 3 * clip + 3] for clip in drawn])))
    expected = tuple(np.quantile(figures, [0.025, 0.975]))
    assert psnr(errors).pooled_db_interval == pytest.approx(expected, abs=0.1)


def test_no_frame_gives_no_figure() -> None:
    figures = psnr(squared_errors(noise(2), noise(2, 1), np.zeros((2, 16, 16), bool)))
    assert (figures.pooled_db, figures.mean_db, figures.num_frames) == (None, None, 0)
    assert ratio(np.ones(2), np.zeros(2)) is None


def test_a_pixel_has_changed_if_one_channel_has() -> None:
    frame = grey(7)
    other = frame.copy()
    other[0, 2, 3, 1] += 1
    assert np.argwhere(changed_pixels(other, frame)).tolist() == [[0, 2, 3]]


def test_blur_lowers_the_gradient_and_ssim() -> None:
    frames = noise(70)  # more than one batch of the similarity
    blurred = ((frames.astype(int) + np.roll(frames, 1, axis=2)) // 2).astype(np.uint8)
    assert ratio(mean_gradient(blurred), mean_gradient(frames)) < 0.9
    assert ssim(frames, frames) == pytest.approx(np.ones(70))
    assert (ssim(blurred, frames) < 0.9).all() and ssim(frames[:1], frames[:1]).shape == (1,)

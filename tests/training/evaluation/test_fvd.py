"""FVD with a small stand-in for I3D, and its formula on Gaussians whose distance is known."""

from pathlib import Path

import numpy as np
import pytest
import torch
from fake_i3d import StandIn, saved
from torch import Tensor, nn

from genie_rt.errors import DeviceError, InputError
from genie_rt.training.evaluation.fvd import NUM_FEATURES, SIDE, I3d, fvd, prepared


class TooFew(nn.Module):
    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        return x.flatten(1)[:, :7]


class NotANumber(nn.Module):
    def forward(self, x: Tensor, rescale: bool, resize: bool, return_features: bool) -> Tensor:
        return x.new_full((x.shape[0], 400), float("nan"))


class OtherCall(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def clips(count: int, seed: int = 0, frames: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, frames, 16, 20, 3), dtype=np.uint8)


def test_a_file_s_network_is_asked_as_fvd_asks_i3d(tmp_path: Path) -> None:
    net = I3d(saved(StandIn(), tmp_path))
    found = net(clips(11))  # more than one batch
    assert found.shape == (11, NUM_FEATURES) and found.dtype == np.float32
    np.testing.assert_allclose(net(clips(11)[8:9]), found[8:9], atol=1e-6)
    white = net(np.full((1, 10, 64, 64, 3), 255, np.uint8))
    np.testing.assert_allclose(white[0, :6], 1.0, atol=1e-6)


def test_videos_are_bilinear_from_minus_one_to_one() -> None:
    frames = clips(2, frames=10)
    videos = prepared(frames)
    assert videos.shape == (2, 3, 10, SIDE, SIDE) and videos.dtype == torch.float32
    for level, value in ((0, -1), (255, 1)):
        torch.testing.assert_close(
            prepared(np.full((1, 10, 8, 8, 3), level, np.uint8)),
            torch.full((1, 3, 10, SIDE, SIDE), value * 1.0),
        )
    assert videos.min() >= -1 and videos.max() <= 1
    flat = np.zeros((1, 10, 8, 8, 3), np.uint8)
    flat[:, 3, :, :, 2] = 255  # frame 3 is blue
    colour = prepared(flat)[0].mean((2, 3))
    expected = torch.full((3, 10), -1.0)
    expected[2, 3] = 1.0
    torch.testing.assert_close(colour, expected)


def test_the_distance_of_known_gaussians() -> None:
    """|m1 - m2|^2 + sum (s1 - s2)^2 for Gaussians with independent features."""
    random = np.random.default_rng(0)
    one = random.normal(0, 1, (20_000, 3))
    other = random.normal([2, 0, -1], [3, 1, 0.5], (20_000, 3))
    assert fvd(one, other) == pytest.approx(5 + 4 + 0 + 0.25, rel=0.03)
    assert fvd(one, one) == pytest.approx(0, abs=1e-9)
    assert fvd(one, one + np.array([3, 0, 4])) == pytest.approx(25)
    assert fvd(one, other) == pytest.approx(fvd(other, one))


def test_correlated_features_are_told_from_independent_ones() -> None:
    """Equal means and variances: d = tr(I + C - 2 C^(1/2)) with eigenvalues 1.6 and 0.4 of C."""
    random = np.random.default_rng(1)
    mixed = random.normal(size=(50_000, 2)) @ np.linalg.cholesky([[1, 0.6], [0.6, 1]]).T
    expected = 4 - 2 * (1.6**0.5 + 0.4**0.5)
    assert fvd(random.normal(size=(50_000, 2)), mixed) == pytest.approx(expected, abs=0.02)


def test_what_is_no_i3d_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found none at"):
        I3d(tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("weights")
    with pytest.raises(InputError, match=r"expected a TorchScript I3D .* does not load"):
        I3d(tmp_path / "text.pt")
    with pytest.raises(InputError, match=r"expected features \[2, 400\], found \[2, 7\]"):
        I3d(saved(TooFew(), tmp_path))(clips(2))
    with pytest.raises(InputError, match="expected a network that takes"):
        I3d(saved(OtherCall(), tmp_path))(clips(2))
    with pytest.raises(DeviceError, match="NaN"):
        I3d(saved(NotANumber(), tmp_path))(clips(2))


def test_short_clips_and_single_ones_are_refused(tmp_path: Path) -> None:
    net = I3d(saved(StandIn(), tmp_path))
    with pytest.raises(InputError, match="2 clips or more of 10 frames or more in each set, found 2 of 9"):
        net(clips(2, frames=9))
    with pytest.raises(InputError, match="found 1 of 10"):
        fvd(net(clips(1)), net(clips(2)))

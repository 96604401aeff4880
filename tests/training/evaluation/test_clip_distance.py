"""The clip distance tells real clips from everything that is wrong with generated ones."""

import numpy as np
import pytest
from numpy.typing import NDArray

from genie_rt.errors import InputError
from genie_rt.training.evaluation.clip_distance import (
    COMPONENTS,
    Descriptors,
    FrameFeatures,
    Reference,
    describe,
    frechet,
)

SIZE, WINDOW = 32, 8


def make_patterns(num: int, seed: int, length: int = 16) -> NDArray[np.uint8]:
    """Blocks that scroll a pixel a frame, to either side: `[num, length, 32, 32, 3]`."""
    random = np.random.default_rng(seed)
    clips = []
    for _ in range(num):
        blocks = random.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
        speed = int(random.choice([-1, 1]))
        clips.append([np.roll(blocks, step * speed, axis=1) for step in range(length)])
    return np.array(clips)


def blurred(clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    wide = clips.astype(np.int64)
    for axis in (2, 3):
        wide = (np.roll(wide, 1, axis) + 2 * wide + np.roll(wide, -1, axis)) // 4
    return wide.astype(np.uint8)


def noisy(clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    noise = np.random.default_rng(9).normal(0, 10, clips.shape)
    return (clips + noise).clip(0, 255).astype(np.uint8)


def shuffled(clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    windows = clips.reshape(len(clips), -1, WINDOW, *clips.shape[2:])
    return windows[:, :, [3, 6, 0, 5, 2, 7, 1, 4]].reshape(clips.shape)


def frozen(clips: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return clips[:, ::WINDOW].repeat(WINDOW, axis=1)


@pytest.fixture(scope="module")
def features() -> FrameFeatures:
    return FrameFeatures(SIZE, SIZE)


@pytest.fixture(scope="module")
def reference(features: FrameFeatures) -> Reference:
    return Reference.fit(describe(make_patterns(60, seed=1), features, WINDOW))


@pytest.fixture(scope="module")
def real(features: FrameFeatures) -> Descriptors:
    return describe(make_patterns(60, seed=2), features, WINDOW)


@pytest.mark.parametrize("spoil", [blurred, noisy, shuffled, frozen])
def test_spoiled_clips_are_further_away_than_real_ones(
    spoil, features: FrameFeatures, reference: Reference, real: Descriptors
) -> None:
    floor, noise = reference.distance(real), reference.noise(real, draws=20)
    assert (
        reference.distance(describe(spoil(make_patterns(60, seed=2)), features, WINDOW)) > floor + 3 * noise
    )


def test_the_reference_is_at_distance_zero_from_itself(features: FrameFeatures) -> None:
    descriptors = describe(make_patterns(20, seed=3), features, WINDOW)
    itself = Reference.fit(descriptors)
    assert itself.distance(descriptors) == pytest.approx(0, abs=1e-6)
    assert itself.num_windows == 40 and 0 < itself.explained <= 1


def test_components_have_variance_one_and_are_as_many_as_the_windows_support(reference: Reference) -> None:
    assert len(reference.mean) == 120 // 8 < COMPONENTS
    np.testing.assert_allclose(np.diag(reference.covariance), 1, rtol=0.02)  # n - 1 in place of n
    np.testing.assert_allclose(reference.mean, 0, atol=1e-6)


def test_the_noise_is_that_of_the_choice_of_clips(reference: Reference, real: Descriptors) -> None:
    noise = reference.noise(real, draws=50)
    assert noise == reference.noise(real, draws=50) != reference.noise(real, draws=50, seed=1)
    assert 0 < noise < reference.distance(real)
    assert reference.noise(real[:1].repeat(60, axis=0), draws=5) == pytest.approx(0, abs=1e-6)


def test_the_noise_of_a_difference_is_that_of_the_same_draws(reference: Reference, real: Descriptors) -> None:
    assert reference.noise_of_difference(real, real, draws=10) == 0
    near = real + np.float32(0.01)
    alone = reference.noise(near, draws=50), reference.noise(real, draws=50)
    paired = reference.noise_of_difference(near, real, draws=50)
    assert 0 < paired < min(alone)  # what is hard about a clip is so in both
    assert paired == reference.noise_of_difference(real, near, draws=50)


def test_descriptors_are_mean_spread_and_change_over_time(features: FrameFeatures) -> None:
    clips = make_patterns(2, seed=4, length=11)
    found = describe(clips, features, 5)
    series = features(clips[1, 5:10])
    expected = [series.mean(0), series.std(0), np.abs(np.diff(series, axis=0)).mean(0)]
    assert found.shape == (2, 2, 3 * series.shape[1]) and found.dtype == np.float32
    np.testing.assert_allclose(found[1, 1], np.concatenate(expected), rtol=1e-3, atol=1e-4)


def test_features_of_a_frame_do_not_depend_on_the_others(features: FrameFeatures) -> None:
    frames = make_patterns(10, seed=5, length=10).reshape(-1, SIZE, SIZE, 3)  # more than a batch
    assert np.isfinite(features(frames)).all()
    np.testing.assert_allclose(features(frames)[70], features(frames[70:71])[0], rtol=1e-3, atol=1e-4)


def test_the_frechet_distance_of_known_gaussians() -> None:
    zero, eye = np.zeros(2), np.eye(2)
    assert frechet(zero, eye, zero, eye) == pytest.approx(0, abs=1e-12)
    assert frechet(zero, eye, np.array([3.0, 4.0]), eye) == pytest.approx(25)
    # diagonal: the sum of squared differences of the standard deviations
    assert frechet(zero, np.diag([1.0, 4.0]), zero, np.diag([9.0, 16.0])) == pytest.approx(4 + 4)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])  # turning both changes nothing
    a, b = np.diag([1.0, 4.0]), np.diag([9.0, 16.0])
    assert frechet(zero, turn @ a @ turn.T, zero, turn @ b @ turn.T) == pytest.approx(8)
    # one turned: tr((A B)^(1/2)) from the eigenvalues of A B
    c = turn @ b @ turn.T
    shared = np.sqrt(np.linalg.eigvals(a @ c)).sum()
    assert frechet(zero, a, zero, c) == pytest.approx(5 + 25 - 2 * shared)


def test_what_cannot_be_compared_is_refused(features: FrameFeatures) -> None:
    clips = make_patterns(2, seed=6)
    for window in (1, 17):
        with pytest.raises(InputError, match=f"windows of {window}"):
            describe(clips, features, window)
    with pytest.raises(InputError, match=r"\[n, 32, 32, 3\] uint8, found \[2, 16, 32, 3\] uint8"):
        features(clips[0, :2, :16])
    with pytest.raises(InputError, match=r"at least 16 windows .* found 4"):
        Reference.fit(describe(clips, features, WINDOW))
    with pytest.raises(InputError, match="differ"):
        Reference.fit(describe(clips[:1].repeat(20, axis=0), features, WINDOW))

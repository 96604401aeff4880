"""A latent action knows the two pictures of its step and no later one; the decoder knows the past alone."""

from typing import Any

import pytest
import torch
from makers import make_config, make_pictures, randomise
from torch import Tensor

from genie_rt.errors import ConfigError
from genie_rt.runtime.config import ConvLamConfig, LamConfig, ModelConfig, from_dict, to_dict
from genie_rt.runtime.model.conv_lam import ConvLam, sign_codes
from genie_rt.runtime.model.lam import build_lam, encoder_shapes
from genie_rt.runtime.model.st_lam import STLam

T = 6
CONFIG = make_config(grid=(3, 5))  # 6 x 10 pixels


def make_lam(**changes: Any) -> ConvLam:
    sizes: dict[str, Any] = {"num_actions": 4, "width": 8}
    lam = ConvLam(ConvLamConfig(**(sizes | changes)), CONFIG.tokenizer)
    randomise(lam, 0)
    return lam.double().eval()


def make_clip() -> Tensor:
    return torch.from_numpy(make_pictures(CONFIG, T))[None]


def changed_at(frame: int) -> Tensor:
    clip = make_clip()
    clip[:, frame] = 255 - clip[:, frame]
    return clip


@pytest.mark.parametrize("past_frames", [1, 3])
@pytest.mark.parametrize("frame", range(T))
def test_an_action_sees_its_own_step_and_the_frames_before(frame: int, past_frames: int) -> None:
    lam = make_lam(past_frames=past_frames)
    before, after = (lam.action_vectors(lam.inputs_of(x)) for x in (make_clip(), changed_at(frame)))
    differs = (before != after).any(-1)[0].tolist()
    # step t leads from frame t to t + 1, and sees the frames t - past + 1 ... t + 1
    expected = [t - past_frames + 1 <= frame <= t + 1 for t in range(T - 1)]
    if frame == 0:  # stands for the frames before the clip
        expected = [t < past_frames for t in range(T - 1)]
    assert differs == expected


@pytest.mark.parametrize("past_frames", [1, 3])
@pytest.mark.parametrize("frame", range(T - 1))
def test_a_prediction_sees_the_past_alone(frame: int, past_frames: int) -> None:
    lam = make_lam(past_frames=past_frames)
    vectors = torch.randn(1, T - 1, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    before, after = (lam.predict(lam.inputs_of(x)[:, :-1], vectors) for x in (make_clip(), changed_at(frame)))
    assert before.shape == (1, T - 1, 6, 10, 3)
    differs = (before != after).flatten(2).any(-1)[0].tolist()
    assert differs == [t - past_frames < frame <= t for t in range(T - 1)]


def test_a_prediction_follows_its_own_action_alone() -> None:
    lam = make_lam()
    inputs, codes = lam.inputs_of(make_clip())[:, :-1], torch.zeros(1, T - 1, dtype=torch.long)
    other = codes.clone()
    other[:, 2] = 3
    before, after = lam.decode_actions(inputs, codes), lam.decode_actions(inputs, other)
    assert (before != after).flatten(2).any(-1)[0].tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (8, 8)])
def test_pictures_of_any_size(grid: tuple[int, int]) -> None:
    config = make_config(grid=grid)
    lam = ConvLam(ConvLamConfig(num_actions=2, width=8), config.tokenizer).eval()
    clip = torch.from_numpy(make_pictures(config, 3))[None]
    assert lam.actions(clip).shape == (1, 2)
    assert lam.decode_actions(lam.inputs_of(clip)[:, :-1], lam.actions(clip)).shape == (
        1, 2, 2 * grid[0], 2 * grid[1], 3,
    )  # fmt: skip


def test_sign_codes_count_in_binary() -> None:
    signs = (sign_codes(3) * 3**0.5).round().int()
    assert signs.tolist() == [
        [-1, -1, -1], [1, -1, -1], [-1, 1, -1], [1, 1, -1],
        [-1, -1, 1], [1, -1, 1], [-1, 1, 1], [1, 1, 1],
    ]  # fmt: skip
    assert torch.allclose(sign_codes(3).norm(dim=1), torch.ones(8))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_actions": 6}, "2, 4, 8"),
        ({"num_actions": 1}, "2, 4, 8"),
        ({"bottleneck": "bsq"}, '"fsq" or "lfq" or "vq"'),
        ({"past_frames": 0}, "past_frames"),
    ],
)
def test_a_config_that_cannot_be_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ConvLamConfig(**({"num_actions": 4} | changes))


def test_any_number_of_actions_with_a_learned_codebook() -> None:
    config = ConvLamConfig(num_actions=6, bottleneck="vq")
    assert ConvLam(config, CONFIG.tokenizer).codebook.shape == (6, 8)


def test_a_saved_config_says_which_model_it_is() -> None:
    for lam in (ConvLamConfig(num_actions=3, bottleneck="vq"), make_config(with_lam=True).lam):
        config = ModelConfig(tokenizer=CONFIG.tokenizer, dynamics=CONFIG.dynamics, lam=lam)
        assert from_dict(ModelConfig, to_dict(config)) == config
    values = to_dict(make_config(with_lam=True))
    del values["lam"]["kind"]  # as it was written before there were two kinds
    assert isinstance(from_dict(ModelConfig, values).lam, LamConfig)


@pytest.mark.parametrize("inputs", ["pixels", "tokens", "conv"])
def test_the_telling_part_tells_actions(inputs: str) -> None:
    """The weights that a bundle keeps are all that `actions` reads."""
    config = make_config(with_lam=True)
    if inputs == "conv":
        config = ModelConfig(
            tokenizer=config.tokenizer,
            dynamics=config.dynamics,
            lam=ConvLamConfig(num_actions=3, bottleneck="vq", width=8),
        )
    lam = build_lam(config).eval()
    assert isinstance(lam, ConvLam if inputs == "conv" else STLam)
    randomise(lam, 0)
    kept = encoder_shapes(config)
    other = build_lam(config).eval()
    randomise(other, 1)
    other.load_state_dict({name: lam.state_dict()[name] for name in kept}, strict=False)
    clip = torch.from_numpy(make_pictures(config, T))[None]
    codes = None
    assert torch.equal(lam.actions(clip, codes), other.actions(clip, codes))
    assert 0 < len(kept) < len(lam.state_dict())

"""The tokenizer is causal in both directions, and frames one by one give what a clip gives."""

from dataclasses import replace

import pytest
import torch
from comparator import assert_close_norm
from makers import make_config, make_pictures, make_tensor, randomise
from torch import Tensor

from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.config import TokenizerConfig
from genie_rt.runtime.model.tokenizer import Tokenizer

T = 8
CONFIG = make_config(encoder_window=3, decoder_window=4).tokenizer


def make_tokenizer(config: TokenizerConfig = CONFIG) -> Tokenizer:
    tokenizer = Tokenizer(config)
    randomise(tokenizer, 0)
    return tokenizer.double()


def make_clip() -> Tensor:
    return torch.from_numpy(make_pictures(make_config(), T))[None]


def make_tokens() -> Tensor:
    return torch.randint(CONFIG.codebook_size, (1, T, 15), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("frame", [0, 3, T - 1])
def test_the_future_of_a_picture_does_not_change_its_code_vectors(frame: int) -> None:
    tokenizer, clip = make_tokenizer(), make_clip()
    other = clip.clone()
    other[:, frame] = 255 - other[:, frame]
    before, after = (tokenizer.encode_vectors(x, causal_ages(T, 3))[0] for x in (clip, other))
    assert torch.equal(before[:, :frame], after[:, :frame])
    assert (before[:, frame] != after[:, frame]).all()


@pytest.mark.parametrize("frame", [0, 3, T - 1])
def test_the_future_of_a_token_does_not_change_its_picture(frame: int) -> None:
    tokenizer, tokens = make_tokenizer(), make_tokens()
    other = tokens.clone()
    other[:, frame, 0] = (other[:, frame, 0] + 1) % CONFIG.codebook_size
    before, after = (tokenizer.decode(x, causal_ages(T, 4))[0] for x in (tokens, other))
    assert torch.equal(before[:, :frame], after[:, :frame])
    assert (before[:, frame] != after[:, frame]).all()


def test_pictures_one_by_one_give_the_vectors_of_the_clip() -> None:
    tokenizer, clip = make_tokenizer(), make_clip()
    whole, kept = tokenizer.encode_vectors(clip, causal_ages(T, 3))
    for t in range(T):
        first = max(0, t - 2)
        history = [(keys[:, first:t], values[:, first:t]) for keys, values in kept]
        ages = torch.arange(t - first, -1, -1)[None, None]
        one, _ = tokenizer.encode_vectors(clip[:, t : t + 1], ages, history)
        assert_close_norm(one, whole[:, t : t + 1])


def test_tokens_one_by_one_give_the_pictures_of_the_clip() -> None:
    tokenizer, tokens = make_tokenizer(), make_tokens()
    whole, kept = tokenizer.decode(tokens, causal_ages(T, 4))
    for t in range(T):
        first = max(0, t - 3)
        history = [(keys[:, first:t], values[:, first:t]) for keys, values in kept]
        one, _ = tokenizer.decode(tokens[:, t : t + 1], torch.arange(t - first, -1, -1)[None, None], history)
        assert_close_norm(one, whole[:, t : t + 1])


def test_only_the_direction_of_a_code_counts() -> None:
    tokenizer, clip = make_tokenizer(), make_clip()
    tokens, _ = tokenizer.encode(clip, causal_ages(T, 3))
    pictures, _ = tokenizer.decode(tokens, causal_ages(T, 4))
    with torch.no_grad():
        tokenizer.codebook *= make_tensor(CONFIG.codebook_size, 1).exp()
    assert torch.equal(tokenizer.encode(clip, causal_ages(T, 3))[0], tokens)
    assert_close_norm(tokenizer.decode(tokens, causal_ages(T, 4))[0], pictures)


@pytest.mark.parametrize(
    ("size", "patch", "decoder_patch", "output"),
    [
        ((6, 10), 2, 2, (6, 10)),
        ((6, 10), 2, 4, (12, 20)),
        ((6, 10), 2, 1, (3, 5)),
        ((5, 7), 4, 4, (5, 7)),  # neither side is a multiple of the patch
        ((5, 7), 4, 1, (2, 2)),  # 1.25 and 1.75 pixels: a pixel for every patch
        ((5, 9), 4, 3, (4, 7)),
        ((90, 160), 4, 16, (360, 640)),
    ],
)
def test_pictures_have_the_size_that_the_config_says(
    size: tuple[int, int], patch: int, decoder_patch: int, output: tuple[int, int]
) -> None:
    config = replace(CONFIG, height=size[0], width=size[1], patch=patch, decoder_patch=decoder_patch)
    assert config.output_size == output
    tokens = torch.zeros(1, 2, config.num_tokens, dtype=torch.int64)
    pictures, _ = Tokenizer(config).decode(tokens, causal_ages(2, 4))
    assert pictures.shape == (1, 2, *output, 3)


def test_every_parameter_matters() -> None:
    tokenizer = make_tokenizer()
    vectors, _ = tokenizer.encode_vectors(make_clip(), causal_ages(T, 3))
    tokens = torch.arange(T * 15).view(1, T, 15) % CONFIG.codebook_size
    pictures, _ = tokenizer.decode(tokens, causal_ages(T, 4))
    loss = (pictures * make_tensor(*pictures.shape)).sum() + (vectors * make_tensor(*vectors.shape)).sum()
    loss.backward()
    assert [name for name, p in tokenizer.named_parameters() if not (p.grad != 0).any(-1).all()] == []

"""A latent action knows the picture that it leads to and no later one; the decoder knows the past alone."""

from dataclasses import replace

import pytest
import torch
from comparator import assert_close_norm
from makers import make_config, make_pictures, make_tensor, randomise
from torch import Tensor

from genie_rt.runtime.model.st_lam import STLam

T = 8
CONFIG = make_config(with_lam=True)


def make_lam(inputs: str = "pixels") -> STLam:
    assert CONFIG.lam is not None
    lam = STLam(replace(CONFIG.lam, inputs=inputs), CONFIG.tokenizer)
    randomise(lam, 0)
    return lam.double()


def make_clip() -> Tensor:
    return torch.from_numpy(make_pictures(CONFIG, T))[None]


def changed_at(frame: int) -> Tensor:
    clip = make_clip()
    clip[:, frame] = 255 - clip[:, frame]
    return clip


@pytest.mark.parametrize("frame", [1, 4, T - 1])
def test_an_action_sees_the_frame_that_it_leads_to_and_none_after_it(frame: int) -> None:
    lam = make_lam()
    before, after = (lam.action_vectors(lam.inputs_of(x)) for x in (make_clip(), changed_at(frame)))
    assert before.shape == (1, T - 1, 4)
    assert torch.equal(before[:, : frame - 1], after[:, : frame - 1])
    assert (before[:, frame - 1] != after[:, frame - 1]).all()  # the step that leads to the changed frame


def test_an_action_sees_the_frame_that_it_comes_from() -> None:
    lam = make_lam()
    before, after = (lam.action_vectors(lam.inputs_of(x)) for x in (make_clip(), changed_at(0)))
    assert (before[:, 0] != after[:, 0]).all()


@pytest.mark.parametrize("frame", [1, 4, T - 2])
def test_a_prediction_does_not_see_its_own_frame(frame: int) -> None:
    lam = make_lam()
    vectors = make_tensor(1, T - 1, 4)
    before, after = (lam.predict(lam.inputs_of(x)[:, :-1], vectors) for x in (make_clip(), changed_at(frame)))
    assert before.shape == (1, T - 1, 6, 10, 3)
    assert torch.equal(before[:, :frame], after[:, :frame])  # entry t predicts frame t + 1
    assert (before[:, frame] != after[:, frame]).any()


@pytest.mark.parametrize("step", [0, 3, T - 2])
def test_a_prediction_follows_its_action_and_no_later_one(step: int) -> None:
    lam, vectors = make_lam(), make_tensor(1, T - 1, 4)
    other = vectors.clone()
    other[:, step] += 1
    history = lam.inputs_of(make_clip())[:, :-1]
    before, after = lam.predict(history, vectors), lam.predict(history, other)
    assert torch.equal(before[:, :step], after[:, :step])
    assert (before[:, step] != after[:, step]).any()


def test_actions_are_codes_and_decode_as_their_unit_vectors() -> None:
    lam = make_lam()
    actions = lam.actions(make_clip())
    assert actions.shape == (1, T - 1) and actions.dtype == torch.int64
    assert actions.min() >= 0 and actions.max() < 3
    unit = lam.codebook / lam.codebook.norm(dim=-1, keepdim=True)
    history = lam.inputs_of(make_clip())[:, :-1]
    assert_close_norm(lam.decode_actions(history, actions), lam.predict(history, unit[actions]))


def test_code_vectors_can_stand_in_for_pixels() -> None:
    lam = make_lam("tokens")
    codes = make_tensor(1, T, 15, 4)
    assert lam.actions(make_clip(), codes).shape == (1, T - 1)
    assert lam.predict(codes[:, :-1], make_tensor(1, T - 1, 4)).shape == (1, T - 1, 6, 10, 3)
    with pytest.raises(ValueError, match="code vectors"):
        lam.actions(make_clip())


def test_every_parameter_matters() -> None:
    lam = make_lam()
    inputs = lam.inputs_of(make_clip())
    vectors = lam.action_vectors(inputs)
    pictures = lam.decode_actions(inputs[:, :-1], torch.arange(T - 1)[None] % 3)
    ((vectors * make_tensor(*vectors.shape)).sum() + pictures.square().sum()).backward()
    assert [name for name, p in lam.named_parameters() if not (p.grad != 0).any(-1).all()] == []

"""Calibration of int8 sees what play multiplies, rounds as it says, and leaves the model as it was."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from makers import make_actions, make_config, make_model, make_pictures
from torch import Tensor

from genie_rt.export import calibrate as module
from genie_rt.export.calibrate import (
    LEAST,
    LIMITS,
    MOST_PSNR_DB,
    PARTS,
    Clip,
    Damage,
    best_limit,
    calibrate,
    limits,
    linears,
    part_of,
    quantised,
    rounded,
    rounded_rows,
)
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.manifest import LEAST_PSNR_DB, LOOSEST_LOGIT, LOOSEST_MEANS
from genie_rt.runtime.model.dynamics import UNDECIDED, previous_frame
from genie_rt.runtime.model.world_model import WorldModel

CONFIG = make_config(grid=(2, 3), window=3)
FRAMES = 7


def make_float_model() -> WorldModel:
    return make_model(CONFIG, dtype=torch.float32).requires_grad_(False).eval()


def make_clips(model: WorldModel, count: int) -> list[Clip]:
    pictures = make_pictures(CONFIG, FRAMES * count)
    return [
        Clip.of(
            model,
            pictures[FRAMES * i : FRAMES * (i + 1)],
            np.array([-1, *make_actions(FRAMES - 1, seed=i)], np.int64),
        )
        for i in range(count)
    ]


def test_rounding_has_255_steps_and_a_limit() -> None:
    x = torch.tensor([0.0, 0.004, 0.006, 0.5, -1.0, 1.27, 5.0, -5.0])
    expected = torch.tensor([0.0, 0.0, 0.01, 0.5, -1.0, 1.27, 1.27, -1.27])
    assert torch.allclose(rounded(x, 1.27), expected, atol=1e-7)
    assert len(rounded(torch.linspace(-2, 2, 10_001), 1.0).unique()) == 255


def test_every_row_of_a_weight_has_its_own_steps() -> None:
    weight = torch.tensor([[1.27, 0.014], [0.00127, 0.0000149], [0.0, 0.0]])
    found = rounded_rows(weight)
    expected = torch.tensor([[1.27, 0.01], [0.00127, 0.00001], [0.0, 0.0]])
    assert torch.allclose(found, expected, atol=1e-9)


def test_few_large_values_are_clipped_and_many_are_not() -> None:
    even = torch.linspace(0, 1, 10_000)
    assert best_limit(even, 1.0) == 1.0
    with_outlier = torch.cat(
        [torch.rand(100_000, generator=torch.Generator().manual_seed(0)) * 0.05, torch.ones(1)]
    )
    limit = best_limit(with_outlier, 1.0)
    assert limit < 1.0 and limit in {float(np.float32(share)) for share in LIMITS}
    assert best_limit(torch.zeros(5), 0.0) == 1.0


def test_the_blocks_that_every_frame_goes_through_are_calibrated() -> None:
    model = make_float_model()
    found = limits(model, make_clips(model, 2))
    assert set(found) == set(linears(model))
    assert all(limit > 0 for limit in found.values())
    everything = {name for name, part in model.named_modules() if isinstance(part, torch.nn.Linear)}
    others = {name for name in everything - set(found) if not name.startswith("tokenizer.encoder.")}
    assert others == {
        "dynamics.code_in", "dynamics.token_in", "dynamics.previous_in", "dynamics.token_out",
        "dynamics.copy_out", "tokenizer.patch_in", "tokenizer.code_in", "tokenizer.code_out",
        "tokenizer.patch_out",
    }  # fmt: skip
    assert not any(name.startswith("tokenizer.encoder.") for name in found)


def test_a_linear_has_an_effect_on_its_own_part_alone() -> None:
    model = make_float_model()
    (clip,) = make_clips(model, 1)
    exact = {part: evaluate(model, clip) for part, evaluate in PARTS.items()}
    for name in linears(model):
        with quantised(model, {name: 0.01}):
            changed = {p for p, evaluate in PARTS.items() if not torch.equal(evaluate(model, clip), exact[p])}
        assert changed == {part_of(name)}, name
    for part, evaluate in PARTS.items():
        assert torch.equal(evaluate(model, clip), exact[part])  # as it was


def test_logits_are_those_of_a_masked_frame_after_a_clean_past() -> None:
    model = make_model(CONFIG).requires_grad_(False).eval()
    (clip,) = make_clips(model, 1)
    found = PARTS["logits"](model, clip)
    table, window = model.token_table(), CONFIG.dynamics.transformer.window
    previous = previous_frame(clip.tokens[None])
    for t in (1, 3, 5):  # those that are masked whole
        tokens = clip.tokens[None, : t + 1].clone()
        tokens[:, t] = UNDECIDED
        actions = torch.from_numpy(clip.actions)[None, : t + 1]
        hidden, _ = model.dynamics(tokens, previous[:, : t + 1], actions, table, causal_ages(t + 1, window))
        expected = model.dynamics.logits(hidden[:, -1:], previous[:, t : t + 1], table)[0, 0]
        assert torch.allclose(
            found[t - 1], expected, rtol=1e-9, atol=1e-12
        )  # float64, summed in another order


def test_what_costs_most_keeps_its_floating_point() -> None:
    model = make_float_model()
    weight = model.dynamics.transformer.blocks[1].down.weight
    with torch.no_grad():
        weight[0, 0] = 1000 * weight.abs().max()  # the rest of this row is rounded to nothing
    clips = make_clips(model, 3)
    allowed = Damage(logits=0.02, pixels=1.0)
    found = calibrate(model, clips[:2], clips[2:], allowed=allowed)
    dearest = {
        name: damage.logits**2 / linears(model)[name].weight.numel() for name, damage in found.alone.items()
    }
    assert found.kept[0] == max(dearest, key=dearest.__getitem__)
    assert all(part_of(name) == "logits" for name in found.kept)
    assert set(found.kept) | set(found.limits) == set(linears(model)) and not {*found.kept} & {*found.limits}
    assert found.damage.within(allowed) and found.damage.pixels > 0
    assert set(found.alone) == set(linears(model))


def test_nothing_is_kept_where_all_is_allowed_and_all_where_nothing_is() -> None:
    model = make_float_model()
    clips = make_clips(model, 2)
    free = calibrate(model, clips[:1], clips[1:], allowed=Damage(logits=9.0, pixels=9.0))
    assert not free.kept and set(free.limits) == set(linears(model))
    strict = calibrate(model, clips[:1], clips[1:], allowed=Damage(logits=1e-9, pixels=1e-9))
    assert not strict.limits and set(strict.kept) == set(linears(model))
    assert strict.damage == Damage()
    assert strict.bound.means == strict.bound.logit == LEAST and strict.bound.psnr_db == MOST_PSNR_DB


def outputs(logits: Tensor, pixels: Tensor) -> dict[str, list[Tensor]]:
    return {"logits": [logits], "pixels": [pixels]}


def test_a_bound_is_twice_what_is_off() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 16, generator=generator)
    pixels = torch.full((2, 4, 4, 3), 128 / 127.5 - 1)
    off = logits.clone()
    off[0, 0, 3] += 0.05
    levels = pixels + 1 / 127.5  # a level of 255
    found = module._bound(outputs(logits, pixels), outputs(off, levels))
    std = float(logits.double().std(correction=0))
    assert found.logit == pytest.approx(2 * 0.05 / std, rel=1e-5)
    moved = (off.double().softmax(-1).cumsum(-1) - logits.double().softmax(-1).cumsum(-1)).abs().max()
    assert found.means == pytest.approx(8 * float(moved) / std, rel=1e-6)
    assert found.psnr_db == pytest.approx(20 * np.log10(255 / 2), abs=1e-9)  # as if it were two
    wrong = module._bound(outputs(logits, pixels), outputs(-logits, pixels - 1))
    assert (wrong.means, wrong.logit, wrong.psnr_db) == (LOOSEST_MEANS, LOOSEST_LOGIT, LEAST_PSNR_DB)


def test_a_clips_tokens_are_the_models_own() -> None:
    model = make_float_model()
    (clip,) = make_clips(model, 1)
    again = Clip.of(model, clip.frames, clip.actions)
    assert torch.equal(clip.tokens, again.tokens) and clip.tokens.shape == (FRAMES, 6)
    assert replace(clip, tokens=clip.tokens).frames is clip.frames

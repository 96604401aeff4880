"""Graphs compute what the definition computes, in every kind of model, and in both opsets."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from graph_runs import (
    committed,
    decoded,
    encoded,
    framed,
    gumbel_of,
    history_of,
    make_inputs,
    make_tokens,
    passed,
    run_graph,
    save_weights,
)
from makers import make_config
from numpy.testing import assert_allclose, assert_array_equal
from torch_engine import context_of

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")

from genie_rt.export.onnx.write import write_graphs
from genie_rt.kernels.maskgit_sample.reference import sample
from genie_rt.runtime.backends.exported.signature import Signature, signatures
from genie_rt.runtime.backends.frame_forward import forward_frame
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.orders import position_tokens
from genie_rt.runtime.plan import Plan

CLOSE = {"rtol": 2e-5, "atol": 2e-5}
"""float32 against float64 through three layers: about 100 roundings of 6e-8 of numbers near 1."""

SUM = {"rtol": 1e-4, "atol": 1e-2}
"""For sums of up to a thousand such numbers."""

PLANS = {
    "one": Plan(passes=1, temperature=0.7),
    "maskgit": Plan(passes=3, temperature=1.3),
    "quiet": Plan(passes=2, noise=0),
    "adaptive": Plan(passes=3, order="adaptive", threshold=0.3, noise=0.5),
    "halton": Plan(passes=3, order="halton"),
    "random": Plan(passes=2, order="random"),
}


def changed(config: ModelConfig, **changes: Any) -> ModelConfig:
    """With changes of its dynamics or its tokenizer."""
    parts = {}
    for part in ("dynamics", "tokenizer"):
        names = {field.name for field in dataclasses.fields(getattr(config, part))}
        parts[part] = dataclasses.replace(
            getattr(config, part), **{key: value for key, value in changes.items() if key in names}
        )
    return dataclasses.replace(config, **parts)


MODELS = {
    "plain": make_config(),
    "merged": make_config(grid=(4, 6), merge=2, with_lam=True),
    "no past": make_config(window=1),
    "one past frame": make_config(window=2, encoder_window=1, decoder_window=3),
    "bare": changed(make_config(), tie_codebook=False, previous_token=False, copy_logit=False),
    "prime": changed(make_config(grid=(1, 3)), codebook_size=37),
    "cropped": changed(make_config(), height=5, width=9),
    "other patch": changed(make_config(), height=5, width=9, decoder_patch=3),
}


class Written(NamedTuple):
    """A folder of graphs, and the definition of what is in them."""

    folder: Path
    config: ModelConfig
    model: WorldModel
    signatures: dict[str, Signature]

    def run(self, graph: str, inputs: dict[str, torch.Tensor]) -> dict[str, Any]:
        return run_graph(self.folder / f"{graph}.onnx", inputs)


def write(folder: Path, name: str, opset: int, plans: dict[str, Plan]) -> Written:
    config = MODELS[name]
    model = save_weights(folder, config)
    write_graphs(folder, config, plans, precisions=["float32"], frame_plans=list(plans), opset=opset)
    return Written(folder, config, model, signatures(config, "float32", plans))


@pytest.fixture(
    scope="module", params=[*((name, 23) for name in MODELS), ("plain", 20), ("merged", 20)], ids=str
)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("graphs"), *request.param, {})


@pytest.fixture(
    scope="module",
    params=[("plain", 20), ("merged", 23), ("no past", 23), ("one past frame", 23), ("bare", 23)],
    ids=str,
)
def frames(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    return write(tmp_path_factory.mktemp("frames"), *request.param, PLANS)


def past_counts(window: int, prefix: str = "") -> list[dict[str, int]]:
    """No past, some, and all that the window holds."""
    if window == 1:
        return [{}]
    return [{f"{prefix}num_past": count} for count in sorted({0, window // 2, window - 1})]


def test_encode_is_the_encoder(written: Written) -> None:
    for seed, past in enumerate(past_counts(written.config.tokenizer.encoder.window)):
        inputs = make_inputs(written.signatures["encode"], written.config, seed, **past)
        found, expected = written.run("encode", inputs), encoded(written.model, inputs)
        assert_array_equal(found["tokens"], expected["tokens"])
        assert_allclose(found["page"], expected["page"], **CLOSE)
        assert_allclose(found["checksum"], expected["checksum"], **SUM)


def test_decode_is_the_decoder(written: Written) -> None:
    for seed, past in enumerate(past_counts(written.config.tokenizer.decoder.window)):
        inputs = make_inputs(written.signatures["decode"], written.config, seed, **past)
        found, expected = written.run("decode", inputs), decoded(written.model, inputs)
        assert_same_picture(found["rgb"], expected["pixels"])
        assert_allclose(found["page"], expected["page"], **CLOSE)
        assert_allclose(found["checksum"], expected["checksum"], **SUM)


def assert_same_picture(rgb: Any, pixels: torch.Tensor) -> None:
    """Rounded to nearest, either way where a float32 cannot tell."""
    exact = ((pixels + 1) * 127.5).clamp(0, 255).numpy()
    assert np.abs(rgb - exact).max() < 0.501


def test_commit_is_the_dynamics_page_of_decided_tokens(written: Written) -> None:
    for seed, past in enumerate(past_counts(written.config.dynamics.transformer.window)):
        inputs = make_inputs(written.signatures["commit"], written.config, seed, action=seed - 1, **past)
        found, expected = written.run("commit", inputs), committed(written.model, inputs)
        assert_allclose(found["page"], expected["page"], **CLOSE)
        assert_allclose(found["checksum"], expected["checksum"], **SUM)


@pytest.mark.parametrize("undecided", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("first", [True, False], ids=["first frame", "later frame"])
def test_pass_is_the_dynamics(written: Written, undecided: float, first: bool) -> None:
    config = written.config
    for seed, past in enumerate(past_counts(config.dynamics.transformer.window)):
        inputs = make_inputs(
            written.signatures["pass"], config, seed, action=-1 if first else 1, temperature=0.7,
            tokens=make_tokens(config, seed, undecided),
            previous=make_tokens(config, seed + 1, 1.0 if first else 0.2), **past,
        )  # fmt: skip
        found, expected = written.run("pass", inputs), passed(written.model, inputs)
        assert_allclose(found["logits"], expected["logits"], **CLOSE)
        assert_allclose(found["page"], expected["page"], **CLOSE)
        assert_allclose(found["checksum"], expected["checksum"], **SUM)
        candidates, p = sample(torch.from_numpy(found["logits"]).double(), inputs["u"], 0.7)
        assert_array_equal(found["candidates"], candidates)
        assert_allclose(found["probability"], p, rtol=1e-5)


def test_pass_at_is_the_dynamics_at_some_positions(written: Written) -> None:
    config, transformer = written.config, written.config.dynamics.transformer
    everywhere = torch.arange(config.num_positions)
    for seed, past in enumerate(past_counts(transformer.window)):
        for index in (everywhere, everywhere.flip(0)[::2], everywhere[-1:]):
            inputs = make_inputs(
                written.signatures["pass-at"], config, seed, action=1, temperature=0.7, index=index,
                tokens=make_tokens(config, seed, 0.5), previous=make_tokens(config, seed + 1, 0.2), **past,
            )  # fmt: skip
            found = written.run("pass-at", inputs)
            logits, around = at_positions(written.model, inputs)
            assert_allclose(found["around_out"], around, **CLOSE)
            assert_allclose(found["checksum"], logits.sum()[None], **SUM)
            u = inputs["u"][:, position_tokens(config)[index].flatten()]
            candidates, p = sample(logits, u, 0.7)
            assert_array_equal(found["candidates"], candidates)
            assert_allclose(found["probability"], p, rtol=1e-4)


def at_positions(model: WorldModel, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits `[1, Q S, V]` and the new `around` by `runtime/backends/frame_forward.py`."""
    config, dynamics, index = model.config, model.dynamics, inputs["index"]
    ages, history = history_of(config.dynamics.transformer, inputs)
    table = model.token_table()
    x = dynamics.embed(
        inputs["tokens"][:, None], inputs["previous"][:, None], inputs["action"][:, None], table
    )
    around = inputs["around"].double()
    kept = [(around[2 * i], around[2 * i + 1]) for i in range(config.dynamics.transformer.num_layers)]
    context = context_of(ages, history, kept).at(index)
    done = forward_frame(dynamics.transformer, x[0, 0, index], context, spatial=kept, index=index)
    tokens = position_tokens(config)[index].flatten()
    previous = inputs["previous"][:, tokens]
    logits = dynamics.logits_at(done.hidden[None], torch.arange(len(tokens))[None], previous, table)
    return logits, torch.stack([part for layer in done.spatial for part in layer])


@pytest.mark.parametrize("name", PLANS)
def test_frame_is_commit_passes_and_decoder(frames: Written, name: str) -> None:
    config, plan = frames.config, PLANS[name]
    dynamics = past_counts(config.dynamics.transformer.window)
    pictures = past_counts(config.tokenizer.decoder.window, "picture_")
    for seed in range(max(len(dynamics), len(pictures))):
        generator = torch.Generator().manual_seed(seed)
        noise_u = torch.rand(plan.passes, config.tokenizer.num_tokens, generator=generator)
        inputs = make_inputs(
            frames.signatures[f"frame-{name}"], config, seed, gumbel=gumbel_of(noise_u),
            order=torch.randperm(config.tokenizer.num_tokens, generator=generator),
            last_action=-1 if not seed else 1, action=0,
            **dynamics[seed % len(dynamics)], **pictures[seed % len(pictures)],
        )  # fmt: skip
        found = frames.run(f"frame-{name}", inputs)
        tokens, passes, expected = framed(frames.model, plan, inputs, noise_u)
        assert_array_equal(found["tokens"], tokens)
        assert found["passes"].tolist() == [passes]
        assert_same_picture(found["rgb"], expected["pixels"])
        assert_allclose(found["page"], expected["dynamics"], **CLOSE)
        assert_allclose(found["picture_page"], expected["page"], **CLOSE)
        assert np.isfinite(found["checksum"]).all()

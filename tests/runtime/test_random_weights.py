"""Worlds of random weights: as their modules start, the same for the same seed, made one weight at a time."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from makers import make_config, make_pictures
from torch import Tensor
from torch.overrides import TorchFunctionMode

from genie_rt.errors import ConfigError, InputError, UnsupportedError
from genie_rt.runtime import random_weights
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.manifest import FileRecord, Manifest
from genie_rt.runtime.model.world_model import WorldModel, parameter_shapes
from genie_rt.runtime.presets import PRESETS
from genie_rt.runtime.random_weights import RandomWeights, random_bundle, random_model
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

WIDE = {"width": 64, "head_width": 16, "mlp_width": 96}
CONFIG = make_config(grid=(4, 6), merge=2, with_lam=True, **WIDE)
PLAIN = make_config(**WIDE)
CONFIGS = {
    "all": CONFIG,
    "plain": replace(
        PLAIN,
        dynamics=replace(PLAIN.dynamics, tie_codebook=False, previous_token=False, copy_logit=False),
    ),
}


def weights(config: ModelConfig = CONFIG, seed: int = 3, dtype: torch.dtype = torch.float32) -> RandomWeights:
    return RandomWeights(config, seed=seed, dtype=dtype, device="cpu")


# --- the weights -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_weights_have_the_statistics_that_the_modules_start_with(config: ModelConfig) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        modules = {name: weight.detach() for name, weight in WorldModel(config).named_parameters()}
    found = weights(config)
    assert list(found) == list(modules)
    for name, expected in modules.items():
        drawn = found[name]
        assert (drawn.shape, drawn.dtype) == (expected.shape, torch.float32), name
        if name.endswith("position") or expected.numel() == 1 or expected.std() == 0:
            assert torch.equal(drawn, expected), name
            continue
        count, std = expected.numel(), float(expected.std())
        assert abs(float(drawn.mean())) < 5 * std * count**-0.5, name
        assert float(drawn.std()) == pytest.approx(std, rel=5 * count**-0.5), name


def test_the_statistics_tell_a_wrong_scale() -> None:
    """What the test above compares differs by more than it allows, were the residual's scale forgotten."""
    name = "dynamics.transformer.blocks.0.down.weight"
    weight = weights()[name]
    layers, fan_in = CONFIG.dynamics.transformer.num_layers, weight.shape[1]
    assert float(weight.std()) == pytest.approx((3 * layers * fan_in) ** -0.5, rel=5 * weight.numel() ** -0.5)
    assert (3 * layers) ** 0.5 > 1 + 5 * weight.numel() ** -0.5


def test_the_same_seed_gives_the_same_weights_and_another_one_others() -> None:
    first, second, other = weights(), weights(), weights(seed=4)
    for name in first:
        assert torch.equal(first[name], second[name]), name
    name = "dynamics.token_in.weight"
    assert not torch.equal(first[name], other[name])
    assert not torch.equal(first[name], first["dynamics.previous_in.weight"])  # of the same shape


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes_hold_the_same_numbers(dtype: torch.dtype) -> None:
    narrow, wide = weights(dtype=dtype), weights()
    for name in wide:
        assert narrow[name].dtype == dtype
        assert torch.equal(narrow[name], wide[name].to(dtype)), name


def test_parts_of_a_large_weight_go_on_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "dynamics.transformer.blocks.0.up.weight"  # 96 x 64
    monkeypatch.setattr(random_weights, "SCRATCH_NUMBERS", 1000)
    weight = weights()[name].flatten()
    assert float(weight.std()) == pytest.approx(1 / 8, rel=5 * 6144**-0.5)
    assert not torch.equal(weight[:1000], weight[1000:2000])


def test_a_name_that_no_weight_has_is_no_key() -> None:
    with pytest.raises(KeyError):
        weights()["dynamics.transformer.blocks.9.up.weight"]


class Allocations(TorchFunctionMode):
    """Notes what every call of torch gave that is floating point: its numbers and its dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, torch.dtype]] = []

    def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **kwargs or {})
        if isinstance(out, Tensor) and out.is_floating_point() and not out.is_meta:
            self.seen.append((out.numel(), out.dtype))
        return out


def test_no_weight_ever_exists_in_a_wider_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random_weights, "SCRATCH_NUMBERS", 512)
    with Allocations() as allocations:
        model = random_model(CONFIG, seed=0, dtype=torch.bfloat16, device="cpu")
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    positions = max(weight.numel() for name, weight in model.named_parameters() if "position" in name)
    wide = [count for count, dtype in allocations.seen if dtype != torch.bfloat16]
    assert 512 in wide
    assert max(wide) <= max(512, positions)
    assert max(count for count, _ in allocations.seen) > 4 * 512  # it does see the weights themselves


def test_the_random_state_of_torch_is_left_alone() -> None:
    before = torch.random.get_rng_state()
    random_model(CONFIG, seed=0, dtype=torch.float32, device="cpu")
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", PRESETS)
def test_every_weight_of_every_preset_has_a_rule(name: str) -> None:
    found = RandomWeights(
        random_bundle(name, seed=0, device="cpu").config, seed=0, dtype=torch.bfloat16, device="meta"
    )
    for key in ("dynamics.copy_logit", "tokenizer.codebook", "lam_codebook", "dynamics.position"):
        assert tuple(found.shapes[key]) == parameter_shapes(found.config)[key]
    assert {random_weights._constant(found.config, key) for key in found} == {None, 0.0, 1.0}
    drawn = [key for key in found if random_weights._constant(found.config, key) is None]
    assert all(0 < random_weights._std(found.config, key, fan_in=found.shapes[key][-1]) <= 1 for key in drawn)


# --- the world -------------------------------------------------------------------------------------------


@pytest.fixture
def world(tiny_preset: None) -> Iterator[World]:
    yield World.random("tiny", seed=5)


def test_a_random_world_can_be_played(world: World) -> None:
    session = world.session(seed=1)
    session.reset(make_pictures(world.bundle.config, 1)[0])
    frames = [session.step(action) for action in (*world.action_names, 0, 1)]
    assert all(frame.shape == (*world.output_size, 3) for frame in frames)
    assert len({frame.tobytes() for frame in frames}) > 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_activations_stay_finite_and_logits_near_one(dtype: str) -> None:
    """Of the demo's sizes; a step would raise `DeviceError` were they not finite."""
    world = World.random("demo", dtype=dtype)
    session = world.session(passes=1)
    session.reset(np.full((64, 64, 3), 127, np.uint8))
    session.step(0)
    session.commit()
    nothing = torch.full((1, 256), -1)
    probe = world.backend.probe([session.row], [0], nothing, session.plan, 0)
    assert 0.3 < float(probe.logits.std()) < 5


def test_it_says_what_a_bundle_says(world: World) -> None:
    bundle = world.bundle
    assert (bundle.name, bundle.preset, bundle.default_action) == ("tiny-random", "tiny", "a0")
    assert world.action_names == ("a0", "a1", "a2", "a3")
    assert (dict(bundle.plans), world.prompts) == ({"default": random_weights.PLAN}, ())
    Manifest(  # checks all of it as it would be read from a disk
        name=bundle.name, preset=bundle.preset, config=bundle.config, action_names=bundle.action_names,
        default_action=bundle.default_action, plans=dict(bundle.plans), provenance=dict(bundle.provenance),
        files={"weights.safetensors": FileRecord(sha256="0" * 64, size=1)},
    )  # fmt: skip


def test_the_digest_says_random_and_follows_what_the_weights_depend_on() -> None:
    digests = [
        random_bundle(name, seed=seed, device=device).digest
        for name, seed, device in (
            ("demo", 0, "cpu"), ("demo", 1, "cpu"), ("coinrun", 0, "cpu"), ("demo", 0, "cuda"),
        )
    ]  # fmt: skip
    assert len(set(digests)) == 4
    assert all(digest.startswith("random:") for digest in digests)
    assert random_bundle("demo", seed=0, device="cpu").digest == digests[0]


def test_snapshots_are_good_for_worlds_of_the_same_seed_alone(world: World) -> None:
    session: Session = world.session(seed=2)
    session.reset(make_pictures(world.bundle.config, 1)[0])
    session.step(0)
    data = session.snapshot().to_bytes()
    ahead = session.step(1)
    same = World.random("tiny", seed=5)
    twin = same.session()
    twin.restore(same.load_snapshot(data))
    assert np.array_equal(twin.step(1), ahead)
    with pytest.raises(InputError, match="expected a snapshot of the bundle 'tiny-random' \\(random:"):
        World.random("tiny", seed=6).load_snapshot(data)


@pytest.mark.parametrize(
    ("request_", "error", "message"),
    [
        ({"preset": "deno"}, ConfigError, "unknown preset 'deno'"),
        ({"seed": -1}, InputError, "seed"),
        ({"seed": 2**64}, InputError, "seed"),
        ({"backend": "abacus"}, UnsupportedError, "back end 'abacus'"),
        ({"dtype": "int3"}, UnsupportedError, "dtype 'int3'"),
        ({"device": "abacus"}, UnsupportedError, "abacus"),
    ],
)
def test_what_cannot_be_made_is_refused(
    request_: dict[str, object], error: type[Exception], message: str, tiny_preset: None
) -> None:
    with pytest.raises(error, match=message):
        World.random(**({"preset": "tiny"} | request_))  # type: ignore[arg-type]

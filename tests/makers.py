"""Small models, worlds and inputs for tests, all of them functions of a seed."""

import gc
import hashlib
import tracemalloc
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.backends.registry import BACKENDS, BuildRequest
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.config import (
    DynamicsConfig,
    LamConfig,
    ModelConfig,
    TokenizerConfig,
    TransformerConfig,
)
from genie_rt.runtime.linears import linear_names
from genie_rt.runtime.manifest import Int8Manifest
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

ACTIONS = ("left", "stay", "right")


def make_transformer(**changes: Any) -> TransformerConfig:
    """The width of the attention differs from the model's, so that no test passes by their being equal."""
    sizes = {"num_layers": 3, "width": 16, "num_heads": 2, "head_width": 6, "mlp_width": 24, "window": 4}
    return TransformerConfig(**sizes | changes)


def make_config(
    *,
    grid: tuple[int, int] = (3, 5),
    window: int = 4,
    encoder_window: int | None = None,
    decoder_window: int | None = None,
    merge: int = 1,
    with_lam: bool = False,
    **changes: Any,
) -> ModelConfig:
    """A world model of `grid` tokens, with patches of 2 x 2 pixels and three layers of width 16.

    Args:
        changes: sizes of all its transformers.
    """
    side = make_transformer(**{"num_layers": 2, "window": 3} | changes)
    lam = LamConfig(patch=2, num_actions=len(ACTIONS), codebook_dim=4, encoder=side, decoder=side)
    return ModelConfig(
        tokenizer=TokenizerConfig(
            height=2 * grid[0], width=2 * grid[1], patch=2, decoder_patch=2, codebook_size=24, codebook_dim=4,
            encoder=make_transformer(**{"num_layers": 2, "window": encoder_window or window} | changes),
            decoder=make_transformer(**{"num_layers": 2, "window": decoder_window or window} | changes),
        ),
        dynamics=DynamicsConfig(
            transformer=make_transformer(**{"window": window} | changes),
            num_actions=len(ACTIONS), merge=merge, embedding_dim=8,
        ),
        lam=lam if with_lam else None,
    )  # fmt: skip


@torch.no_grad()
def randomise(module: nn.Module, seed: int) -> None:
    """Draws every parameter anew, so that every one of them matters.

    A fresh model has norms of one, biases of age of zero and a silent copy logit: a runtime that forgets any
    of these computes the same function. Matrices keep the size of their input.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(module.named_parameters()):
        draw = torch.randn(parameter.shape, generator=generator)
        if name.endswith("norm.weight") or name.endswith(("q_norm", "k_norm")):
            draw = 1 + 0.4 * draw
        elif parameter.ndim == 2 and name.endswith(".weight"):
            draw = draw * parameter.shape[1] ** -0.5
        parameter.copy_(draw)


def make_model(config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float64) -> WorldModel:
    """A world model whose every parameter is random."""
    model = WorldModel(config)
    randomise(model, seed)
    return model.to(dtype).requires_grad_(False)


def make_backend(config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float64) -> ReferenceBackend:
    return ReferenceBackend(make_model(config, seed, dtype), torch.device("cpu"), dtype)


def make_world(config: ModelConfig, seed: int = 0, dtype: torch.dtype = torch.float64) -> World:
    """A world that never saw a disk."""
    bundle = Bundle(
        path=Path(), name="tiny", preset="custom", config=config, action_names=ACTIONS, default_action="stay",
        plans={"default": Plan(passes=3), "best": Plan(passes=9, temperature=0.8)}, prompts=(), files={},
        provenance={}, digest=hashlib.sha256(f"{config} {seed}".encode()).hexdigest(),
    )  # fmt: skip
    return World(bundle, make_backend(config, seed, dtype), str(dtype).removeprefix("torch."))


def need(backend: str) -> None:
    """Skips where a back end is not installed."""
    if not BACKENDS[backend].is_installed:
        package = BACKENDS[backend].needs
        pytest.skip(f"{package} is not installed" if package else "the C library is not built: make native")


def make_native_world(
    config: ModelConfig, seed: int = 0, precision: str = "float32", *, kept_float: Collection[str] = ()
) -> World:
    """The same model as `make_world` makes in float32, in the C library; skips where that was not built.

    Args:
        precision: "float32", or "int8" for all linears but `kept_float`.
    """
    need("native")
    from genie_rt.runtime.backends.native.backend import build

    bundle = replace(make_world(config, seed).bundle, int8=make_limits(config, kept_float=kept_float))
    request = BuildRequest(
        backend="native", dtype=precision, device=torch.device("cpu"), bundle=bundle, rebuild=False,
        model=lambda: make_model(config, seed, torch.float32),
    )  # fmt: skip
    return World(bundle, build(request), precision)


def make_limits(config: ModelConfig, *, kept_float: Collection[str] = ()) -> Int8Manifest:
    """Limits of int8, each another one, of about what the random models multiply."""
    names = [name for name in linear_names(config) if name not in kept_float]
    return Int8Manifest(limits={name: 3 + index / 16 for index, name in enumerate(names)})


def make_pictures(config: ModelConfig, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """`[count, H, W, 3]` uint8: noise that shifts from picture to picture."""
    height, width = config.tokenizer.height, config.tokenizer.width
    first = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return np.stack([np.roll(first, step, axis=1) for step in range(count)])


def make_actions(count: int, seed: int = 0) -> list[int]:
    """`count` action indices."""
    return np.random.default_rng(seed).integers(0, len(ACTIONS), count).tolist()


def make_tensor(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Standard normal numbers, drawn in float64 and rounded to `dtype`."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


# What sessions are in, and what they cost.


def state_of(session: Session) -> tuple[int, int, list[int], bytes]:
    """All that a session's future depends on and that can be seen: seed, frame index, tokens, picture."""
    return session.row.seed, session.frame_index, session.row.tokens.tolist(), session.frame.tobytes()


def play(session: Session, actions: Iterable[str | int]) -> list[tuple[int, int, list[int], bytes]]:
    """The states that these steps lead through."""
    return [(session.step(action), state_of(session))[1] for action in actions]


def used_pages(world: World) -> list[int]:
    """Pages that somebody holds, of every transformer."""
    backend: Any = world.backend
    pools = (backend.dynamics_pages, backend.decoder_pages, backend.encoder_pages)
    return [pool.num_used for pool in pools]


@contextmanager
def counted_calls(world: World) -> Iterator[list[tuple[str, int]]]:
    """The calls of a world's back end that evaluate the model, each with the number of its rows."""
    backend: Any = world.backend
    calls: list[tuple[str, int]] = []

    def counting(name: str, call: Any) -> Any:
        def counted(rows: Any, *arguments: Any, **options: Any) -> Any:
            calls.append((name, len(rows)))
            return call(rows, *arguments, **options)

        return counted

    for name in ("frame", "commit"):
        setattr(backend, name, counting(name, getattr(backend, name)))
    try:
        yield calls
    finally:
        for name in ("frame", "commit"):
            delattr(backend, name)


@contextmanager
def broken_weight(world: World, name: str = "dynamics.token_out.weight") -> Iterator[None]:
    """A world whose frames come out as NaN, until the block ends."""
    backend: Any = world.backend
    weight = backend.model.get_parameter(name)
    element = (0,) * weight.ndim
    sound = float(weight[element])
    weight[element] = torch.nan
    try:
        yield
    finally:
        weight[element] = sound


def python_bytes_kept(act: Callable[[], None], rounds: int = 4) -> int:
    """What Python holds more after `act()` than before, in the round of several where that is least.

    What every round leaves behind is in each of them. A cache that fills or a free list that moves, as other
    tests of the process leave them, is in one or two.
    """
    held = []
    tracemalloc.start()
    try:
        for _ in range(rounds + 1):
            act()
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    return min(after - before for before, after in pairwise(held))


def decision_order(plan: Plan, config: ModelConfig, seeds: Tensor, frames: Tensor) -> Tensor:
    """The order of a static plan's tokens, `[B, N]` or `[1, N]`."""
    order = plan.static_order
    assert order is not None
    return order.tokens(config, seeds, frames, by_position=plan.reuse == "passes")

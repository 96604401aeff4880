"""The native engine is the model: in float32 within rounding of float64, in int8 as the docs say it is."""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import (
    ACTIONS,
    make_actions,
    make_backend,
    make_config,
    make_model,
    make_native_world,
    make_pictures,
    make_world,
    play,
)

from genie_rt.bench.parity.verify import Variant, compare
from genie_rt.errors import BundleError, DeviceError, InputError, UnsupportedError
from genie_rt.export.calibrate import quantised
from genie_rt.runtime.backends.native import find, header
from genie_rt.runtime.backends.native.backend import build
from genie_rt.runtime.backends.native.library import Library, load_library
from genie_rt.runtime.backends.protocol import Backend
from genie_rt.runtime.backends.registry import BACKENDS, BuildRequest
from genie_rt.runtime.backends.row import Row, blank_row
from genie_rt.runtime.linears import linear_names
from genie_rt.runtime.model.dynamics import NULL_ACTION, UNDECIDED
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

pytestmark = pytest.mark.skipif(
    not BACKENDS["native"].is_installed, reason="the C library is not built: make native"
)

CONFIGS = {
    "plain": make_config(),
    "merged": make_config(grid=(4, 6), merge=2, window=3, decoder_window=2),
    "without a past": make_config(window=1),
    "wide heads": make_config(grid=(3, 3), window=5, width=40, num_heads=3, head_width=20, mlp_width=70),
    "one head": make_config(
        grid=(2, 5), window=2, width=17, num_heads=1, head_width=5, mlp_width=33, num_layers=1
    ),
}
PLANS = {
    "maskgit": Plan(passes=3),
    "one pass": Plan(passes=1, temperature=0.6),
    "adaptive": Plan(order="adaptive", passes=4, threshold=0.3),
    "random": Plan(order="random", passes=2),
    "halton": Plan(order="halton", passes=3),
    "random, positions": Plan(order="random", passes=3, reuse="passes"),
    "halton, positions": Plan(order="halton", passes=3, reuse="passes"),
    "frames": Plan(passes=3, reuse="frames", fresh=0.4),
}
FLOAT32 = Variant(backend="native", dtype="float32", device="cpu")


@cache
def native(name: str, precision: str = "float32") -> World:
    config = CONFIGS[name]
    encoder = [linear for linear in linear_names(config) if linear.startswith("tokenizer.encoder.")]
    return make_native_world(config, precision=precision, kept_float=encoder)


def started(world: World, plan: Plan, seed: int = 3) -> Session:
    session = world.session(seed=seed, plan=plan)
    session.reset(make_pictures(world.bundle.config, 2), [0])
    return session


# float32.


@pytest.mark.parametrize("name", CONFIGS)
def test_every_pass_commit_and_picture_is_the_yardsticks(name: str) -> None:
    found = compare(make_world(CONFIGS[name]), native(name), FLOAT32, plan=Plan(passes=3), frames=6)
    assert found.failure is None and found.prompt_agreement == 1
    assert found.passes == 6 * 4 and found.tokens == 6 * 4 * CONFIGS[name].tokenizer.num_tokens
    assert sum(played.frames for played in found.played) > 6


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("plan", PLANS)
def test_free_rollouts_are_the_yardsticks(name: str, plan: str) -> None:
    """Few tokens in float32: none of them lies so close to a boundary that rounding moves it."""
    config, found = CONFIGS[name], []
    for world in (make_world(config), native(name)):
        session = started(world, PLANS[plan])
        found.append(
            [(session.step(action), session.row.tokens.tolist(), session.stats) for action in make_actions(8)]
        )
    for t, (ours, theirs) in enumerate(zip(*found, strict=True)):
        assert ours[1:] == theirs[1:], f"frame {t}"
        # a pixel may lie on the other side of a rounding to 8 bits
        assert np.abs(ours[0].astype(int) - theirs[0].astype(int)).max() <= 1
    assert len({tuple(tokens) for _, tokens, _ in found[0]}) > 4  # it does not stand still


def test_switches_of_the_dynamics_are_the_same() -> None:
    config = CONFIGS["plain"]
    for switch in ("tie_codebook", "previous_token", "copy_logit"):
        other = replace(config, dynamics=replace(config.dynamics, **{switch: False}))
        found = compare(make_world(other), make_native_world(other), FLOAT32, plan=Plan(passes=2), frames=4)
        assert found.failure is None, switch


# int8.


def rounded_logits(world: World, exact: Any) -> Iterator[tuple[float, float]]:
    """Of some passes: the distance to float64 rounded as the docs say, and from there to float64 that is not.

    On the same pages and tokens, by the norm of the logits.
    """
    assert world.bundle.int8 is not None
    session = started(world, PLANS["maskgit"])
    for action in (0, 2, 1):
        session.step(action)
        (row,) = world.backend.commit([session.row])
        twin = in_float64(world.backend, row, exact)
        tokens = torch.where(torch.arange(len(row.tokens)) % 3 == 0, row.tokens, UNDECIDED)[None]
        found = world.backend.probe([row], [1], tokens, session.plan, 0).logits.double()
        plain = exact.probe([twin], [1], tokens, session.plan, 0).logits
        with quantised(exact.model, world.bundle.int8.limits):
            rounded = exact.probe([twin], [1], tokens, session.plan, 0).logits
        yield float((found - rounded).norm() / plain.norm()), float((plain - rounded).norm() / plain.norm())


def test_each_linear_is_rounded_as_it_says() -> None:
    """What is left is a small part of what rounding does.

    That is numbers on the border of two steps that fall to the other, and the 16 bits of all other products.
    """
    config = CONFIGS["plain"]
    names, exact = linear_names(config), make_backend(config)
    seen = []
    for name in (name for name in names if name.startswith("dynamics.")):
        world = make_native_world(
            config, precision="int8", kept_float=[other for other in names if other != name]
        )
        for error, rounding in rounded_logits(world, exact):
            assert rounding > 5e-4 and error < 0.5 * rounding + 1e-3, name
            seen.append((error, rounding))
    errors, roundings = zip(*seen, strict=True)
    assert sum(errors) < 0.15 * sum(roundings)


@pytest.mark.parametrize("name", CONFIGS)
def test_all_linears_together_are_rounded_as_it_says(name: str) -> None:
    """With all of them a number that falls to the other step in one takes others along in the next."""
    seen = list(rounded_logits(native(name, "int8"), make_backend(CONFIGS[name])))
    errors, roundings = zip(*seen, strict=True)
    assert sum(errors) < 0.8 * sum(roundings) and min(roundings) > 1e-3


def in_float64(backend: Backend, row: Row, exact: Backend) -> Row:
    """The row on another back end."""
    tensors = backend.save_row(row)
    for name in ("dynamics", "decoder", "spatial"):
        tensors[name] = tensors[name].double()
    return exact.load_row(
        tensors, seed=row.seed, frame_index=row.frame_index, action=row.action, pending=row.pending
    )


def test_pictures_in_int8_are_rounded_as_it_says() -> None:
    world, config = native("plain", "int8"), CONFIGS["plain"]
    assert world.bundle.int8 is not None
    exact: Any = make_backend(config)
    session, errors, rounding = started(world, PLANS["maskgit"]), [], []
    for action in make_actions(8):
        session.step(action)
        (row,) = world.backend.commit([session.row])
        twin = in_float64(world.backend, row, exact)
        (_,), found = world.backend.show([row], [1], row.tokens[None])
        (_,), plain = exact.show([twin], [1], row.tokens[None])
        with quantised(exact.model, world.bundle.int8.limits):
            (_,), rounded = exact.show([twin], [1], row.tokens[None])
        errors.append(float((found.double() - rounded.double()).abs().mean()))
        rounding.append(float((plain.double() - rounded.double()).abs().mean()))
    assert min(rounding) > 0.1 and np.mean(errors) < 0.1 * np.mean(rounding)


@pytest.mark.parametrize("plan", PLANS)
def test_int8_gives_the_same_bits_with_any_number_of_threads(plan: str) -> None:
    before, seen = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 7):
            torch.set_num_threads(threads)
            world = make_native_world(CONFIGS["merged"], precision="int8")
            session = started(world, PLANS[plan])
            states = play(session, make_actions(10))
            kept = {name: x.numpy().tobytes() for name, x in world.backend.save_row(session.row).items()}
            seen.append((states, kept))
    finally:
        torch.set_num_threads(before)
    assert all(each == seen[0] for each in seen)


def test_int8_needs_limits_and_says_where_they_come_from() -> None:
    bundle = replace(make_world(CONFIGS["plain"]).bundle, int8=None)
    request = BuildRequest(
        backend="native", dtype="int8", device=torch.device("cpu"), bundle=bundle, rebuild=False,
        model=lambda: make_model(CONFIGS["plain"], dtype=torch.float32),
    )  # fmt: skip
    with pytest.raises(BundleError, match=r"\"int8\", the limits .* export the bundle again with --int8"):
        build(request)


# Rows that come from elsewhere.


def test_a_forks_seed_is_the_one_that_is_drawn_with() -> None:
    world = native("merged")
    session = started(world, PLANS["maskgit"])
    session.step(0)
    twin, again = session.fork(seed=99), session.fork()
    seen = twin.peek()
    frames = [twin.step(action).tobytes() for action in (1, 2, 0)]
    assert frames[0] == seen[ACTIONS[1]].tobytes()
    yardstick = started(make_world(CONFIGS["merged"]), PLANS["maskgit"])
    yardstick.step(0)
    expected = yardstick.fork(seed=99)
    for action in (1, 2, 0):
        expected.step(action)
    assert twin.row.tokens.tolist() == expected.row.tokens.tolist() and twin.row.seed == 99
    assert [again.step(action).tobytes() for action in (1, 2, 0)] != frames


def test_rows_that_are_given_their_first_frame_are_those_of_a_prompt() -> None:
    """`show` on a blank row, as `verify` and `evaluate` do it, with a seed of its own."""
    world = native("plain")
    backend, config = world.backend, world.bundle.config
    prompt = torch.from_numpy(make_pictures(config, 1))
    expected, picture = backend.prefill(7, prompt, [NULL_ACTION])
    blank = [blank_row(config, seed, torch.device("cpu")) for seed in (7, 8)]
    rows, pictures = backend.show(blank, [NULL_ACTION] * 2, expected.tokens.expand(2, -1))
    assert [row.seed for row in rows] == [7, 8] and all(torch.equal(each, picture) for each in pictures)
    played = [backend.frame([row], [1], PLANS["maskgit"])[0][0].tokens for row in (expected, *rows)]
    assert torch.equal(played[0], played[1]) and not torch.equal(played[0], played[2])


def test_parts_of_rows_can_be_put_together() -> None:
    world, exact = native("plain"), make_world(CONFIGS["plain"])
    mixed = []
    for each in (exact, world):
        one, two = (started(each, PLANS["frames"], seed) for seed in (3, 4))
        for action in make_actions(4):
            one.step(action)
            two.step(action)
        row = replace(one.row, dynamics=two.row.dynamics, decoder=two.row.decoder, carried=two.row.carried)
        (new,), pictures, _ = each.backend.frame([row], [1], PLANS["frames"])
        assert pictures is not None
        mixed.append((new, pictures, one.step(1)))
    (expected, picture, alone), (found, own, _) = mixed
    assert torch.equal(found.tokens, expected.tokens) and found.frame_index == expected.frame_index
    assert int((own.int() - picture.int()).abs().max()) <= 1
    assert not np.array_equal(alone, picture[0].numpy())


@pytest.mark.parametrize("plan", ["maskgit", "frames"])
def test_snapshots_go_from_one_back_end_to_the_other_and_back(plan: str) -> None:
    config = CONFIGS["merged"]
    ours, theirs = native("merged"), make_world(config, dtype=torch.float32)
    for here, there in ((ours, theirs), (theirs, ours)):
        session = started(here, PLANS[plan])
        for action in make_actions(5):
            session.step(action)
        for commits in (False, True):
            if commits:
                session.commit()
            moved = there.session(plan=PLANS[plan])
            moved.restore(there.load_snapshot(session.snapshot().to_bytes()))
            assert moved.snapshot().to_bytes() == session.snapshot().to_bytes()
            plain = session.fork()
            for action in make_actions(6, seed=1):
                assert np.abs(moved.step(action).astype(int) - plain.step(action).astype(int)).max() <= 1
                assert moved.row.tokens.tolist() == plain.row.tokens.tolist()


def test_a_row_that_is_none_is_refused() -> None:
    world = native("plain")
    row = started(world, PLANS["maskgit"]).row
    tensors = world.backend.save_row(row)
    facts: dict[str, Any] = {"seed": 3, "frame_index": 1, "action": 0, "pending": True}
    world.backend.load_row(tensors, **facts)
    for name, value in (
        ("tokens", torch.full_like(tensors["tokens"], 24)),
        ("dynamics", tensors["dynamics"][:, :1]),
        ("decoder", tensors["decoder"].double()),
        ("decoder", torch.full_like(tensors["decoder"], torch.nan)),
        ("change", torch.full_like(tensors["change"], torch.inf)),
    ):
        with pytest.raises(InputError, match=name):
            world.backend.load_row(tensors | {name: value}, **facts)
    with pytest.raises(InputError, match="'spatial'"):
        world.backend.load_row({name: x for name, x in tensors.items() if name != "spatial"}, **facts)


# What it holds.


def test_what_is_let_go_is_freed() -> None:
    world = make_native_world(CONFIGS["plain"])
    session = started(world, PLANS["maskgit"])
    sessions = world.backend.memory_use
    assert sessions.weight_bytes > 0 and sessions.page_bytes > 0
    moments = [session.snapshot() for _ in range(5) if session.step(0) is not None]
    many = world.backend.memory_use.page_bytes
    assert many > sessions.page_bytes
    del moments, session
    gc.collect()
    assert world.backend.memory_use.page_bytes == 0


def test_rows_outlive_their_world() -> None:
    world = make_native_world(CONFIGS["plain"])
    moment = started(world, PLANS["maskgit"]).snapshot()
    row = moment.row
    del world, moment
    gc.collect()
    assert row.tokens.shape == (15,)


def test_threads_play_sessions_of_one_world_as_one_thread_does() -> None:
    world, plans = native("merged"), list(PLANS.values())[:4]
    expected = [play(started(world, plan, seed), make_actions(12)) for seed, plan in enumerate(plans)]
    found: dict[int, Any] = {}

    def run(seed: int, plan: Plan) -> None:
        found[seed] = play(started(world, plan, seed), make_actions(12))

    threads = [threading.Thread(target=run, args=each) for each in enumerate(plans)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[seed] for seed in range(len(plans))] == expected


# Errors.


def test_numbers_that_are_not_finite_are_an_error_and_the_session_stays() -> None:
    config = CONFIGS["plain"]
    model = make_model(config, dtype=torch.float32)
    model.get_parameter("dynamics.transformer.blocks.1.mlp_norm.weight").fill_(
        1e38
    )  # finite, until it is used
    request = BuildRequest(
        backend="native", dtype="float32", device=torch.device("cpu"), bundle=make_world(config).bundle,
        model=lambda: model, rebuild=False,
    )  # fmt: skip
    world = World(request.bundle, build(request), "float32")
    session = world.session(plan=Plan(passes=2))
    session.reset(make_pictures(config, 1)[0])
    before = session.row
    for _ in range(2):
        with pytest.raises(DeviceError, match="finite"):
            session.step(0)
    assert session.row is before


def test_weights_that_are_not_finite_are_refused() -> None:
    config = CONFIGS["plain"]
    model = make_model(config, dtype=torch.float32)
    model.get_parameter("dynamics.transformer.blocks.1.temporal.k_norm").fill_(torch.nan)
    request = BuildRequest(
        backend="native", dtype="float32", device=torch.device("cpu"), bundle=make_world(config).bundle,
        model=lambda: model, rebuild=False,
    )  # fmt: skip
    with pytest.raises(BundleError, match=r"dynamics\.transformer\.blocks\.1\.temporal\.k_norm"):
        build(request)


# The library's file.


def test_the_library_says_what_it_is() -> None:
    loaded = load_library()
    assert loaded.version[:2] == header.VERSION and loaded.build
    assert native("plain").backend.world.instructions in header.INSTRUCTIONS[1:]  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", [b"", b"no library", None])
def test_a_file_that_is_no_library_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / find.library_names()[0]
    if content is None:
        import _ctypes

        path = Path(_ctypes.__file__)  # a library, of something else
    else:
        path.write_bytes(content)
    with pytest.raises(UnsupportedError, match="expected the library of the native engine") as caught:
        Library(path)
    assert str(path) in str(caught.value)


def test_the_variable_names_another_library(tmp_path: Path) -> None:
    found = find.find_library()
    assert found is not None
    other = tmp_path / "mine.so"
    other.write_bytes(found.read_bytes())
    code = (
        "from genie_rt.runtime.backends.native.library import load_library; print(load_library().path); "
        "from genie_rt import World; print(World.load('demo').backend.name)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "GENIE_RT_LIBRARY": str(other)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(other), "native"]


def test_random_weights_play_without_a_file() -> None:
    for dtype in ("float32", "int8"):
        world = World.random("demo", backend="native", dtype=dtype)
        session = world.session(seed=1, passes=2)
        height, width = world.bundle.config.tokenizer.height, world.bundle.config.tokenizer.width
        session.reset(np.full((height, width, 3), 100, np.uint8))
        assert session.step("a1").shape == (*world.output_size, 3)


def test_loading_the_back_end_loads_no_engine_of_graphs() -> None:
    code = (
        "import sys; from genie_rt import World; world = World.load('demo', backend='native'); "
        "sys.exit(bool({'onnx', 'onnxruntime', 'openvino', 'triton'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0

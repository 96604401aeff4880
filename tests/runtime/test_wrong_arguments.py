"""Every argument of every public call, given everything: the right result, or one error that explains itself.

A wrong value raises a `GenieError` that says what was expected and found, and the session, its pool and its
world go on as if the call had not been.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import ACTIONS, make_config, make_pictures, make_world, state_of, used_pages

from genie_rt.errors import GenieError
from genie_rt.runtime.config import DynamicsConfig, LamConfig, ModelConfig, TokenizerConfig, TransformerConfig
from genie_rt.runtime.deadline import Deadline
from genie_rt.runtime.images import check_frame, fit_image, load_image
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.pool import SessionPool
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

CONFIG = make_config(grid=(2, 3), window=2, num_layers=1)
PICTURES = make_pictures(CONFIG, 3)
WORLD = make_world(CONFIG)


class Hostile:
    """Whatever it is asked for raises."""

    def __index__(self) -> int:
        raise RuntimeError("index")

    def __float__(self) -> float:
        raise RuntimeError("float")

    def __len__(self) -> int:
        raise RuntimeError("len")

    def __repr__(self) -> str:
        raise RuntimeError("repr")


VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "1": lambda: 1,
    "-1": lambda: -1,
    "huge": lambda: 10**400,
    "2**63": lambda: 2**63,
    "3.5": lambda: 3.5,
    "1.0": lambda: 1.0,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "complex": lambda: 1j,
    "empty text": lambda: "",
    "text": lambda: "0",
    "an action": lambda: "right",
    "text with NUL": lambda: "a\0b",
    "long text": lambda: "x" * 100_000,
    "no bytes": lambda: b"",
    "bytes": lambda: b"\0\1",
    "bytearray": lambda: bytearray(b"\0"),
    "memoryview": lambda: memoryview(b"\0"),
    "[]": lambda: [],
    "[None]": lambda: [None],
    "[0]": lambda: [0],
    "[[0]]": lambda: [[0]],
    "[[0], [0, 1]]": lambda: [[0], [0, 1]],
    "[[[0]]]": lambda: [[[0]]],
    "()": lambda: (),
    "{}": lambda: {},
    "{0: 0}": lambda: {0: 0},
    "set": lambda: {0},
    "object": object,
    "a type": lambda: int,
    "hostile": Hostile,
    "generator": lambda: (i for i in range(2)),
    "no generator": lambda: iter(()),
    "generator of generators": lambda: (iter([0]) for _ in range(2)),
    "range": lambda: range(2),
    "np.int64": lambda: np.int64(1),
    "np.uint8": lambda: np.uint8(1),
    "np.float32": lambda: np.float32(0.5),
    "np.nan": lambda: np.float64("nan"),
    "np.bool": lambda: np.bool_(True),
    "np.str": lambda: np.str_("left"),
    "np.timedelta64": lambda: np.timedelta64(1),
    "0-d": lambda: np.array(1),
    "0-d text": lambda: np.array("left"),
    "masked": lambda: np.ma.masked,
    "masked 0-d": lambda: np.ma.array(1, mask=True),
    "masked picture": lambda: np.ma.array(PICTURES[0], mask=PICTURES[0] > 9),
    "masked clip": lambda: np.ma.array(PICTURES, mask=False),
    "masked actions": lambda: np.ma.array([0, 1], mask=[False, True]),
    "array": lambda: np.array([0, 1]),
    "array of sequences": lambda: np.array([[0, 1], [1, 1]]),
    "float array": lambda: np.array([0.0, 1.0]),
    "object array": lambda: np.array([None, object()]),
    "torch 0-d": lambda: torch.tensor(1),
    "torch": lambda: torch.tensor([0, 1]),
    "torch meta": lambda: torch.zeros(PICTURES[0].shape, dtype=torch.uint8, device="meta"),
    "torch sparse": lambda: torch.zeros(PICTURES[0].shape, dtype=torch.uint8).to_sparse(),
    "picture": lambda: PICTURES[0].copy(),
    "float picture": lambda: PICTURES[0] / 255,
    "complex picture": lambda: PICTURES[0].astype(complex),
    "object picture": lambda: PICTURES[0].astype(object),
    "truth picture": lambda: PICTURES[0] > 9,
    "channels first": lambda: PICTURES[0].transpose(2, 0, 1),
    "grey": lambda: PICTURES[0, ..., 0],
    "other size": lambda: np.zeros((7, 5, 3), np.uint8),
    "no picture": lambda: np.zeros((0, 0, 3), np.uint8),
    "no clip": lambda: PICTURES[:0],
    "clip": lambda: PICTURES[:2].copy(),
    "list of pictures": lambda: list(PICTURES),
    "five axes": lambda: PICTURES[None],
    "a session": lambda: WORLD.session(),
    "a world": lambda: WORLD,
    "a plan": lambda: Plan(passes=2),
    "a path": lambda: Path("no such file"),
    "a folder": lambda: Path("/"),
}

NUMBERS = {"0", "1", "np.int64", "np.uint8", "0-d", "torch 0-d"}
COUNTS = NUMBERS - {"0"}
REALS = COUNTS | {"1.0", "3.5", "np.float32"}
NAMES = {"an action", "np.str", "0-d text"}
PAIRS = {"generator", "range", "array", "torch", "masked actions"}

Case = tuple[Callable[[Session, SessionPool, Any], object], set[str]]

CALLS: dict[str, Case] = {
    # what is accepted besides errors; everything else must be refused
    "session.step": (lambda s, p, v: s.step(v), NUMBERS | NAMES),
    "session.step_tensor": (lambda s, p, v: s.step_tensor(v), NUMBERS | NAMES),
    "session.step_async": (lambda s, p, v: s.step_async(v).wait(), NUMBERS | NAMES),
    "session.reset(image)": (lambda s, p, v: s.reset(v), {"picture"}),
    "session.reset(clip)": (lambda s, p, v: s.reset(v, [0]), {"clip"}),
    "session.reset(actions of a picture)": (
        lambda s, p, v: s.reset(PICTURES[0], v), {"[]", "()", "no generator", "no picture", "no clip"},
    ),
    "session.reset(actions of a clip)": (
        lambda s, p, v: s.reset(PICTURES, v), {"generator", "range", "array", "torch"},
    ),
    "session.peek": (
        lambda s, p, v: s.peek(v),
        {"None", "[0]", "[]", "()", "set", "generator", "no generator", "range", "array", "torch"}
        | {"no picture", "no clip"},  # arrays of no actions
    ),
    "session.rollout": (
        lambda s, p, v: s.rollout(v), {"[[0]]", "array of sequences", "generator of generators"},
    ),
    "session.rollout(frames)": (lambda s, p, v: s.rollout([[0]], frames=v), {"True", "np.bool"}),
    "session.fork": (lambda s, p, v: s.fork(seed=v), NUMBERS | {"None", "2**63"}),
    "session.restore": (lambda s, p, v: s.restore(v), set()),
    "session.plan": (lambda s, p, v: setattr(s, "plan", v), {"a plan"}),
    "pool.join": (lambda s, p, v: p.join(v), {"None", "a session"}),
    "pool.join(seed)": (lambda s, p, v: p.join(seed=v), NUMBERS | {"2**63"}),
    "pool.leave": (lambda s, p, v: p.leave(v), set()),
    "pool.step": (lambda s, p, v: p.step(v), {"{}"}),
    "pool.step(action)": (lambda s, p, v: p.step({s: v}), NUMBERS | NAMES),
    "world.prompt": (lambda s, p, v: WORLD.prompt(v), set()),  # it has none
    "world.action": (lambda s, p, v: WORLD.action(v), NUMBERS | NAMES),
    "world.plan": (lambda s, p, v: WORLD.plan(v), {"a plan"}),
    "world.session(seed)": (lambda s, p, v: WORLD.session(seed=v), NUMBERS | {"2**63"}),
    "world.session(plan)": (lambda s, p, v: WORLD.session(plan=v), {"a plan"}),
    "world.session(target_ms)": (lambda s, p, v: WORLD.session(target_ms=v), REALS | {"None", "2**63"}),
    "world.session(passes)": (lambda s, p, v: WORLD.session(passes=v), COUNTS),
    "world.session(temperature)": (lambda s, p, v: WORLD.session(temperature=v), REALS),
    "world.session(noise)": (lambda s, p, v: WORLD.session(noise=v), REALS | {"0"}),
    "world.session(threshold)": (lambda s, p, v: WORLD.session(threshold=v), REALS - {"3.5"}),
    "world.session(fresh)": (lambda s, p, v: WORLD.session(fresh=v), REALS - {"3.5"}),
    "world.session(order)": (lambda s, p, v: WORLD.session(order=v), set()),
    "world.session(reuse)": (lambda s, p, v: WORLD.session(reuse=v), set()),
    "world.pool": (lambda s, p, v: WORLD.pool(v), COUNTS),
    "world.pool(plan)": (lambda s, p, v: WORLD.pool(1, plan=v), {"a plan"}),
    "world.warm_up(slots)": (lambda s, p, v: WORLD.warm_up(slots=v), COUNTS),
    "world.warm_up(peek)": (lambda s, p, v: WORLD.warm_up(peek=v), NUMBERS),
    "world.load_snapshot": (lambda s, p, v: WORLD.load_snapshot(v), set()),
    "World.load": (lambda s, p, v: World.load(v), set()),
    "World.load(backend)": (lambda s, p, v: World.load("none", backend=v), set()),
    "World.load(dtype)": (lambda s, p, v: World.load("none", dtype=v), set()),
    "World.load(device)": (lambda s, p, v: World.load("none", device=v), set()),
    "World.load(rebuild)": (lambda s, p, v: World.load("none", rebuild=v), set()),
    "World.load(warm_up)": (lambda s, p, v: World.load("none", warm_up=v), set()),
    "World.random": (lambda s, p, v: World.random(v), set()),
    "World.random(seed)": (lambda s, p, v: World.random("none", seed=v), set()),
    "World.random(device)": (lambda s, p, v: World.random("none", device=v), set()),
    "SessionPool(slots)": (lambda s, p, v: SessionPool(WORLD, v, plan=Plan(passes=2)), COUNTS),
    "SessionPool(plan)": (lambda s, p, v: SessionPool(WORLD, 1, plan=v), {"a plan"}),
    "Session(seed)": (lambda s, p, v: Session(WORLD, seed=v, plan=Plan(passes=2)), NUMBERS | {"2**63"}),
    "Plan(passes)": (lambda s, p, v: Plan(passes=v), COUNTS),
    "Plan(temperature)": (lambda s, p, v: Plan(temperature=v), REALS),
    "plan.replace": (lambda s, p, v: Plan().replace(noise=v), REALS | {"0"}),
    "Deadline(target_ms)": (lambda s, p, v: Deadline(v, 4), REALS | {"2**63"}),
    "Deadline(most)": (lambda s, p, v: Deadline(10, v), COUNTS),
    "snapshot.save": (lambda s, p, v: s.snapshot().save(v), {"text", "an action", "np.str", "a path"}),
    "load_image": (lambda s, p, v: load_image(v), set()),
    "fit_image": (lambda s, p, v: fit_image(v, 2, 2), {"picture", "other size"}),
    "fit_image(height)": (lambda s, p, v: fit_image(PICTURES[0], v, 2), COUNTS),
    "check_frame": (lambda s, p, v: check_frame(v, *PICTURES.shape[1:3]), {"picture"}),
    "TransformerConfig": (
        lambda s, p, v: TransformerConfig(
            num_layers=v, width=4, num_heads=1, head_width=4, mlp_width=4, window=2
        ),
        COUNTS,
    ),
    "TokenizerConfig": (
        lambda s, p, v: TokenizerConfig(
            height=4, width=4, patch=2, decoder_patch=2, codebook_size=4, codebook_dim=4, encoder=v,
            decoder=CONFIG.tokenizer.decoder,
        ),
        set(),
    ),
    "LamConfig": (
        lambda s, p, v: LamConfig(
            patch=2, num_actions=2, codebook_dim=4, encoder=CONFIG.tokenizer.encoder,
            decoder=CONFIG.tokenizer.decoder, inputs=v,
        ),
        set(),
    ),
    "DynamicsConfig(copy_logit)": (
        lambda s, p, v: DynamicsConfig(
            transformer=CONFIG.dynamics.transformer, num_actions=2, copy_logit=v
        ),
        {"True", "np.bool"},
    ),
    "ModelConfig": (
        lambda s, p, v: ModelConfig(tokenizer=CONFIG.tokenizer, dynamics=CONFIG.dynamics, lam=v), {"None"},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def players() -> Iterator[tuple[Session, SessionPool]]:
    """A session with a past, in a pool with room for one."""
    session = WORLD.session(seed=7)
    session.reset(PICTURES[0])
    session.step(1)
    session.peek([0])
    pool = WORLD.pool(2)
    pool.join(session)
    yield session, pool


def states_of(session: Session, pool: SessionPool) -> tuple[Any, ...]:
    """All that a call may change: the session, what it peeked, its plan, who is in the pool, all pages."""
    return (
        state_of(session), session.row.pending, id(session.row), session.seed, session.plan, session.stats,
        sorted(session._peeked), pool.sessions, used_pages(WORLD), dict(session.turn.holders),
        dict(pool.turn.holders),
    )  # fmt: skip


@pytest.mark.parametrize("call", CALLS)
def test_every_value_is_refused_in_words_or_rightly_taken(
    call: str, players: tuple[Session, SessionPool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    session, pool = players
    attempt, accepted = CALLS[call]
    moment, before = session.snapshot(), states_of(session, pool)
    seen = set()
    for name, make in VALUES.items():
        try:
            attempt(session, pool, make())
        except GenieError as error:
            assert states_of(session, pool) == before, name
            text = str(error)
            assert 20 < len(text) < 1000 and "<generator object Session" not in text, (name, text)
            continue
        seen.add(name)
        for other in pool.sessions[1:]:
            pool.leave(other)
        session.plan = WORLD.plan()
        session.restore(moment)
        session.peek([0])
        before = states_of(session, pool)
    assert seen == accepted, f"wrongly taken {seen - accepted}, wrongly refused {accepted - seen}"


@pytest.mark.parametrize(
    ("value", "index"),
    [(np.int64(1), 1), (np.uint8(2), 2), (np.array(1), 1), (torch.tensor(2), 2), (np.str_("left"), 0),
     (np.array("stay"), 1)],
    ids=repr,
)  # fmt: skip
def test_a_scalar_of_another_library_is_the_action_that_it_says(value: Any, index: int) -> None:
    assert WORLD.action(value) == index == WORLD.action(ACTIONS[index])


def test_numbers_of_numpy_give_the_frames_of_pythons() -> None:
    frames = []
    for kind in (int, np.int64, np.uint8, np.array, torch.tensor):
        real = float if kind is int else np.float64
        session = WORLD.session(
            seed=kind(5), passes=kind(2), temperature=real(0.5), noise=real(0.25), target_ms=real(1e9)
        )
        session.reset(PICTURES, [kind(0), kind(1)])
        frames.append([session.step(kind(2)).tobytes(), session.peek([kind(1)])[ACTIONS[1]].tobytes()])
        assert type(session.seed) is type(session.plan.passes) is int
        assert type(session.plan.temperature) is type(session.plan.noise) is float
        moment = WORLD.load_snapshot(session.snapshot().to_bytes())  # which knows Python's numbers only
        assert moment.row.seed == 5
    assert all(each == frames[0] for each in frames)


def test_a_config_of_numpy_numbers_is_that_of_pythons() -> None:
    sizes = {"num_layers": 1, "width": 4, "num_heads": 1, "head_width": 4, "mlp_width": 4, "window": 2}
    config = TransformerConfig(**{name: np.int64(size) for name, size in sizes.items()})
    assert config == TransformerConfig(**sizes) and type(config.width) is int


def test_actions_without_an_end_are_counted_no_further_than_needed() -> None:
    def for_ever() -> Iterator[int]:
        while True:
            yield 0

    with pytest.raises(GenieError, match=r"expected 2 actions for 3 pictures .*, found more"):
        WORLD.session().reset(PICTURES, for_ever())
    for text, message in (("right", r"write \['right'\]"), (b"\0\1", "bytes")):
        with pytest.raises(GenieError, match=message):
            WORLD.session().reset(PICTURES, text)  # type: ignore[arg-type]

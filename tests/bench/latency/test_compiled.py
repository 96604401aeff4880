"""The compiled baseline computes what a session does, from rings that are written in place."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from makers import make_actions, make_config, make_pictures, make_tensor, make_world

from genie_rt.bench.latency.compiled import CompiledRollout, FrameFunction, RingTransformer
from genie_rt.bench.latency.workloads import Past
from genie_rt.errors import InputError
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session

SEED = 2**64 - 3


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    """What one test compiled counts towards the compiler's limit in no other."""
    yield
    torch.compiler.reset()


def start(config: ModelConfig, plan: Plan, *, known: int = 1, seed: int = SEED) -> tuple[Session, Past]:
    """A session of so many frames, and all of them."""
    session = make_world(config).session(plan=plan, seed=seed)
    session.reset(make_pictures(config, 1)[0])
    rows = [session.row]
    for action in make_actions(known - 1, seed=1):
        session.step(action)
        rows.append(session.row)
    tokens = torch.stack([row.tokens for row in rows])
    return session, Past(
        snapshot=session.snapshot(), tokens=tokens, actions=tuple(row.action for row in rows)
    )


def rollout(past: Past, plan: Plan, **options: Any) -> CompiledRollout:
    model, row = past.snapshot.world.backend.model, past.snapshot.row  # type: ignore[attr-defined]
    return CompiledRollout(
        model, past.tokens, past.actions, row.frame_index, plan=plan, seed=row.seed, **options
    )


CONFIGS = {
    "plain": make_config(window=4),
    "merged": make_config(grid=(4, 6), merge=2, window=3, decoder_window=5),
    "alone": make_config(window=1),
    "wide decoder": make_config(window=2, decoder_window=7),
}


@pytest.mark.parametrize("plan", [Plan(passes=1), Plan(passes=5, temperature=0.8), Plan(passes=2, noise=0)])
@pytest.mark.parametrize("known", [1, 2, 9])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_its_tokens_and_pictures_are_those_of_a_session(config: ModelConfig, known: int, plan: Plan) -> None:
    session, past = start(config, plan, known=known)
    frames = rollout(past, plan, compiler=None)
    for t, action in enumerate(make_actions(10)):  # more than any window
        picture, expected = frames.step(action), session.step(action)
        assert torch.equal(frames.tokens[0, -1], session.row.tokens), f"frame {t}"
        assert np.array_equal(picture, expected), f"frame {t}"
        assert frames.stats == session.stats
    assert frames.stats == FrameStats(passes=plan.passes, tokens=plan.passes * config.tokenizer.num_tokens)


@pytest.mark.parametrize("known", [1, 6])
def test_it_is_one_graph_and_stays_the_same_function(known: int) -> None:
    """`fullgraph=True` raises where a frame breaks into several; what follows the first frame is replayed."""
    plan = Plan(passes=2)
    session, past = start(make_config(grid=(4, 6), merge=2, num_layers=1), plan, known=known)
    frames = rollout(past, plan, compiler="aot_eager")
    for action in make_actions(8):
        assert np.array_equal(frames.step(action), session.step(action))
        assert torch.equal(frames.tokens[0, -1], session.row.tokens)


def test_a_frame_is_compiled_once() -> None:
    compiled: list[int] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Any:
        compiled.append(len(inputs))
        return graph.forward

    plan = Plan(passes=2)
    _, past = start(make_config(num_layers=1), plan, known=3)
    frames = rollout(past, plan, compiler=counting)
    for action in make_actions(12):
        frames.step(action)
    assert len(compiled) == 1


def test_reuse_is_left_out() -> None:
    whole, reuse = Plan(passes=3), Plan(passes=3, reuse="frames", fresh=0.4)
    session, past = start(make_config(), whole)
    frames = rollout(past, reuse, compiler=None)
    for action in make_actions(5):
        assert np.array_equal(frames.step(action), session.step(action))


@pytest.mark.parametrize("spoil", ["age", "slot", "pending"])
def test_a_ring_that_is_wrong_shows(spoil: str) -> None:
    """The equality above is no accident: one stale frame, one age off or a lost commit changes the tokens."""
    plan = Plan(passes=3)
    session, past = start(make_config(), plan, known=6)
    frames = rollout(past, plan, compiler=None)
    ring = frames.frame.dynamics
    match spoil:
        case "age":
            ring.bias.copy_(ring.bias.roll(1, -1))
        case "slot":
            layer = ring.layers[0]
            layer.keys[(session.frame_index - 2) % ring.num_slots] = 0.5
        case "pending":
            frames.frame.action.fill_((session.row.action + 1) % 3)
    actions = make_actions(6)
    ours = [(frames.step(action), frames.tokens[0, -1].clone())[1] for action in actions]
    theirs = [(session.step(action), session.row.tokens)[1] for action in actions]
    assert not torch.equal(torch.stack(ours), torch.stack(theirs))


def test_a_ring_is_the_transformer_over_its_window() -> None:
    """Frames one by one, and two at a time, are those of a clip that is seen whole."""
    config = make_config(window=3)
    model = make_world(config).backend.model  # type: ignore[attr-defined]
    transformer, places = model.dynamics.transformer, config.num_positions
    x = make_tensor(1, 11, places, 16)
    expected, _ = transformer(x, causal_ages(11, 3))
    for pace in (1, 2):
        ring = RingTransformer(transformer, places, num_frames=2)
        for t in range(pace - 1, 11):
            out = ring(x[:, t - pace + 1 : t + 1], torch.tensor([t]))
            torch.testing.assert_close(out[0, -1], expected[0, t], rtol=0, atol=1e-12)
            torch.testing.assert_close(out[0, 0], expected[0, t - pace + 1], rtol=0, atol=1e-12)


def test_rings_are_written_in_place_and_weights_are_shared() -> None:
    plan = Plan(passes=2)
    _, past = start(make_config(), plan)
    frames = rollout(past, plan, compiler=None)
    model = past.snapshot.world.backend.model  # type: ignore[attr-defined]
    state = dict(frames.frame.named_buffers())
    where = {name: buffer.data_ptr() for name, buffer in state.items()}
    for action in make_actions(6):
        frames.step(action)
    assert {name: buffer.data_ptr() for name, buffer in frames.frame.named_buffers()} == where
    assert state["dynamics.layers.0.keys"].shape == (5, 15, 2, 6)  # W + 1, for the pass over two frames
    assert state["decoder.layers.0.keys"].shape == (4, 15, 2, 6)
    own = {weight.data_ptr() for weight in model.parameters()}
    assert {weight.data_ptr() for weight in frames.frame.parameters()} <= own


@pytest.mark.parametrize("order", ["adaptive", "random", "halton"])
def test_other_orders_are_refused(order: str) -> None:
    _, past = start(make_config(), Plan(passes=2))
    with pytest.raises(InputError, match=f"order \"maskgit\" alone, found '{order}'"):
        rollout(past, Plan(order=order, passes=2))


def test_frames_that_are_missing_are_refused() -> None:
    plan = Plan(passes=2)
    _, past = start(make_config(), plan, known=3)
    with pytest.raises(InputError, match=r"all 3 frames since the reset, .* found 2 and 2"):
        CompiledRollout(
            past.snapshot.world.backend.model,  # type: ignore[attr-defined]
            past.tokens[1:], past.actions[1:], 2, plan=plan, seed=0,
        )  # fmt: skip


def test_bfloat16_rings_hold_bfloat16() -> None:
    config, plan = make_config(), Plan(passes=2)
    world = make_world(config, dtype=torch.bfloat16)
    function = FrameFunction(world.backend.model, plan, 1)  # type: ignore[attr-defined]
    function.fill(torch.zeros(1, 15, dtype=torch.int64), [-1])
    for _ in range(6):
        picture = function(torch.tensor([1]))
    assert picture.dtype == torch.uint8
    assert {ring.dtype for name, ring in function.named_buffers() if name.endswith("keys")} == {
        torch.bfloat16
    }
    assert int(function.tokens.min()) >= 0 and int(function.tokens.max()) < 24

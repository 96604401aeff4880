"""Spatial reuse: at all positions it is the exact path; at some it computes what it says, and no more."""

from dataclasses import replace

import pytest
import torch
from comparator import assert_close_norm
from makers import make_actions, make_backend, make_config, make_pictures, make_tensor
from torch import Tensor

from genie_rt.runtime.backends.frame_forward import AttentionContext, FrameForward, forward_frame
from genie_rt.runtime.backends.frame_reuse import FORGET, spread_of_change
from genie_rt.runtime.backends.reference import Evaluated, ReferenceBackend, ReferencePasses
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.model.dynamics import NULL_ACTION, UNDECIDED
from genie_rt.runtime.plan import Plan

CONFIG = make_config(grid=(4, 6), merge=2)
N, P, S = 24, 6, 4


def start(backend: ReferenceBackend, seed: int = 0) -> Row:
    pictures = torch.from_numpy(make_pictures(backend.config, 2, seed))
    return backend.prefill(seed, pictures, [NULL_ACTION, 1])[0]


def with_kept_keys(
    backend: ReferenceBackend,
    row: Row,
    plan: Plan = Plan(passes=2, reuse="frames"),  # noqa: B008  frozen
) -> Row:
    """The row one frame later, with what `reuse="frames"` goes on from."""
    (row,), _, _ = backend.frame([row], [2], plan)
    return row


def play(backend: ReferenceBackend, row: Row, plan: Plan, count: int = 8) -> tuple[list[Tensor], list[int]]:
    """The tokens of each frame, and how many tokens were computed for it."""
    tokens, computed = [], []
    for action in make_actions(count):
        (row,), _, (stats,) = backend.frame([row], [action], plan)
        tokens.append(row.tokens)
        computed.append(stats.tokens)
    return tokens, computed


def same(a: list[Tensor], b: list[Tensor]) -> list[bool]:
    return [torch.equal(x, y) for x, y in zip(a, b, strict=True)]


def make_context(seed: int = 0) -> AttentionContext:
    """Two past frames, newest first."""
    keys_values = [
        (make_tensor(2, P, 2, 6, seed=seed + i), make_tensor(2, P, 2, 6, seed=seed + 9 + i)) for i in range(3)
    ]
    return AttentionContext(keys_values=keys_values, ages=torch.arange(3))


def test_all_positions_in_any_order_are_the_transformer() -> None:
    transformer = make_backend(CONFIG).model.dynamics.transformer
    x, context = make_tensor(P, 16, seed=1), make_context()
    history = [(k[None], v[None]) for k, v in context.keys_values]
    expected, kept = transformer(x[None, None], torch.tensor([[[1, 2, 0]]]), history)
    whole = forward_frame(transformer, x, context)
    assert_close_norm(whole.hidden, expected[0, 0])
    junk = [(k + 7, v - 7) for k, v in whole.spatial]
    index = torch.randperm(P, generator=torch.Generator().manual_seed(3))
    part = forward_frame(transformer, x[index], context.at(index), spatial=junk, index=index)
    assert_close_norm(part.hidden, expected[0, 0, index])
    for layer in range(3):
        for i in range(2):
            assert_close_norm(whole.temporal[layer][i], kept[layer][i][0, 0])
            assert_close_norm(part.temporal[layer][i], kept[layer][i][0, 0, index])
            assert_close_norm(part.spatial[layer][i], whole.spatial[layer][i])


def test_positions_that_are_left_out_keep_what_spatial_attention_saw() -> None:
    transformer = make_backend(CONFIG).model.dynamics.transformer
    x, context, index = make_tensor(P, 16), make_context(), torch.tensor([4, 1])
    before = forward_frame(transformer, x, context).spatial
    saved = [(k.clone(), v.clone()) for k, v in before]
    other = make_tensor(2, 16, seed=5)
    part = forward_frame(transformer, other, context.at(index), spatial=before, index=index)
    for layer in range(3):
        for old, kept, new in zip(saved[layer], before[layer], part.spatial[layer], strict=True):
            assert torch.equal(old, kept)  # not written to
            unchanged = (old == new).all(-1).all(-1)
            assert unchanged.tolist() == [True, False, True, True, False, True]
    whole = x.clone()
    whole[index] = other
    expected = forward_frame(transformer, whole, context).hidden
    assert not torch.allclose(part.hidden, expected[index])  # it is an approximation


@pytest.mark.parametrize("passes", [2, 4, 12])
def test_frames_that_recompute_every_position_are_exact(passes: int) -> None:
    plan = Plan(passes=passes)
    backend = make_backend(CONFIG)
    exact, _ = play(backend, start(backend), plan)
    reused, computed = play(backend, start(backend), plan.replace(reuse="frames", fresh=1.0))
    assert all(same(exact, reused))
    assert all(count % N == 0 for count in computed)


@pytest.mark.parametrize("order", ["halton", "random"])
def test_passes_that_recompute_every_position_are_exact(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With two passes all positions were just decided or are about to be; with more, a test makes them so."""
    plan = Plan(order=order, passes=2, reuse="passes")
    backend = make_backend(CONFIG)
    reused, computed = play(backend, start(backend), plan)
    assert set(computed) == {2 * N}

    at = ReferencePasses.at

    def first(done: Evaluated, index: Tensor) -> Evaluated:
        forward = FrameForward(
            hidden=done.forward.hidden[index], temporal=done.forward.temporal, spatial=done.forward.spatial
        )
        return Evaluated(forward, False)

    def everywhere(passes: ReferencePasses, k: int, tokens: Tensor, index: Tensor) -> Evaluated:
        others = [position for position in range(P) if position not in index[0].tolist()]
        order = [*index[0].tolist(), *others]
        return first(at(passes, k, tokens, torch.tensor([order])), torch.arange(index.shape[1]))

    def whole(passes: ReferencePasses, k: int, tokens: Tensor, index: Tensor) -> Evaluated:
        return first(passes.full(k, tokens), index[0])

    for passes in (2, 3, 6):
        found = []
        for way in (everywhere, whole):
            monkeypatch.setattr(ReferencePasses, "at", way)
            backend = make_backend(CONFIG)
            found.append(play(backend, start(backend), plan.replace(passes=passes))[0])
        assert all(same(*found))
        if passes == 2:
            assert all(same(found[0], reused))


def test_tokens_computed_are_those_of_the_query_sets() -> None:
    backend = make_backend(CONFIG)
    plan = Plan(order="halton", passes=3, reuse="passes")
    done = [plan.decided_after(k, P) for k in range(3)]
    assert done == [1, 3, 6]
    _, computed = play(backend, start(backend), plan)
    assert set(computed) == {N + S * (3 + 5)}  # all; the 1 and the next 2; these 2 and the last 3
    exact, _ = play(backend, start(backend), plan.replace(reuse="none"))
    reused, _ = play(backend, start(backend), plan)
    assert not all(same(exact, reused))

    _, computed = play(backend, start(backend), Plan(passes=4, reuse="frames", fresh=0.5))
    assert computed == [4 * N] + [S * 3 + 3 * N] * 7  # the first frame has nothing to go on from


def test_the_first_pass_computes_where_most_changed_lately() -> None:
    backend = make_backend(CONFIG)
    row = with_kept_keys(backend, start(backend))
    assert row.carried is not None
    change = torch.tensor([0.0, 3.0, 1.0, 3.0, 9.0, 0.5])
    row = replace(row, carried=replace(row.carried, change=change))
    asked = []
    at = ReferencePasses.at

    def record(passes: ReferencePasses, k: int, tokens: Tensor, index: Tensor) -> Evaluated:
        asked.append(index.tolist())
        return at(passes, k, tokens, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ReferencePasses, "at", record)
        backend.frame([row], [0], Plan(passes=2, reuse="frames", fresh=0.5))
        backend.frame([row], [0], Plan(passes=2, reuse="frames", fresh=0.01))
    assert asked == [[[4, 1, 3]], [[4]]]


def test_change_counts_new_tokens_around_and_forgets_by_half() -> None:
    backend = make_backend(CONFIG)  # positions 2 x 3
    row, before = start(backend), torch.tensor([[8.0, 0, 0, 0, 0, 0]])
    tokens = row.tokens.clone()
    tokens[0] = (tokens[0] + 1) % 24  # token 0 lies at position 0
    tokens[23] = (tokens[23] + 1) % 24  # token 23 at position 5
    found = spread_of_change(row.tokens[None], tokens[None], before, backend.members, CONFIG)[0]
    assert found.tolist() == [8 * FORGET + 1, 2, 1, 1, 2, 1]


def test_a_row_without_kept_keys_computes_everything_once() -> None:
    backend = make_backend(CONFIG)
    row, plan = start(backend), Plan(passes=2, reuse="frames", fresh=0.5)
    (reused,), _, (stats,) = backend.frame([row], [0], plan)
    assert stats.tokens == 2 * N
    (exact,), _, _ = backend.frame([row], [0], plan.replace(reuse="none"))
    assert torch.equal(exact.tokens, reused.tokens)
    assert reused.carried is not None and exact.carried is None
    _, _, (stats,) = backend.frame([reused], [0], plan)
    assert stats.tokens == N // 2 + N


@torch.inference_mode()
def test_what_is_kept_is_of_the_first_pass() -> None:
    """There every place is still masked; what later passes see would tell the next frame to stand still."""
    backend = make_backend(CONFIG)
    row, plan = start(backend), Plan(passes=4, reuse="frames")
    later = with_kept_keys(backend, row, plan)
    assert later.carried is not None
    kept = backend.dynamics_pages.view(later.carried.spatial)
    (row,) = backend.commit([row])
    uniforms = torch.zeros(4, 1, N)
    passes = ReferencePasses(backend, row, backend._context(row), 2, plan, uniforms, uniforms)
    done = passes.full(0, torch.full((1, N), UNDECIDED))
    for layer, around in enumerate(done.forward.spatial):
        for page, expected in zip(kept[layer], around, strict=True):
            assert torch.equal(page, expected)


@pytest.mark.parametrize(
    "plan",
    [Plan(passes=4, reuse="frames"), Plan(order="random", passes=4, reuse="passes"),
     Plan(order="halton", passes=4, reuse="passes"), Plan(order="adaptive", passes=6, threshold=0.2)],
    ids=lambda plan: f"{plan.order}-{plan.reuse}",
)  # fmt: skip
def test_rows_do_not_depend_on_their_neighbours(plan: Plan) -> None:
    """Pending, committed and asked several times; with kept keys and without."""
    backend = make_backend(CONFIG)
    rows = [start(backend, seed) for seed in range(3)]
    rows.append(backend.commit([start(backend, 3)])[0])
    rows.append(with_kept_keys(backend, start(backend, 4)))
    rows += backend.commit([with_kept_keys(backend, start(backend, 5))])
    alone = list(rows)
    for step in range(4):
        actions = [(step + i) % 3 for i in range(len(rows))]
        rows, pictures, stats = backend.frame(rows, actions, plan)
        for i, action in enumerate(actions):
            (alone[i],), (picture,), (taken,) = backend.frame([alone[i]], [action], plan)
            assert torch.equal(rows[i].tokens, alone[i].tokens) and torch.equal(pictures[i], picture)
            assert stats[i] == taken
        asked, _, _ = backend.frame([rows[0]] * 3, [0, 1, 2], plan)
        for action, row in enumerate(asked):
            (one,), _, _ = backend.frame([rows[0]], [action], plan)
            assert torch.equal(row.tokens, one.tokens)

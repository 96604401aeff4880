"""The reference back end: a batch is its rows, and narrow precisions stay close to float64."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from comparator import TOLERANCE, assert_close_norm
from makers import make_actions, make_backend, make_config, make_model, make_pictures
from torch import Tensor

from genie_rt.kernels.philox.reference import uniforms
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import NULL_ACTION, UNDECIDED
from genie_rt.runtime.plan import Plan

CONFIG = make_config()
PLAN = Plan(passes=3)


def prefilled(backend: ReferenceBackend, num_frames: int, seed: int) -> Row:
    pictures = torch.from_numpy(make_pictures(backend.model.config, num_frames, seed))
    row, _ = backend.prefill(seed, pictures, [NULL_ACTION, *make_actions(num_frames - 1, seed)])
    return row


def contents(backend: ReferenceBackend, row: Row) -> dict[str, list[Tensor]]:
    return {
        "dynamics": [backend.dynamics_pages.view(page) for page in row.dynamics],
        "decoder": [backend.decoder_pages.view(page) for page in row.decoder],
    }


@pytest.mark.parametrize("lengths", [(1, 2, 3, 6), (6, 1), (1, 1, 1), (5, 9, 6)])
def test_a_batch_of_rows_with_different_histories_is_its_rows(lengths: tuple[int, ...]) -> None:
    backend = make_backend(CONFIG)
    rows = [prefilled(backend, length, seed) for seed, length in enumerate(lengths)]
    singles = list(rows)
    for step in range(5):
        actions = [(step + i) % 3 for i in range(len(rows))]
        rows, pictures, stats = backend.frame(backend.commit(rows), actions, PLAN)
        assert {each.passes for each in stats} == {3} and pictures.shape[0] == len(rows)
        for i, (row, action) in enumerate(zip(rows, actions, strict=True)):
            (singles[i],), (picture,), _ = backend.frame(backend.commit([singles[i]]), [action], PLAN)
            alone = singles[i]
            assert torch.equal(row.tokens, alone.tokens)
            assert torch.equal(pictures[i], picture)
            assert (row.frame_index, row.seed, row.action) == (alone.frame_index, alone.seed, alone.action)
            for kind, pages in contents(backend, row).items():
                for ours, theirs in zip(pages, contents(backend, alone)[kind], strict=True):
                    assert_close_norm(ours, theirs)


def test_the_order_of_rows_does_not_matter() -> None:
    backend = make_backend(CONFIG)
    rows = backend.commit([prefilled(backend, length, seed) for seed, length in enumerate((1, 4, 2))])
    forward, _, _ = backend.frame(rows, [0, 1, 2], PLAN)
    backward, _, _ = backend.frame(rows[::-1], [2, 1, 0], PLAN)
    for a, b in zip(forward, backward[::-1], strict=True):
        assert torch.equal(a.tokens, b.tokens)


def test_a_commit_leaves_rows_alone_that_are_committed() -> None:
    backend = make_backend(CONFIG)
    rows = [prefilled(backend, length, seed) for seed, length in enumerate((2, 3, 1))]
    (done,) = backend.commit([rows[1]])
    used = backend.dynamics_pages.num_used
    first, second, third = backend.commit([rows[0], done, rows[2]])
    assert second is done
    assert backend.dynamics_pages.num_used == used + 2
    for mixed, row in ((first, rows[0]), (third, rows[2])):
        (alone,) = backend.commit([row])
        for ours, theirs in zip(
            contents(backend, mixed)["dynamics"], contents(backend, alone)["dynamics"], strict=True
        ):
            assert_close_norm(ours, theirs)


def test_rows_that_go_in_are_not_changed() -> None:
    backend = make_backend(CONFIG)
    row = prefilled(backend, 3, 0)
    tokens, pages = row.tokens.clone(), [page.clone() for page in contents(backend, row)["dynamics"]]
    (committed,) = backend.commit([row])
    backend.frame([committed], [1], PLAN)
    assert torch.equal(row.tokens, tokens) and row.pending and not committed.pending
    for before, after in zip(pages, contents(backend, row)["dynamics"], strict=True):
        assert torch.equal(before, after)


# Narrow precisions, teacher-forced: float64's tokens feed every pass, so errors do not compound into
# another rollout. Weights are rounded to bfloat16 first and are then the same in every precision.

PROBABILITY_BOUND = {torch.float32: 1e-5, torch.bfloat16: 0.05}
"""Largest error of the distribution function: below the largest error of a logit, which is about `TOLERANCE`
of the logits' size, here 1 to 4."""


@dataclass
class Pass:
    expected: Tensor
    found: Tensor
    frame: int
    index: int


def teacher_forced(config: ModelConfig, dtype: torch.dtype, num_frames: int) -> Iterator[Pass]:
    """Every pass of a float64 rollout, beside its logits in `dtype`."""
    cpu = torch.device("cpu")
    wide = ReferenceBackend(make_model(config, dtype=torch.bfloat16), cpu, torch.float64)
    narrow = ReferenceBackend(make_model(config, dtype=torch.bfloat16), cpu, dtype)
    row = prefilled(wide, 1, 0)
    forced = replace(row, dynamics=(), decoder=())
    for action in make_actions(num_frames):
        (row,), (forced,) = wide.commit([row]), narrow.commit([forced])
        tokens, decided = torch.full_like(row.tokens, UNDECIDED)[None], torch.zeros(1, len(row.tokens)) > 0
        for index in range(PLAN.passes):
            expected, found = (
                backend.probe([state], [action], tokens, PLAN, index)
                for backend, state in ((wide, row), (narrow, forced))
            )
            yield Pass(expected.logits, found.logits, row.frame_index + 1, index)
            keep = PLAN.decided_after(index, 24) - int(decided.sum())
            now = (~decided[0]).nonzero()[:keep, 0]  # any will do: the same go in on both sides
            tokens[0, now] = expected.candidates[0, now]
            decided[0, now] = True
        (row,), _ = wide.show([row], [action], tokens)
        forced = replace(forced, tokens=row.tokens, action=action, pending=True, frame_index=row.frame_index)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("merge", [1, 2])
def test_narrow_logits_follow_those_of_float64(dtype: torch.dtype, merge: int) -> None:
    config = make_config(grid=(4, 6), merge=merge)
    passes = list(teacher_forced(config, dtype, 12))
    assert len(passes) == 36
    for each in passes:
        assert_close_norm(each.found, each.expected, dtype)
        cdfs = [x.double().softmax(-1).cumsum(-1) for x in (each.expected, each.found)]
        assert (cdfs[0] - cdfs[1]).abs().max() < PROBABILITY_BOUND[dtype]
        u, _ = uniforms(torch.tensor([0]), torch.tensor([each.frame]), each.index, 24)
        ours, theirs = ((cdf <= u[..., None]).sum(-1) for cdf in cdfs)
        gap = (cdfs[0] - u[..., None]).abs().min(-1).values  # of u to the nearest boundary
        assert (gap[ours != theirs] < PROBABILITY_BOUND[dtype]).all()


def test_teacher_forcing_sees_a_wrong_history() -> None:
    """The bound is not so wide that a missing page would pass."""
    config = make_config(grid=(4, 6))
    backend = make_backend(config)
    (row,) = backend.commit([prefilled(backend, 5, 0)])
    nothing = torch.full((1, 24), UNDECIDED)
    whole = backend.probe([row], [1], nothing, PLAN, 0).logits
    short = backend.probe([replace(row, dynamics=row.dynamics[:-1])], [1], nothing, PLAN, 0).logits
    assert (whole - short).norm() / whole.norm() > 2 * TOLERANCE[torch.bfloat16]

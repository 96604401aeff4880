"""The dynamics' inputs and outputs: what a token, its predecessor and the action add, and where."""

from dataclasses import replace

import pytest
import torch
from comparator import assert_close_norm
from makers import ACTIONS, make_config, make_model, make_tensor
from torch import Tensor

from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import NULL_ACTION, UNDECIDED, Dynamics, previous_frame
from genie_rt.runtime.model.world_model import WorldModel, parameter_shapes

B, T, V, D = 2, 6, 24, 16
MERGED = make_config(grid=(4, 6), merge=2)
PLAIN = make_config(grid=(4, 6))
N = 24


def make_tokens(seed: int = 0) -> Tensor:
    return torch.randint(V, (B, T, N), generator=torch.Generator().manual_seed(seed))


def make_actions() -> Tensor:
    return torch.tensor([[NULL_ACTION, 0, 1, 2, 0, NULL_ACTION], [NULL_ACTION, 2, 2, 1, 0, 1]])


def some_masked(tokens: Tensor) -> Tensor:
    return torch.where(make_tensor(*tokens.shape, seed=9) > 0, UNDECIDED, tokens)


def test_merging_keeps_neighbours_together_and_splitting_undoes_it() -> None:
    dynamics = Dynamics(MERGED)
    x = torch.arange(24.0).view(1, 1, 24, 1)
    merged = dynamics._merge(x)[0, 0]
    assert merged.shape == (6, 4)
    assert merged[0].tolist() == [0, 1, 6, 7]  # rows of six: two beside each other and two below
    assert merged[4].tolist() == [14, 15, 20, 21]
    vectors = make_tensor(B, T, N, 8)
    assert torch.equal(dynamics._split(dynamics._merge(vectors)), vectors)


@pytest.mark.parametrize("config", [PLAIN, MERGED], ids=["plain", "merged"])
def test_inputs_are_their_sum(config: ModelConfig) -> None:
    model = make_model(config)
    dynamics, table = model.dynamics, model.token_table()
    tokens, previous, actions = some_masked(make_tokens()), previous_frame(make_tokens(1)), make_actions()
    out = dynamics.embed(tokens, previous, actions, table)
    merge, (rows, columns) = config.dynamics.merge, config.tokenizer.grid
    for b, t, row, column in [(0, 0, 0, 0), (1, 3, 1, 2), (0, 5, rows // merge - 1, columns // merge - 1)]:
        own, before = [], []
        for y in range(merge):
            for x in range(merge):
                place = (row * merge + y) * columns + column * merge + x
                token, predecessor = int(tokens[b, t, place]), int(previous[b, t, place])
                masked = token == UNDECIDED
                own.append(dynamics.mask_embedding if masked else table[token])
                shown = masked and predecessor != UNDECIDED
                before.append(table[predecessor] if shown else torch.zeros(8, dtype=torch.float64))
        position = row * (columns // merge) + column
        action = int(actions[b, t])
        expected = dynamics.token_in.weight @ torch.cat(own) + dynamics.previous_in.weight @ torch.cat(before)
        expected = expected + dynamics.position[position]
        expected = expected + dynamics.action_embedding[len(ACTIONS) if action == NULL_ACTION else action]
        assert_close_norm(out[b, t, position], expected)


@pytest.mark.parametrize("config", [PLAIN, MERGED], ids=["plain", "merged"])
def test_scores_are_their_formula(config: ModelConfig) -> None:
    model = make_model(config)
    dynamics, table = model.dynamics, model.token_table()
    hidden = make_tensor(B, T, config.num_positions, D)
    previous = previous_frame(make_tokens(1))
    scores = dynamics.logits(hidden, previous, table)
    vectors = dynamics._split(hidden @ dynamics.token_out.weight.T)
    copies = dynamics._split(hidden @ dynamics.copy_out.weight.T)[..., 0] + dynamics.copy_logit
    expected = vectors @ table.T / 8**0.5
    for b, t, n in [(0, 0, 0), (1, 1, 23), (0, 5, 7), (1, 4, 16)]:
        row = expected[b, t, n].clone()
        if previous[b, t, n] != UNDECIDED:
            row[previous[b, t, n]] += copies[b, t, n]
        assert_close_norm(scores[b, t, n], row)
    assert_close_norm(scores[:, 0], expected[:, 0])  # a first frame has nothing to copy


def test_the_table_is_the_codebooks_directions_and_a_vector_of_its_own() -> None:
    model = make_model(PLAIN)
    codebook = model.tokenizer.codebook
    unit = codebook / codebook.norm(dim=-1, keepdim=True)
    expected = model.dynamics.token_embedding + unit @ model.dynamics.code_in.weight.T
    assert_close_norm(model.token_table(), expected)


def test_a_decided_frame_does_not_see_its_predecessor_again() -> None:
    """Why its keys and values may be kept: they are a function of its own tokens, action and history."""
    model = make_model(PLAIN)
    table, ages = model.token_table(), causal_ages(T, 4)
    kept = [
        model.dynamics(make_tokens(), previous, make_actions(), table, ages)[1]
        for previous in (previous_frame(make_tokens()), make_tokens(5), torch.full((B, T, N), UNDECIDED))
    ]
    for other in kept[1:]:
        for (keys, values), (other_keys, other_values) in zip(kept[0], other, strict=True):
            assert torch.equal(keys, other_keys) and torch.equal(values, other_values)


@pytest.mark.parametrize("frame", [0, 2, T - 1])
def test_an_action_reaches_the_frame_that_it_leads_to_and_later_ones(frame: int) -> None:
    model = make_model(PLAIN)
    other = make_actions()
    other[:, frame] = (other[:, frame] + 2) % 3
    tokens, ages = some_masked(make_tokens()), causal_ages(T, 4)
    before, after = (
        model.dynamics(tokens, previous_frame(make_tokens()), actions, model.token_table(), ages)[0]
        for actions in (make_actions(), other)
    )
    assert torch.equal(before[:, :frame], after[:, :frame])
    assert (before[:, frame] != after[:, frame]).flatten(1).any(1).all()


def test_the_first_frame_has_no_predecessor() -> None:
    tokens = make_tokens()
    previous = previous_frame(tokens)
    assert (previous[:, 0] == UNDECIDED).all()
    assert torch.equal(previous[:, 1:], tokens[:, :-1])


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ("tie_codebook", {"dynamics.code_in.weight"}),
        ("previous_token", {"dynamics.previous_in.weight"}),
        ("copy_logit", {"dynamics.copy_out.weight", "dynamics.copy_logit"}),
    ],
)
def test_what_is_switched_off_has_no_weights(switch: str, gone: set[str]) -> None:
    config = replace(PLAIN, dynamics=replace(PLAIN.dynamics, **{switch: False}))
    assert parameter_shapes(PLAIN).keys() - parameter_shapes(config).keys() == gone


def test_shapes_without_memory_are_those_of_the_model() -> None:
    config = make_config(with_lam=True)
    model = WorldModel(config)
    assert parameter_shapes(config) == {name: tuple(x.shape) for name, x in model.state_dict().items()}


def test_every_parameter_matters() -> None:
    model = make_model(PLAIN).requires_grad_(True)
    dynamics, table = model.dynamics, model.token_table()
    previous = previous_frame(make_tokens())
    hidden, _ = dynamics(some_masked(make_tokens()), previous, make_actions(), table, causal_ages(T, 4))
    scores = dynamics.logits(hidden, previous, table)
    (scores * make_tensor(*scores.shape)).sum().backward()
    unused = [name for name, p in dynamics.named_parameters() if not (p.grad != 0).any(-1).all()]
    assert unused == []
    assert (model.tokenizer.codebook.grad != 0).any()  # tied


def test_scores_are_computed_in_fp32_at_least() -> None:
    model = make_model(PLAIN, dtype=torch.bfloat16)
    hidden = make_tensor(B, T, N, D, dtype=torch.bfloat16)
    scores = model.dynamics.logits(hidden, previous_frame(make_tokens()), model.token_table())
    assert scores.dtype == torch.float32
    wide = make_model(PLAIN, dtype=torch.bfloat16).double()
    expected = wide.dynamics.logits(hidden.double(), previous_frame(make_tokens()), wide.token_table())
    assert_close_norm(scores, expected, torch.bfloat16)

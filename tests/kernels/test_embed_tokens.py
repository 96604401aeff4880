"""The sum of rows is what the dynamics and the tokenizer's decoder compute of tokens."""

from typing import Any

import pytest
import torch
from comparator import assert_close_norm
from makers import make_config, make_model, make_tensor
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.kernels.embed_tokens.reference import check_pair, embed_tokens
from genie_rt.kernels.vq_lookup.reference import lookup_code
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import NULL_ACTION, UNDECIDED, Dynamics
from genie_rt.runtime.model.world_model import WorldModel


def dynamics_tables(dynamics: Dynamics, table: Tensor) -> dict[str, Tensor | None]:
    """What `Dynamics.embed` makes of every token in every slot."""
    slots = dynamics.config.dynamics.merge**2
    masked = torch.cat([table, dynamics.mask_embedding[None]])
    token_in = dynamics.token_in.weight.unflatten(1, (slots, -1))  # [D, S, E]
    previous_rows = None
    if dynamics.previous_in is not None:
        previous_in = dynamics.previous_in.weight.unflatten(1, (slots, -1))
        previous_rows = torch.einsum("ve,dse->svd", table, previous_in)
    tokens = torch.arange(dynamics.config.tokenizer.num_tokens).view(1, 1, -1, 1)
    return {
        "token_rows": torch.einsum("ve,dse->svd", masked, token_in),
        "previous_rows": previous_rows,
        "position": dynamics.position.flatten(0, -2),
        "action_rows": dynamics.action_embedding,
        "members": dynamics._merge(tokens)[0, 0].int(),
    }


def make_tokens(config: ModelConfig, batch: int, time: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, previous tokens and actions, of all of which some are none."""
    generator = torch.Generator().manual_seed(0)

    def draw(highest: int, *shape: int) -> Tensor:
        return torch.randint(highest, shape, generator=generator)

    num_tokens, num_codes = config.tokenizer.num_tokens, config.tokenizer.codebook_size
    tokens, previous = draw(num_codes, 2, batch, time, num_tokens)
    tokens[draw(2, *tokens.shape).bool()] = UNDECIDED
    previous[draw(3, *tokens.shape) == 0] = UNDECIDED
    actions = draw(config.dynamics.num_actions, batch, time)
    actions[:, 0] = NULL_ACTION
    return tokens, previous, actions


@pytest.mark.parametrize(
    "changes",
    [{"merge": 2}, {"merge": 1}, {"merge": 2, "previous_token": False}, {"merge": 1, "tie_codebook": False}],
    ids=str,
)
def test_it_is_the_input_of_the_dynamics(changes: dict[str, Any]) -> None:
    config = make_config(grid=(4, 6))
    kind = type(config.dynamics)
    fields = {name: getattr(config.dynamics, name) for name in kind.__dataclass_fields__}
    model = make_model(type(config)(tokenizer=config.tokenizer, dynamics=kind(**fields | changes)))
    dynamics = model.dynamics
    table = dynamics.token_table(model.tokenizer.codebook)
    tokens, previous, actions = make_tokens(model.config, 3, 2)
    given = dynamics_tables(dynamics, table)
    found = embed_tokens(
        tokens.flatten(0, 1),
        previous.flatten(0, 1) if given["previous_rows"] is not None else None,
        actions.flatten(),
        **given,  # type: ignore[arg-type]
    )
    assert_close_norm(found.unflatten(0, (3, 2)), dynamics.embed(tokens, previous, actions, table))


def decoder_tables(model: WorldModel) -> dict[str, Tensor]:
    """What the decoder's projection makes of every token; the mask's row is never met."""
    tokenizer = model.tokenizer
    codes = torch.arange(model.config.tokenizer.codebook_size)
    rows = tokenizer.code_out(lookup_code(codes, tokenizer.codebook))
    return {
        "token_rows": torch.cat([rows, torch.full_like(rows[:1], torch.nan)])[None],
        "position": tokenizer.decoder_position.flatten(0, -2),
        "members": torch.arange(model.config.tokenizer.num_tokens, dtype=torch.int32)[:, None],
    }


def test_it_is_the_input_of_the_tokenizers_decoder() -> None:
    model = make_model(make_config(grid=(3, 5)))
    tokenizer, given = model.tokenizer, decoder_tables(model)
    tokens = make_tokens(model.config, 2, 2)[0].clamp(min=0)
    found = embed_tokens(
        tokens.flatten(0, 1), None, None, given["token_rows"], None, given["position"], None, given["members"]
    )
    expected = tokenizer.code_out(lookup_code(tokens, tokenizer.codebook)) + tokenizer.decoder_position
    assert_close_norm(found.unflatten(0, (2, 2)), expected)


def make_tables(dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """6 tokens of 3 positions, 5 codes, 2 actions and the null action, width 4."""
    return {
        "token_rows": make_tensor(2, 6, 4, dtype=dtype),
        "previous_rows": make_tensor(2, 5, 4, dtype=dtype, seed=1),
        "position": make_tensor(3, 4, dtype=dtype, seed=2),
        "action_rows": make_tensor(3, 4, dtype=dtype, seed=3),
        "members": torch.tensor([[0, 3], [5, 1], [2, 4]], dtype=torch.int32),
    }


TOKENS = torch.tensor([[0, -1, 4, -1, -1, 2]])
PREVIOUS = torch.tensor([[1, 3, 0, -1, 4, 4]])


def test_it_is_its_formula() -> None:
    tables = make_tables()
    rows, before, position, action = (
        tables[name] for name in ("token_rows", "previous_rows", "position", "action_rows")
    )
    out = embed_tokens(TOKENS, PREVIOUS, torch.tensor([1]), **tables)
    expected = torch.stack(
        [
            position[0] + action[1] + rows[0, 0] + rows[1, 5],  # place 3 had no token
            position[1] + action[1] + rows[0, 2] + rows[1, 5] + before[1, 3],
            position[2] + action[1] + rows[0, 4] + rows[1, 5] + before[1, 4],
        ]
    )
    assert_close_norm(out, expected[None])


def test_what_is_out_of_range_counts_as_none() -> None:
    tables = make_tables()
    null = embed_tokens(TOKENS, PREVIOUS, torch.tensor([-1]), **tables)
    assert_close_norm(
        null - embed_tokens(TOKENS, PREVIOUS, torch.tensor([0]), **tables),
        (tables["action_rows"][-1] - tables["action_rows"][0]).expand(1, 3, 4),
    )
    for action in (-2, 2, 3, 2**40):
        assert torch.equal(embed_tokens(TOKENS, PREVIOUS, torch.tensor([action]), **tables), null)
    for other in (5, 6, -7, 2**40):
        tokens, previous = TOKENS.where(TOKENS >= 0, other), PREVIOUS.where(PREVIOUS >= 0, other)
        assert torch.equal(embed_tokens(tokens, previous, torch.tensor([-1]), **tables), null)


def test_rows_that_do_not_count_may_be_anything() -> None:
    tables = make_tables()
    expected = embed_tokens(TOKENS, PREVIOUS, None, **tables | {"action_rows": None})  # type: ignore[arg-type]
    tables["previous_rows"][:, [0, 1]] = torch.nan  # only where a token is decided
    tables["token_rows"][:, [1, 3]] = torch.inf
    found = embed_tokens(TOKENS, PREVIOUS, None, **tables | {"action_rows": None})  # type: ignore[arg-type]
    assert torch.equal(found, expected)


def test_a_subset_of_the_positions_is_their_rows() -> None:
    tables, actions = make_tables(), torch.tensor([0])
    whole = embed_tokens(TOKENS, PREVIOUS, actions, **tables)
    chosen = {name: tables[name][[2, 0]] for name in ("position", "members")}
    assert torch.equal(embed_tokens(TOKENS, PREVIOUS, actions, **tables | chosen), whole[:, [2, 0]])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_it_sums_in_fp32_and_rounds_once(dtype: torch.dtype) -> None:
    tables = make_tables(dtype)
    out = embed_tokens(TOKENS, PREVIOUS, torch.tensor([0]), **tables)
    wide = {name: x if name == "members" else x.double() for name, x in tables.items()}
    expected = embed_tokens(TOKENS, PREVIOUS, torch.tensor([0]), **wide)
    assert out.dtype == dtype
    assert_close_norm(out, expected)
    if dtype != torch.float32:
        assert torch.equal(out, expected.float().to(dtype))


def test_indices_and_their_rows_come_together() -> None:
    x = torch.zeros(1)
    check_pair(indices=None, rows=None)
    check_pair(indices=x, rows=x)
    tables = make_tables()
    with pytest.raises(InputError, match=r"previous and previous_rows: expected both.* found previous to be"):
        embed_tokens(TOKENS, None, torch.tensor([0]), **tables)
    with pytest.raises(InputError, match=r"actions and action_rows: expected both.* found action_rows to be"):
        embed_tokens(TOKENS, PREVIOUS, torch.tensor([0]), **tables | {"action_rows": None})  # type: ignore[arg-type]


@pytest.mark.parametrize("member", [-1, 6, -(2**31), 2**31 - 1])
def test_a_member_that_is_no_token_counts_as_undecided(member: int) -> None:
    tables, actions = make_tables(), torch.tensor([0])
    tokens, previous = TOKENS.clone(), PREVIOUS.clone()
    tokens[0, 5] = previous[0, 5] = -1
    expected = embed_tokens(tokens, previous, actions, **tables)
    tables["members"][1, 0] = member  # in place of 5
    assert torch.equal(embed_tokens(TOKENS, PREVIOUS, actions, **tables), expected)

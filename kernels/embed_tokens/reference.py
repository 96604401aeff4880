"""Inputs of a transformer over tokens, as sums of rows of tables."""

from __future__ import annotations

import torch
from torch import Tensor

from genie_rt.errors import InputError


def embed_tokens(
    tokens: Tensor,
    previous: Tensor | None,
    actions: Tensor | None,
    token_rows: Tensor,
    previous_rows: Tensor | None,
    position: Tensor,
    action_rows: Tensor | None,
    members: Tensor,
) -> Tensor:
    """`out[f, p] = position[p] + action_rows[actions[f]] + sum_s row(s, tokens[f, members[p, s]])`.

    With `n = members[p, s]` and `v = tokens[f, n]`, `row(s, v)` is `token_rows[s, v]` where the token is
    decided. Where it is not, it is `token_rows[s, V]`, the mask's, plus `previous_rows[s, previous[f, n]]`
    if there was a token. Summed in at least fp32 and rounded once.

    Serves the dynamics, and with one slot, no previous tokens and no actions the tokenizer's decoder. The
    tables hold what its linear maps make of every token in every slot, such as
    `token_rows[s] = table token_in[:, s E : (s + 1) E]^T`. No index out of range is followed.

    Args:
        tokens: `[F, N]` int64; outside of `0 ... V-1` undecided.
        previous: `[F, N]` int64, each place's token in the frame before, read only where `tokens` is
            undecided; outside of `0 ... V-1` there was none. None where none counts.
        actions: `[F]` int64; outside of `0 ... A-1` the last row of `action_rows`. None, no action is added.
        token_rows: `[S, V + 1, D]`, row V being the mask's.
        previous_rows: `[S, V, D]`; None exactly where `previous` is.
        position: `[P, D]`.
        action_rows: `[A + 1, D]`, the last one the null action's; None exactly where `actions` is.
        members: `[P, S]` int32, the tokens of each position; outside of `0 ... N-1` an undecided one. For a
            subset of the positions, `position` and `members` hold only their rows.

    Returns:
        `[F, P, D]` in the dtype of `token_rows`.

    Raises:
        InputError: one of a pair is given without the other.
    """
    check_pair(previous=previous, previous_rows=previous_rows)
    check_pair(actions=actions, action_rows=action_rows)
    wide = torch.promote_types(token_rows.dtype, torch.float32)
    num_slots, num_codes = token_rows.shape[0], token_rows.shape[1] - 1
    slot = torch.arange(num_slots, device=tokens.device)

    is_token = (members >= 0) & (members < tokens.shape[1])
    places = members.where(is_token, 0).long()

    def of_members(x: Tensor) -> Tensor:
        return x[:, places].where(is_token, -1)  # [F, P, S]

    token = of_members(tokens)
    is_decided = (token >= 0) & (token < num_codes)
    rows = token_rows[slot, token.where(is_decided, num_codes)]  # [F, P, S, D]
    out = position.to(wide) + rows.to(wide).sum(2)
    if previous is not None and previous_rows is not None:
        before = of_members(previous)
        is_seen = ~is_decided & (before >= 0) & (before < num_codes)
        seen = previous_rows[slot, before.where(is_seen, 0)].to(wide)
        out = out + seen.where(is_seen[..., None], 0).sum(2)
    if actions is not None and action_rows is not None:
        null = len(action_rows) - 1
        is_action = (actions >= 0) & (actions < null)
        out = out + action_rows[actions.where(is_action, null)].to(wide)[:, None]
    return out.to(token_rows.dtype)


def check_pair(**pair: Tensor | None) -> None:
    """Raise `InputError` if indices are given without the table that they point into, or the reverse."""
    missing = [name for name, x in pair.items() if x is None]
    if len(missing) == 1:
        raise InputError(f"{' and '.join(pair)}: expected both or neither, found {missing[0]} to be None")

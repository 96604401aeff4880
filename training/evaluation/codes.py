"""How much each latent action is used: the share of every action over the clips, and their perplexity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.table import Table

from genie_rt.errors import InputError
from genie_rt.training.data.store import NO_ACTION, Actions
from genie_rt.training.evaluation.intervals import Floats, Interval, bootstrap, ratio_interval
from genie_rt.training.evaluation.tables import half_width, make_table, plus_minus


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeShare:
    """Share of all steps that one action was inferred for, 0 to 1."""

    name: str
    share: float
    share_interval: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeUse:
    """Use of the latent actions.

    Attributes:
        num_steps: steps whose actions were counted.
        perplexity, perplexity_interval: `exp(-sum p log p)` of the shares p: from 1, where one action is all
            there is, to the number of actions, where all are used alike.
        actions: in the world's order.
    """

    num_steps: int
    perplexity: float
    perplexity_interval: Interval | None
    actions: tuple[CodeShare, ...]


def measure_code_use(actions: Actions, action_names: Sequence[str]) -> CodeUse:
    """Count the actions `[M, T]` of M clips; `NO_ACTION` does not count.

    Raises:
        InputError: there is no action to count.
    """
    counts = np.stack([(actions == index).sum(1) for index in range(len(action_names))], axis=1)  # [M, A]
    counts = counts.astype(np.float64)
    each = counts.sum(1)
    if not each.sum():
        raise InputError(
            f"expected clips with at least one of {len(action_names)} actions, found only {NO_ACTION}"
        )
    return CodeUse(
        num_steps=int(each.sum()),
        perplexity=float(_perplexity(counts.sum(0)[None])[0]),
        perplexity_interval=bootstrap(len(counts), lambda weights: _perplexity(weights @ counts)),
        actions=tuple(
            CodeShare(
                name=name,
                share=float(counts[:, index].sum() / each.sum()),
                share_interval=ratio_interval(counts[:, index], each),
            )
            for index, name in enumerate(action_names)
        ),
    )


def _perplexity(counts: Floats) -> Floats:
    """Perplexity of each row of counts `[R, A]`: `[R]`."""
    shares = counts / counts.sum(1, keepdims=True)
    logs = np.log(shares, out=np.zeros_like(shares), where=shares > 0)
    return np.exp(-(shares * logs).sum(1))


def code_use_table(use: CodeUse) -> Table:
    """Make the table of the report."""
    table = make_table(
        f"Latent actions that the clips' {use.num_steps:,} steps were inferred to be",
        ("action", "share"),
        f"Perplexity {plus_minus(use.perplexity, use.perplexity_interval, 2)} of {len(use.actions)}: 1 where "
        "one action is all there is.",
    )
    for action in use.actions:
        interval = action.share_interval
        spread = "" if interval is None else f" ±{half_width(interval) * 100:.1f}"
        table.add_row(action.name, f"{action.share * 100:.1f}{spread} %")
    return table

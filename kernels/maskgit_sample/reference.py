"""Token decisions of a pass: sample all, keep the most confident (Chang et al. 2022, arXiv 2202.04200)."""

from collections.abc import Callable

import torch
from torch import Tensor

from genie_rt.kernels.philox.reference import uniforms

LIKELY = "likely"

RANKINGS: dict[str, Callable[[Tensor], Tensor]] = {LIKELY: torch.log}
"""What tokens are ranked by before noise: a score of the probabilities of their samples. The kernel and the
ONNX writer have the same."""


def sample(logits: Tensor, u: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Sample by inverse CDF with one uniform per token.

        p = softmax(logits / temperature)
        token = min { v : p_0 + ... + p_v > u }

    Args:
        logits: `[..., V]`, any floating dtype; computed in at least fp32.
        u: `[...]` float32 in [0, 1).
        temperature: of the softmax, > 0.

    Returns:
        The tokens, `[...]` int64, and the probability of each.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    p = (logits.to(wide) / temperature).softmax(-1)
    cdf = p.cumsum(-1)
    # u is compared scaled by the last entry, which it stays below, so that rounding cannot push it beyond
    scaled = u.to(wide)[..., None] * cdf[..., -1:]
    token = torch.searchsorted(cdf, scaled, right=True).clamp_(max=logits.shape[-1] - 1)
    return token[..., 0], p.gather(-1, token)[..., 0]


def maskgit_sample(
    logits: Tensor,
    tokens: Tensor,
    decided: Tensor,
    u: Tensor,
    noise_u: Tensor,
    *,
    keep: int | Tensor,
    temperature: float,
    noise: float | Tensor,
    ranking: str = LIKELY,
) -> tuple[Tensor, Tensor]:
    """Sample every token with `sample`, then decide those that `most_confident` chooses.

    Args:
        logits: `[B, N, V]`, any floating dtype; computed in at least fp32.
        tokens: `[B, N]` int64. decided: `[B, N]` bool. Decided tokens keep their value.
        u, noise_u: `[B, N]` float32 in [0, 1).
        keep: how many tokens to decide now, for all rows or `[B]`; all that remain when fewer remain.
        temperature: of the softmax, > 0.
        noise: scale of the Gumbel noise on the confidence, >= 0, for all rows or `[B]`.

    Returns:
        The new `tokens` and `decided`.
    """
    candidate, p = sample(logits, u, temperature)
    chosen = most_confident(p, decided, noise_u, keep=keep, noise=noise, ranking=ranking)
    return torch.where(chosen, candidate, tokens), decided | chosen


def most_confident(
    p: Tensor,
    decided: Tensor,
    noise_u: Tensor,
    *,
    keep: int | Tensor,
    noise: float | Tensor,
    ranking: str = LIKELY,
) -> Tensor:
    """Select the tokens to decide: the `keep` undecided ones with the highest confidence.

        confidence = RANKINGS[ranking](p) + noise * gumbel(noise_u)

    Args:
        p: `[B, N]`, the probability of each sample.
        decided, noise_u, keep, noise: as `maskgit_sample` takes them.
        ranking: one of `RANKINGS`.

    Returns:
        `[B, N]` bool. A tie goes to the lower position.
    """
    confidence = RANKINGS[ranking](p)
    if isinstance(noise, Tensor) or noise:
        scale = noise[:, None] if isinstance(noise, Tensor) else noise
        confidence = confidence + scale * gumbel(noise_u).to(p.dtype)
    confidence = confidence.masked_fill(decided, -torch.inf)
    rank = confidence.sort(dim=-1, descending=True, stable=True).indices.argsort(-1)  # 0: most confident
    chosen = rank < (keep if isinstance(keep, int) else keep[:, None])
    return chosen & ~decided


def gumbel(noise_u: Tensor) -> Tensor:
    """Gumbel noise by inverse CDF: `-log(-log u)`, float64, of uniforms of any shape."""
    centred = noise_u.double() + 2.0**-25  # within its 2**-24 cell, so that both logarithms are finite
    return -(-centred.log()).log()


def decide(
    logits: Tensor, tokens: Tensor, seeds: Tensor, frames: Tensor, pass_index: int, temperature: float,
    places: Tensor | None = None, targets: Tensor | None = None, noise: Tensor | None = None,
    passes: Tensor | None = None, threshold: float | None = None, ranking: str = LIKELY,
) -> None:  # fmt: skip
    """Decide tokens in a pass of any plan, in place, as the operator `genie_rt::maskgit_sample` does.

    Every undecided token of `places` is sampled with the uniforms of its session. With `targets` the most
    confident are decided, as many as bring a row's decided tokens to its target; without, all of them are
    (the order says when which, or the pass is the last).

    Args:
        logits: `[B, n, V]`, any floating dtype; computed in at least fp32.
        tokens: `[B, N]` int64, negative where undecided; written to where one is decided.
        seeds, frames: `[B]` int64, the bits of each session's seed and the index of its new frame.
        pass_index: from 0.
        temperature: of the softmax, > 0.
        places: `[B or 1, n]` int32 or int64, the tokens that `logits` are of, none of them twice; all in
            order where not given. Only these count as decided: with `targets` the others of a row have to
            be undecided.
        targets: `[Q, K]` int32, tokens decided after each of `K` passes, for `Q` schedules.
        noise: `[Q, K]` floating, scale of the Gumbel noise on the confidence in each. With `targets`.
        passes: `[B]` int32: row `b` follows schedule `passes[b] - 1`. The last one where not given.
        threshold: from which probability on a sample is sure. Where given, `passes` is written to before it
            is read: `max(1, ceil(Q unsure / N))` for the number of samples below it. Needs the logits of all
            tokens.
        ranking: one of `RANKINGS`, what confidence is.
    """
    u, noise_u = uniforms(seeds, frames, pass_index, tokens.shape[1])
    new_tokens, schedule = decide_with(
        logits, tokens, u, noise_u, pass_index, temperature, places, targets, noise, passes, threshold,
        ranking,
    )  # fmt: skip
    tokens.copy_(new_tokens)
    if passes is not None and threshold is not None:
        passes.copy_(schedule)


def decide_with(
    logits: Tensor, tokens: Tensor, u: Tensor, noise_u: Tensor, pass_index: int, temperature: float,
    places: Tensor | None = None, targets: Tensor | None = None, noise: Tensor | None = None,
    passes: Tensor | None = None, threshold: float | None = None, ranking: str = LIKELY,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`decide` with uniforms that are drawn already, `[B, N]` each; writes to nothing.

    Returns:
        The new tokens `[B, N]`, and the number `[B]` int64 of each row's schedule, from 1.
    """
    num_rows, num_tokens = tokens.shape
    if places is None:
        places = torch.arange(num_tokens, device=tokens.device)[None]
    index = places.long().expand(num_rows, -1)
    old = tokens.gather(1, index)
    chosen = old < 0
    candidates, p = sample(logits, u.gather(1, index), temperature)
    num_schedules = 1 if targets is None else targets.shape[0]
    schedule = torch.full_like(old[:, 0], num_schedules) if passes is None else passes.long()
    if targets is not None and noise is not None:
        if threshold is not None:
            unsure = (chosen & (p < threshold)).sum(1)
            schedule = (-(-num_schedules * unsure // num_tokens)).clamp(min=1)
        keep = targets[schedule - 1, pass_index] - (~chosen).sum(1)
        scale = noise[schedule - 1, pass_index].to(p.dtype)
        chosen = most_confident(p, ~chosen, noise_u.gather(1, index), keep=keep, noise=scale, ranking=ranking)
    return tokens.scatter(1, index, torch.where(chosen, candidates, old)), schedule

"""One decision of a pass: sample all, keep the most confident (Chang et al. 2022, arXiv 2202.04200)."""

import torch
from torch import Tensor


def sample(logits: Tensor, u: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Samples by inverse CDF with one uniform per token.

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
) -> tuple[Tensor, Tensor]:
    """Samples every token with `sample`, then decides those that `most_confident` chooses.

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
    chosen = most_confident(p, decided, noise_u, keep=keep, noise=noise)
    return torch.where(chosen, candidate, tokens), decided | chosen


def most_confident(
    p: Tensor, decided: Tensor, noise_u: Tensor, *, keep: int | Tensor, noise: float | Tensor
) -> Tensor:
    """Which tokens to decide: of those that are not, the `keep` ones with the highest confidence.

        confidence = log p + noise * gumbel(noise_u)

    Args:
        p: `[B, N]`, the probability of each sample.
        decided, noise_u, keep, noise: as `maskgit_sample` takes them.

    Returns:
        `[B, N]` bool. A tie goes to the lower position.
    """
    confidence = p.log()
    if isinstance(noise, Tensor) or noise:
        centred = noise_u.double() + 2.0**-25  # within its 2**-24 cell, so that both logarithms are finite
        gumbel = -(-centred.log()).log().to(p.dtype)
        confidence = confidence + (noise[:, None] if isinstance(noise, Tensor) else noise) * gumbel
    confidence = confidence.masked_fill(decided, -torch.inf)
    rank = confidence.sort(dim=-1, descending=True, stable=True).indices.argsort(-1)  # 0: most confident
    chosen = rank < (keep if isinstance(keep, int) else keep[:, None])
    return chosen & ~decided

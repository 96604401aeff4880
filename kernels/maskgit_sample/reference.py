"""One MaskGIT decision: sample all, keep the most confident (Chang et al. 2022, arXiv 2202.04200)."""

import torch
from torch import Tensor


def maskgit_sample(
    logits: Tensor,
    tokens: Tensor,
    decided: Tensor,
    u: Tensor,
    noise_u: Tensor,
    *,
    keep: int,
    temperature: float,
    noise: float,
) -> tuple[Tensor, Tensor]:
    """Samples by inverse CDF with one uniform per token, then decides the `keep` most confident samples.

        p = softmax(logits / temperature)
        candidate = min { v : p_0 + ... + p_v > u }
        confidence = log p[candidate] + noise * gumbel(noise_u)

    Args:
        logits: `[B, N, V]`, any floating dtype; computed in at least fp32.
        tokens: `[B, N]` int64. decided: `[B, N]` bool. Decided tokens keep their value.
        u, noise_u: `[B, N]` float32 in [0, 1).
        keep: how many tokens to decide now; all that remain when fewer remain.
        temperature: of the softmax, > 0. noise: scale of the Gumbel noise on the confidence, >= 0.

    Returns:
        The new `tokens` and `decided`. A tie in confidence goes to the lower position.
    """
    wide = torch.promote_types(logits.dtype, torch.float32)
    p = (logits.to(wide) / temperature).softmax(-1)
    cdf = p.cumsum(-1)
    cdf = cdf / cdf[..., -1:]  # rounding may leave the last value below some u; now it is 1
    candidate = (cdf <= u.to(wide)[..., None]).sum(-1)  # [B, N]
    confidence = p.gather(-1, candidate[..., None])[..., 0].log()
    if noise:
        centred = noise_u.double() + 2.0**-25  # within its 2**-24 cell, so that both logarithms are finite
        confidence = confidence + noise * -(-centred.log()).log().to(wide)
    confidence = confidence.masked_fill(decided, -torch.inf)
    rank = confidence.sort(dim=-1, descending=True, stable=True).indices.argsort(-1)  # 0: most confident
    chosen = (rank < keep) & ~decided
    return torch.where(chosen, candidate, tokens), decided | chosen

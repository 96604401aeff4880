"""How likely a plan finds the true next frame: nats per token, along the order in which it decides."""

from collections.abc import Sequence

import torch
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.kernels.maskgit_sample.reference import sample
from genie_rt.kernels.philox.reference import uniforms
from genie_rt.runtime.backends.protocol import Backend
from genie_rt.runtime.backends.row import Row, signed
from genie_rt.runtime.backends.schedule import Schedule
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.order import decision_order
from genie_rt.runtime.plan import Plan


@torch.inference_mode()
def negative_log_likelihood(
    backend: Backend,
    config: ModelConfig,
    rows: Sequence[Row],
    actions: Sequence[int],
    truth: Tensor,
    plan: Plan,
) -> Tensor:
    """Teacher-forced: pass `k` sees the true tokens of the places decided before and judges those it decides.

        nll = -1/N sum_k sum_{i in S_k} log p(x_i | x_{S_0}, ..., x_{S_{k-1}})

    `p` is the model's own distribution, at temperature 1. The plan chooses the sets `S_k` as it does at play:
    a static order knows them; the others take the places where their samples, drawn at the plan's temperature
    with the session's random numbers, are the most confident. With one pass this is the cross-entropy of the
    first pass. More passes can only help where tokens depend on each other.

    Args:
        backend: any; it is asked for whole passes, `Backend.probe`.
        config: of its model.
        rows: none pending; their next frame is the one judged.
        actions: one per row.
        truth: `[B, N]` int64, the true tokens of that frame.
        plan: without reuse, whose passes are approximations that have no likelihood.

    Returns:
        `[B]` float64, on the CPU.

    Raises:
        InputError: the plan reuses.
        DeviceError: logits are NaN or Inf.
    """
    if plan.reuse != "none":
        raise InputError(f'expected a plan with reuse="none", found {plan.reuse!r}')
    batch, num_tokens = truth.shape
    truth = truth.to(rows[0].tokens.device)
    seeds = torch.tensor([signed(row.seed) for row in rows], device=truth.device)
    frames = torch.tensor([row.frame_index + 1 for row in rows], device=truth.device)
    order = decision_order(plan, config, seeds, frames).expand(batch, -1) if plan.is_static else None
    schedule = Schedule.of(plan, batch, num_tokens, truth.device)
    tokens = torch.full_like(truth, UNDECIDED)
    decided = torch.zeros_like(truth, dtype=torch.bool)
    total = torch.zeros(batch, dtype=torch.float64, device=truth.device)
    done = 0
    for k in range(plan.passes):
        logits = backend.probe(rows, actions, tokens, plan, k).logits.to(truth.device)
        target = plan.decided_after(k, num_tokens)
        if order is not None:
            now = decided.scatter(1, order[:, done:target], True)
        else:
            u, noise_u = uniforms(seeds, frames, k, num_tokens)
            _, p = sample(logits, u, plan.temperature)
            if plan.order == "adaptive" and k == 0:
                schedule = Schedule.after_first_pass(plan, p)
            now = decided | schedule.choose(k, p, decided, noise_u)
        row, place = (now & ~decided).nonzero(as_tuple=True)
        log_p = logits[row, place].double().log_softmax(-1).gather(1, truth[row, place][:, None])[:, 0]
        total.index_add_(0, row, -log_p)
        decided, done = now, target
        tokens = torch.where(decided, truth, UNDECIDED)
        if decided.all():
            break
    return (total / num_tokens).cpu()

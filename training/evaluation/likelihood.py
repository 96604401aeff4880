"""How likely a plan finds the true next frame: nats per token, along the order in which it decides."""

from collections.abc import Sequence

import torch
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.runtime.backends.decode_loop import EagerLoop, ProbedPasses
from genie_rt.runtime.backends.protocol import Backend
from genie_rt.runtime.backends.row import Row, random_keys
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import UNDECIDED
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
    truth = truth.to(rows[0].tokens.device)
    keys = random_keys(rows, truth.device)
    passes = _TeacherForced(plan, config, *keys, backend, rows, actions, truth)
    EagerLoop(passes, plan, config, *keys).run()
    return (passes.total / truth.shape[1]).cpu()


class _TeacherForced(ProbedPasses):
    """Passes that put the true token where one is decided.

    Attributes:
        total: `[B]` float64, nats of the tokens decided so far.
    """

    def __init__(
        self,
        plan: Plan,
        config: ModelConfig,
        seeds: Tensor,
        frames: Tensor,
        backend: Backend,
        rows: Sequence[Row],
        actions: Sequence[int],
        truth: Tensor,
    ) -> None:
        def logits(tokens: Tensor, k: int) -> Tensor:
            return backend.probe(rows, actions, tokens, plan, k).logits.to(truth.device)

        super().__init__(plan, config, seeds, frames, logits)
        self.truth = truth
        self.total = torch.zeros(len(truth), dtype=torch.float64, device=truth.device)

    def sample(self, k: int, seen: Tensor, tokens: Tensor, among: Tensor | None, *, ranked: bool) -> Tensor:
        decided = super().sample(k, seen, tokens, among, ranked=ranked) != UNDECIDED
        row, place = (decided & (tokens == UNDECIDED)).nonzero(as_tuple=True)
        true = self.truth[row, place][:, None]
        log_p = seen[row, place].double().log_softmax(-1).gather(1, true)[:, 0]
        self.total.index_add_(0, row, -log_p)
        return torch.where(decided, self.truth, UNDECIDED)

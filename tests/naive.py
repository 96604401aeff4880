"""The yardstick of every exactness test: a rollout that keeps nothing.

For each pass of each frame the whole history is embedded and evaluated again. There are no pages, no batches
of sessions and no shortcuts in here, and there never should be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from makers import decision_order
from torch import Tensor

from genie_rt.kernels.maskgit_sample.reference import maskgit_sample, sample
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.philox.reference import uniforms
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.model.dynamics import NULL_ACTION, UNDECIDED, previous_frame
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class NaiveFrame:
    """One frame of a naive rollout.

    Attributes:
        tokens: `[N]` int64. logits: per pass, `[N, V]`. picture: `[Hout, Wout, 3]` uint8.
    """

    tokens: Tensor
    logits: list[Tensor]
    picture: Tensor


@torch.inference_mode()
def naive_rollout(
    model: WorldModel,
    prompt: Tensor,
    actions: Sequence[int],
    plan: Plan,
    seed: int,
    *,
    last: int | None = None,
) -> Iterator[NaiveFrame]:
    """Plays `actions` from a prompt, recomputing everything each time.

    Args:
        model: in any dtype, float64 for exactness.
        prompt: `[T0, H, W, 3]` uint8, the first frames.
        plan: one that reuses nothing: reuse is an approximation, and this is what it approximates.
        actions: entry `t` leads to frame `t + 1`; the first `T0 - 1` belong to the prompt.
        seed: below 2**63.
        last: recompute only the last so many frames, as the paper does with 16. From frame `last` on that is
            another function than the model's definition: a baseline of cost, not of output.

    Yields:
        One `NaiveFrame` for every action after the prompt's.
    """
    window = model.config.dynamics.transformer.window
    encoder_ages = causal_ages(len(prompt), model.config.tokenizer.encoder.window)
    tokens, _ = model.tokenizer.encode(prompt[None], encoder_ages)  # [1, T0, N]
    led_by = [NULL_ACTION, *actions]
    table = model.token_table()
    num_tokens = tokens.shape[-1]

    for t in range(len(prompt), len(actions) + 1):
        current = torch.full((1, num_tokens), UNDECIDED)
        decided = torch.zeros(1, num_tokens, dtype=torch.bool)
        all_logits = []
        schedule = plan  # an "adaptive" frame has its own, once its first pass is done
        for k in range(plan.passes):
            clip = torch.cat([tokens, current[:, None]], 1)  # [1, t + 1, N]
            first = 0 if last is None else max(0, t + 1 - last)
            clip, led = clip[:, first:], torch.tensor([led_by[first : t + 1]])
            previous = previous_frame(clip)
            hidden, _ = model.dynamics(clip, previous, led, table, causal_ages(t + 1 - first, window))
            logits = model.dynamics.logits(hidden[:, -1:], previous[:, -1:], table)[:, 0]  # [1, N, V]
            all_logits.append(logits[0])
            key, frame = torch.tensor([seed]), torch.tensor([t])
            u, noise_u = uniforms(key, frame, k, num_tokens)
            candidates, p = sample(logits, u, plan.temperature)
            if plan.order == "adaptive" and k == 0:
                num_unsure = int((p < plan.threshold).sum())
                schedule = plan.replace(order="maskgit", passes=plan.passes_for(num_unsure, num_tokens))
            keep = schedule.decided_after(k, num_tokens) - int(decided.sum())
            if plan.static_order is not None:
                now = decision_order(plan, model.config, key, frame)[0, int(decided.sum()) :][:keep]
                current[0, now] = candidates[0, now]
                decided[0, now] = True
            else:
                current, decided = maskgit_sample(
                    logits, current, decided, u, noise_u,
                    keep=keep, temperature=plan.temperature, noise=schedule.noise_in(k), ranking=plan.ranking,
                )  # fmt: skip
            if decided.all():
                break
        tokens = torch.cat([tokens, current[:, None]], 1)

        shown = tokens if last is None else tokens[:, -last:]
        decoder_ages = causal_ages(shown.shape[1], model.config.tokenizer.decoder.window)
        pictures, _ = model.tokenizer.decode(shown, decoder_ages)
        yield NaiveFrame(tokens=current[0], logits=all_logits, picture=to_uint8(pictures[0, -1]))

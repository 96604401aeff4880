"""Decisions at the presets' sizes: the first of a frame, one in its middle, and those of other orders."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from genie_rt.kernels.case import Case, Outputs
from genie_rt.kernels.maskgit_sample.kernel import cost, maskgit_sample
from genie_rt.kernels.maskgit_sample.reference import decide, decide_with, sample
from genie_rt.kernels.philox.reference import uniforms
from genie_rt.kernels.shapes import SHAPES

PASSES = 25


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inputs:
    """Arguments of one decision, in the operator's order; `scratch` comes last."""

    logits: Tensor
    tokens: Tensor
    seeds: Tensor
    frames: Tensor
    pass_index: int
    temperature: float
    places: Tensor | None
    targets: Tensor | None
    noise: Tensor | None
    passes: Tensor | None
    threshold: float | None

    def arguments(self, **changes: Any) -> dict[str, Any]:
        """Return keyword arguments of the operator and its reference, some of them changed."""
        return {name: getattr(self, name) for name in self.__slots__} | changes

    def fresh(self, **changes: Any) -> dict[str, Any]:
        """`arguments` with copies of what a decision writes to."""
        passes = None if self.passes is None else self.passes.clone()
        return self.arguments(tokens=self.tokens.clone(), passes=passes, **changes)

    def drawn(self, **changes: Any) -> dict[str, Any]:
        """Return keyword arguments of `decide_with`, which is given its uniforms."""
        u, noise_u = uniforms(self.seeds, self.frames, self.pass_index, self.tokens.shape[1])
        given = self.arguments(u=u, noise_u=noise_u) | changes
        del given["seeds"], given["frames"]
        return given


def make_schedules(num_schedules: int, num_passes: int, num_tokens: int) -> tuple[Tensor, Tensor]:
    """Tables of frames that decide as many tokens in each pass: `[Q, K]` int32 targets and fp32 noise."""
    own = torch.arange(1, num_schedules + 1)[:, None]
    done = torch.arange(1, num_passes + 1)[None]
    targets = (num_tokens * done // own).clamp(max=num_tokens)
    return targets.int(), (1 - done / own).clamp(min=0).float()


def make_inputs(
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    num_rows: int = 2,
    num_tokens: int = 48,
    num_codes: int = 64,
    num_places: int | None = None,
    num_decided: int = 0,
    pass_index: int = 0,
    num_passes: int = PASSES,
    ranked: bool = True,
    adaptive: bool = False,
    threshold: float | None = None,
    temperature: float = 1.0,
    seed: int = 0,
) -> Inputs:
    """Random logits, and rows of which as many random tokens are decided.

    Args:
        num_places: logits of so many random tokens; of all where not given.
        ranked: whether the most confident are decided; else all are.
        adaptive: whether each row has a schedule of its own.
    """
    generator = torch.Generator().manual_seed(seed)
    count = num_tokens if num_places is None else num_places
    logits = 3 * torch.randn(num_rows, count, num_codes, generator=generator)
    order = torch.rand(num_rows, num_tokens, generator=generator).argsort(1)
    tokens = torch.randint(0, num_codes, (num_rows, num_tokens), generator=generator)
    tokens[order.argsort(1) >= num_decided] = -1
    words = torch.randint(-(2**63), 2**63 - 1, (2, num_rows), generator=generator)
    targets = noise = None
    if ranked:
        first = 0 if adaptive else num_passes - 1  # all rows follow the last, where they do not choose
        targets, noise = (x[first:].clone() for x in make_schedules(num_passes, num_passes, num_tokens))
    places = None if num_places is None else order[:, :num_places].int().contiguous()
    passes = torch.full((num_rows,), num_passes, dtype=torch.int32) if adaptive else None

    def moved(x: Tensor | None) -> Tensor | None:
        return None if x is None else x.to(device)

    return Inputs(
        logits=logits.to(device, dtype), tokens=tokens.to(device), seeds=words[0].to(device),
        frames=words[1].to(device), pass_index=pass_index, temperature=temperature, places=moved(places),
        targets=moved(targets), noise=moved(noise), passes=moved(passes), threshold=threshold,
    )  # fmt: skip


MARGIN = 2.0**-16
"""Margin of uniforms and probabilities around a decision boundary: 16 times the rounding error."""

CONFIDENCE_MARGIN = 32 * MARGIN
"""Margin of confidences, which are numbers up to about 30."""


def make_decisive(inputs: Inputs, seed: int = 1) -> None:
    """Draw logits anew, in place, until rounding decides nothing: two ways to compute it agree exactly.

    What could be decided otherwise: a token whose uniform is next to the end of its share of the distribution
    function; its probability next to the threshold; the last confidence that is kept, next to the first
    that is not. Fake tensors, which have sizes and no values, stay as they are.
    """
    if isinstance(inputs.logits, FakeTensor):
        return
    generator = torch.Generator(inputs.logits.device).manual_seed(seed)
    logits = inputs.logits
    while bool((undecided := _undecided(inputs)).any()):
        size = (int(undecided.sum()), logits.shape[2])
        fresh = 3 * torch.randn(*size, generator=generator, device=logits.device)
        logits[undecided] = fresh.to(logits.dtype)


def _undecided(inputs: Inputs) -> Tensor:
    """Mark the tokens `[B, n]` that rounding might decide otherwise."""
    wide = inputs.logits.double()
    given = inputs.drawn(logits=wide)
    places = torch.arange(wide.shape[1], device=wide.device)[None]
    index = (places if inputs.places is None else inputs.places).long().expand(len(wide), -1)
    u, noise_u = (given[name].gather(1, index).double() for name in ("u", "noise_u"))
    is_open = inputs.tokens.gather(1, index) < 0
    token, p = sample(wide, u, inputs.temperature)
    cdf = (wide / inputs.temperature).softmax(-1).cumsum(-1)
    end = cdf.gather(-1, token[..., None])[..., 0]
    near = torch.minimum(end - u, u - (end - p)) < MARGIN
    if inputs.threshold is not None:
        near |= (p - inputs.threshold).abs() < MARGIN
    if inputs.targets is not None and inputs.noise is not None:
        schedule = decide_with(**given)[1] - 1
        keep = inputs.targets[schedule, inputs.pass_index] - (~is_open).sum(1)
        scale = inputs.noise[schedule, inputs.pass_index].double()
        confidence = p.log() - scale[:, None] * (-(noise_u + 2.0**-25).log()).log()
        ranked = confidence.masked_fill(~is_open, -torch.inf).sort(-1, descending=True)
        last = (keep - 1).clamp(0, wide.shape[1] - 2)[:, None]
        ahead = ranked.values.gather(1, last) - ranked.values.gather(1, last + 1)
        near |= near.scatter(1, ranked.indices.gather(1, last), ahead < CONFIDENCE_MARGIN)
    return near & is_open


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """List the cases of every preset's size."""
    for num_tokens, num_codes in dict.fromkeys((shape.tokens, shape.codes) for shape in SHAPES.values()):
        kinds: dict[str, dict[str, Any]] = {
            "B=1 first pass": {"num_rows": 1},
            "B=1 first pass, adaptive": {"num_rows": 1, "adaptive": True, "threshold": 0.5},
            "B=1 tokens known": {"num_rows": 1, "num_places": num_tokens // 8, "ranked": False},
            "B=16 first pass": {"num_rows": 16},
            "B=16 half decided": {"num_rows": 16, "num_decided": num_tokens // 2, "pass_index": 16},
        }
        for name, sizes in kinds.items():
            inputs = make_inputs(dtype, device, num_tokens=num_tokens, num_codes=num_codes, **sizes)
            make_decisive(inputs)
            yield _case(f"N={num_tokens} V={num_codes} {name}", inputs, sizes.get("num_decided", 0))


def _case(name: str, inputs: Inputs, num_decided: int) -> Case:
    """Reads `tokens` and writes to another tensor, so that every run does the same."""
    num_rows, num_places, num_codes = inputs.logits.shape
    out = inputs.tokens.clone()
    scratch = torch.empty(4 * num_rows * num_places, dtype=torch.int32, device=out.device)
    given = inputs.arguments(scratch=scratch, out=out)
    outputs = (out,) if inputs.passes is None else (out, inputs.passes)

    def run() -> Outputs:
        maskgit_sample(**given)
        return outputs

    def reference() -> Outputs:
        fresh = inputs.fresh(logits=inputs.logits.double())
        decide(**fresh)
        return (fresh["tokens"],) if inputs.passes is None else (fresh["tokens"], fresh["passes"])

    return Case(
        op="maskgit_sample",
        name=name,
        dtype=inputs.logits.dtype,
        run=run,
        reference=reference,
        baselines=baselines(inputs),
        cost=cost(
            num_rows=num_rows, num_places=num_places, num_codes=num_codes,
            itemsize=inputs.logits.element_size(), num_decided=num_decided,
        ),
        exact=(True,) * len(outputs),
    )  # fmt: skip


def baselines(inputs: Inputs) -> dict[str, Callable[[], object]]:
    """Make the same decision by library calls, eager and (on CUDA) compiled, with given uniforms."""
    given = inputs.drawn()

    @functools.cache
    def compiled() -> Callable[..., object]:
        return torch.compile(decide_with, fullgraph=True, dynamic=False)

    calls: dict[str, Callable[[], object]] = {"eager": lambda: decide_with(**given)}
    if inputs.logits.is_cuda:
        calls["torch.compile"] = lambda: compiled()(**given)
    return calls

"""Calibration of int8: how large what each linear multiplies becomes on real clips, and which linears suffer.

Everything is teacher-forced, as at play: the decoder sees whole clips, the dynamics commits clean frames and
predicts masked ones from a clean past. The linears of the decoder's and the dynamics' blocks are rounded:
those at a model's ends are few and sensitive, and the encoder sees only prompts. Inputs are rounded to 255
steps up to a limit, weights to 255 steps a row. The limit is the one with the least squared error over a
sample of what the clips gave, since clipping few large values costs less than coarse steps for all others.
What rounding a single linear costs is measured by doing it; the linears that cost most for the operations
they save keep their floating point.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.overrides import TorchFunctionMode

from genie_rt.errors import DeviceError
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.quantise.reference import INT8_MAX
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.manifest import LEAST_PSNR_DB, LOOSEST_LOGIT, LOOSEST_MEANS, ParityBound
from genie_rt.runtime.model.dynamics import UNDECIDED, previous_frame
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.training.dynamics import two_stream_ages

SAMPLE = 4096
"""Values kept of each linear's inputs, clip by clip."""

LIMITS = tuple(2.0 ** (-step / 8) for step in range(33))
"""Candidates for a limit, as shares of the largest value: down to a sixteenth."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """A clip of what really happened.

    Attributes:
        frames: `[T, H, W, 3]` uint8.
        actions: `[T]` int64: entry `t` led to frame `t`, -1 where nothing did.
        tokens: `[T, N]` int64, the frames' as the model encodes them in floating point.
    """

    frames: NDArray[np.uint8]
    actions: NDArray[np.int64]
    tokens: Tensor

    @classmethod
    def of(cls, model: WorldModel, frames: NDArray[np.uint8], actions: NDArray[np.int64]) -> Clip:
        """A clip, encoded."""
        ages = causal_ages(len(frames), model.config.tokenizer.encoder.window)
        with torch.inference_mode():
            tokens = model.tokenizer.encode(torch.from_numpy(frames)[None], ages)[0][0]
        return cls(frames=frames, actions=actions, tokens=tokens)


def linears(model: WorldModel) -> dict[str, nn.Linear]:
    """The linears of the blocks that every frame goes through, by name."""
    found = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear)}
    blocks = ("dynamics.transformer.blocks.", "tokenizer.decoder.blocks.")
    return {name: part for name, part in found.items() if name.startswith(blocks)}


class _EachLinear(TorchFunctionMode):
    """Mode in which a function may change the input of every linear of a model.

    Args:
        visit: gets a linear's name, its inputs `[..., in]` and its weight `[out, in]`; gives both again.
    """

    def __init__(
        self, model: WorldModel, visit: Callable[[str, Tensor, Tensor], tuple[Tensor, Tensor]]
    ) -> None:
        super().__init__()
        self.visit = visit
        self.names = {id(part.weight): name for name, part in linears(model).items()}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is linear and (name := self.names.get(id(args[1]))) is not None:
            args = (*self.visit(name, *args[:2]), *args[2:])
        return func(*args, **(kwargs or {}))


def part_of(name: str) -> str:
    """Return which of `PARTS` a linear affects."""
    return "logits" if name.startswith("dynamics.") else "pixels"


@torch.inference_mode()
def pixels_of(model: WorldModel, clip: Clip) -> Tensor:
    """The pictures of the clip's tokens, `[T, Hout, Wout, 3]`, nominally in [-1, 1]."""
    ages = causal_ages(len(clip.frames), model.config.tokenizer.decoder.window)
    return model.tokenizer.decode(clip.tokens[None], ages)[0][0]


@torch.inference_mode()
def logits_of(model: WorldModel, clip: Clip) -> Tensor:
    """Compute logits of the frames `1 ... T-1`, each from its clean past, `[T-1, N, V]`.

    All of a frame is masked where `t` is odd, half of it elsewhere, the same half whenever it is asked.
    """
    dynamics, table = model.dynamics, model.token_table()
    seen, asked = clip.tokens[None, :-1], clip.tokens[1:]
    hides = torch.rand(asked.shape, generator=torch.Generator().manual_seed(len(asked))) < 0.5
    hides[::2] = True
    both = torch.cat([seen, asked.masked_fill(hides, UNDECIDED)[None]], 1)  # [1, 2 (T - 1), N]
    previous = torch.cat([previous_frame(seen), seen], 1)
    actions = torch.from_numpy(np.concatenate([clip.actions[:-1], clip.actions[1:]]))[None]
    ages = two_stream_ages(len(asked), dynamics.transformer.config.window)
    hidden, _ = dynamics(both, previous, actions, table, ages)
    return dynamics.logits(hidden[:, len(asked) :], seen, table)[0]


PARTS: dict[str, Callable[[WorldModel, Clip], Tensor]] = {
    "logits": logits_of,
    "pixels": pixels_of,
}
"""Model outputs of a clip, by part."""


def limits(model: WorldModel, clips: Sequence[Clip]) -> dict[str, float]:
    """Compute the limit that each linear's inputs are clipped to in int8, by name."""
    samples: dict[str, list[Tensor]] = {}
    largest: dict[str, float] = {}

    def observe(name: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        values = x.flatten().float()
        most = _finite(float(values.abs().max()), f"the inputs of {name}")
        largest[name] = max(largest.get(name, 0.0), most)
        samples.setdefault(name, []).append(values[:: max(1, len(values) // SAMPLE)].clone())
        return x, weight

    with _EachLinear(model, observe):
        for clip in clips:
            for evaluate in PARTS.values():
                evaluate(model, clip)
    return {name: best_limit(torch.cat(values), largest[name]) for name, values in samples.items()}


def best_limit(values: Tensor, largest: float) -> float:
    """The limit of a linear's inputs with the least squared error of rounding, exact in float32.

    Args:
        values: `[n]`, a sample of them. largest: absolute value of all.
    """
    if largest == 0:
        return 1.0

    def error(limit: float) -> float:
        return float((rounded(values, limit) - values).square().sum(dtype=torch.float64))

    limits = (float(np.float32(largest * share)) for share in LIMITS)
    return min(limits, key=error)


def rounded(x: Tensor, limit: float | Tensor) -> Tensor:
    """`x` as 255 steps from `-limit` to `limit` hold it, half to even."""
    step = limit / INT8_MAX
    return (x / step).round().clamp(-INT8_MAX, INT8_MAX) * step


def rounded_rows(weight: Tensor) -> Tensor:
    """A weight `[out, in]` with every row as 255 steps up to its largest value hold it."""
    return rounded(weight, weight.abs().amax(1, keepdim=True).clamp(min=torch.finfo(weight.dtype).tiny))


def quantised(model: WorldModel, limit_of: Mapping[str, float]) -> TorchFunctionMode:
    """Round the inputs and weights of the named linears within a `with` block."""
    weights = {name: rounded_rows(linears(model)[name].weight.detach()) for name in limit_of}

    def visit(name: str, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        if name not in weights:
            return x, weight
        return rounded(x, limit_of[name]), weights[name]

    return _EachLinear(model, visit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Effect of rounding on a model's outputs.

    Attributes:
        logits: RMS error of the logits without their mean, which no sampling sees, by their RMS.
        pixels: RMS error of the pictures, by their RMS.
    """

    logits: float = 0.0
    pixels: float = 0.0

    def within(self, allowed: Damage) -> bool:
        return self.share_of(allowed) <= 1

    def share_of(self, allowed: Damage) -> float:
        """The largest share of what is allowed, squared: independent errors add up so."""
        return max((getattr(self, part) / getattr(allowed, part)) ** 2 for part in PARTS)


LEAST, MOST_PSNR_DB = 1e-3, 48.0
"""Tightest bounds, where int8 changed next to nothing: engines may compute the rest in bfloat16."""

ALLOWED = Damage(logits=0.05, pixels=0.001)
"""Allowed damage of int8: a twentieth of the logits' RMS, and an eighth of a pixel level of 255.

Pictures forgive less, for what rounding adds is the same everywhere and at all times. A decoder of the demo
that was off by two levels kept its PSNR within 0.3 dB and added 8 to a clip distance of 15; by half a level,
1.7 to one of 9.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Settings with which a model is computed in int8.

    Attributes:
        limits: by linear, of those that are rounded.
        kept: those of `linears` that keep their floating point, the one that costs most first.
        alone: what rounding each linear alone does.
        damage: what rounding all of `limits` does, on other clips than those that gave the limits.
        bound: what graphs that compute so may be off by: twice as much as was found here.
    """

    limits: dict[str, float]
    kept: tuple[str, ...]
    alone: dict[str, Damage] = field(repr=False)
    damage: Damage
    bound: ParityBound


@torch.inference_mode()
def calibrate(
    model: WorldModel,
    clips: Sequence[Clip],
    judged: Sequence[Clip],
    *,
    allowed: Damage = ALLOWED,
    on_linear: Callable[[], object] | None = None,
) -> Calibration:
    """Choose limits and the linears that are rounded.

    Args:
        model: float32 on the CPU. Not changed.
        clips: to observe. judged: others, to measure what rounding does.
        allowed: linears are kept in floating point, one after the other, until what rounding the rest does
            is within it: always the one that costs most by the operations that it saves.
        on_linear: called after each measurement.
    """
    found = limits(model, clips)
    exact = {part: [evaluate(model, clip) for clip in judged] for part, evaluate in PARTS.items()}

    def outputs(names: Sequence[str]) -> dict[str, list[Tensor]]:
        """Compute the parts that rounding these linears affects."""
        with quantised(model, {name: found[name] for name in names}):
            parts = {part_of(name) for name in names}
            return {part: [PARTS[part](model, clip) for clip in judged] for part in parts}

    def damage_of(names: Sequence[str]) -> Damage:
        return Damage(**{part: _error(part, exact[part], own) for part, own in outputs(names).items()})

    alone: dict[str, Damage] = {}
    for name in found:
        alone[name] = damage_of([name])
        if on_linear is not None:
            on_linear()
    sizes = {name: part.weight.numel() for name, part in linears(model).items()}
    rest = sorted(found, key=lambda name: alone[name].share_of(allowed) / sizes[name])
    kept: list[str] = []
    while not (damage := damage_of(rest)).within(allowed):
        parts = [part for part in PARTS if getattr(damage, part) > getattr(allowed, part)]
        worst = next(name for name in reversed(rest) if part_of(name) in parts)
        rest.remove(worst)
        kept.append(worst)
    return Calibration(
        limits={name: limit for name, limit in found.items() if name in rest},
        kept=tuple(kept),
        alone=alone,
        damage=damage,
        bound=_bound(exact, exact | outputs(rest)),
    )


def _error(part: str, exact: Sequence[Tensor], found: Sequence[Tensor]) -> float:
    """RMS error, by the RMS of what should be."""
    squares = sizes = 0.0
    for a, b in zip(exact, found, strict=True):
        error = b - a
        if part == "logits":
            a, error = (x - x.mean(-1, keepdim=True) for x in (a, error))
        squares += float(error.square().sum(dtype=torch.float64))
        sizes += float(a.square().sum(dtype=torch.float64))
    _finite(squares, part)
    return (squares / sizes) ** 0.5 if sizes else 0.0


def _finite(value: float, what: str) -> float:
    """The value, which `max` and comparisons would pass over if it were NaN."""
    if not math.isfinite(value):
        raise DeviceError(
            f"calibrating int8: expected finite {what}, found {value}; export without --int8, or from a "
            "checkpoint whose loss was finite"
        )
    return value


def _bound(exact: Mapping[str, Sequence[Tensor]], found: Mapping[str, Sequence[Tensor]]) -> ParityBound:
    """Twice what is off; see `bench.parity` for what it is by."""
    logits = torch.cat([x.flatten() for x in exact["logits"]]).double()
    std = float(logits.std(correction=0)) or 1.0
    furthest = moved = squares = 0.0
    for a, b in zip(exact["logits"], found["logits"], strict=True):
        furthest = max(furthest, _finite(float((b - a).abs().max()), "logits"))
        cdfs = [x.double().softmax(-1).cumsum(-1) for x in (a, b)]
        moved = max(moved, float((cdfs[1] - cdfs[0]).abs().max()))
    pictures = [(to_uint8(a), to_uint8(b)) for a, b in zip(exact["pixels"], found["pixels"], strict=True)]
    squares = sum(float((b.double() - a.double()).square().sum()) for a, b in pictures)
    count = sum(a.numel() for a, _ in pictures)
    psnr_db = 10 * math.log10(255**2 * count / squares) if squares else math.inf
    # the cumulative distribution moves by at most a quarter of the difference of two means, at temperature 1
    return ParityBound(
        means=min(max(2 * 4 * moved / std, LEAST), LOOSEST_MEANS),
        logit=min(max(2 * furthest / std, LEAST), LOOSEST_LOGIT),
        psnr_db=min(max(psnr_db - 20 * math.log10(2), LEAST_PSNR_DB), MOST_PSNR_DB),
    )

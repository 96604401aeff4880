"""What the `cuda` back end will allocate on its device, known from sizes before it allocates anything.

Weights and pages are exact. The working memory is an upper estimate by formula: see `temporary_bytes`.

Axes: `R` rows, `P` positions, `S` tokens of a position, `N = P S`, `L` layers, `H` heads, `Dh` head width,
`V` codes.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from genie_rt.errors import DeviceError, UnsupportedError
from genie_rt.runtime.backends.cuda.linear import INT8_ROWS, INT8_UNIT, UNIT
from genie_rt.runtime.backends.cuda.pages import GROWTH
from genie_rt.runtime.backends.cuda.precision import Precision
from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.config import ModelConfig, TransformerConfig
from genie_rt.runtime.model.world_model import WorldModel, parameter_shapes
from genie_rt.runtime.presets import PRESETS, preset
from genie_rt.runtime.units import scaled

PRECISIONS = tuple(Precision.of(dtype).name for dtype in BACKENDS["cuda"].dtypes)
"""Names of what a GPU can be asked to compute in."""

FRAME_SLOTS = 64
"""Frames whose tokens there is room for from the start."""

FRAME_SETS = 3
"""Sets of static tensors: of a prompt's frame, of the frame after it and of those after that."""

LIBRARY_BYTES = 3 * 32 * 2**20
"""Work space of cuBLAS for three streams: the caller's, that of the run before a capture, the capture's.

32 MiB each is what NVIDIA recommends for Hopper and later, and torch's default there (pytorch#83461); earlier
GPUs need less.
"""

_LOGGER = logging.getLogger("genie_rt.cuda")

_FOLDED = (
    "dynamics.token_embedding", "dynamics.mask_embedding", "dynamics.code_in.", "dynamics.token_in.",
    "dynamics.previous_in.", "dynamics.token_out.", "tokenizer.code_out.", "lam_codebook",
)  # fmt: skip
_WIDE = ("tokenizer.codebook", "dynamics.copy_logit")


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryBudget:
    """Device memory of a `CudaBackend`. Made by `of`.

    Not in it: the CUDA context, which is there before anyone can ask how much memory is free; kernels' code;
    what torch's allocator rounds up; and what a plan with reuse takes, several pages of the dynamics for each
    row.

    Attributes:
        config, precision, num_sessions, num_rows: what it is the budget of.
        weight_bytes: of the packed model, `PackedModel.num_bytes`.
        dynamics_bytes, decoder_bytes: of the pages that are reserved.
        work_bytes: the most that a frame takes besides, estimated.
    """

    config: ModelConfig
    precision: Precision
    num_sessions: int
    num_rows: int
    weight_bytes: int
    dynamics_bytes: int
    decoder_bytes: int
    work_bytes: int

    @classmethod
    def of(
        cls, config: ModelConfig, precision: Precision, *, num_sessions: int = 1, num_rows: int = 1
    ) -> MemoryBudget:
        """Counts. Allocates nothing.

        Args:
            num_sessions: whose pages are reserved.
            num_rows: rows that are computed in one batch.
        """
        dynamics, decoder = config.dynamics.transformer, config.tokenizer.decoder
        num_tokens, num_actions = config.tokenizer.num_tokens, config.dynamics.num_actions
        dynamics_pages = num_sessions * dynamics.window
        decoder_pages = num_sessions * decoder.window + num_actions  # one for each way that can be peeked at
        return cls(
            config=config,
            precision=precision,
            num_sessions=num_sessions,
            num_rows=num_rows,
            weight_bytes=weight_bytes(config, precision),
            dynamics_bytes=dynamics_pages * page_bytes(dynamics, config.num_positions, precision),
            decoder_bytes=decoder_pages * page_bytes(decoder, num_tokens, precision.tokenizer),
            work_bytes=work_bytes(config, precision, num_rows),
        )

    @property
    def page_bytes(self) -> int:
        """Bytes of all pages that are reserved: `MemoryUse.pool_bytes` before the first prompt."""
        return self.dynamics_bytes + self.decoder_bytes

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.page_bytes + self.work_bytes

    def lines(self) -> list[str]:
        """The parts and their sum, for people."""
        pages = f"dynamics {scaled(self.dynamics_bytes, 'B')}, decoder {scaled(self.decoder_bytes, 'B')}"
        return [
            f"weights in {self.precision.name}: {scaled(self.weight_bytes, 'B')}",
            f"pages of {_counted(self.num_sessions, 'session')}: {scaled(self.page_bytes, 'B')} ({pages})",
            f"work for {_counted(self.num_rows, 'row')}: up to {scaled(self.work_bytes, 'B')}",
            f"in all: {scaled(self.total_bytes, 'B')}",
        ]

    def check(self, free_bytes: int, *, capability: int = 0) -> None:
        """Returns where it fits.

        Args:
            free_bytes: memory that can be had, as `available_bytes` gives it.
            capability: of the GPU, 90 for an H100: no precision is proposed that it has not. 0: any.

        Raises:
            DeviceError: it does not fit. The message says how much is needed, part by part, and what would.
        """
        if self.total_bytes <= free_bytes:
            return
        missing = scaled(self.total_bytes - free_bytes, "B")
        raise DeviceError(
            f"expected {scaled(self.total_bytes, 'B')} of free device memory for this model in "
            f"{self.precision.name} ({'; '.join(self.lines()[:-1])}), found {scaled(free_bytes, 'B')}, "
            f"{missing} too little; {'; '.join(_advice(self, free_bytes, capability))}"
        )

    def _replace(
        self,
        *,
        config: ModelConfig | None = None,
        precision: Precision | None = None,
        num_sessions: int | None = None,
    ) -> MemoryBudget:
        return MemoryBudget.of(
            config or self.config, precision or self.precision,
            num_sessions=num_sessions or self.num_sessions, num_rows=self.num_rows,
        )  # fmt: skip


def log(budget: MemoryBudget) -> None:
    """Tells the logger `genie_rt.cuda`, at level INFO."""
    _LOGGER.info("device memory: %s", "; ".join(budget.lines()))


def available_bytes(model: WorldModel, device: torch.device, *, release: bool) -> int:
    """Memory of a CUDA device that a model can be packed into, with pages and work.

    That is what the driver has left, what torch's allocator holds and nobody uses and, if the model's weights
    are there and are released one by one while they are packed, these.

    Args:
        model: that will be packed; anywhere.
        release: as `pack` takes it.
    """
    free, _ = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if release:
        index = torch.cuda.current_device() if device.index is None else device.index
        own = torch.device("cuda", index)
        free += sum(weight.nbytes for weight in model.parameters() if weight.device == own)
    return free


def weight_bytes(config: ModelConfig, precision: Precision) -> int:
    """What `pack` will make of a model in fp32 or less: `PackedModel.num_bytes`."""
    width, slots = config.dynamics.transformer.width, config.dynamics.merge**2
    num_codes, itemsize = config.tokenizer.codebook_size, precision.activations.itemsize
    num_tables = (
        2 if config.dynamics.previous_token else 1
    )  # of tokens, with a row for a masked one; previous
    rows = slots * ((1 + num_tables) * num_codes + 1)  # and the head
    folded = rows * width + (num_codes + 1) * config.tokenizer.decoder.width
    indices = (4 + 8 + 4) * config.tokenizer.num_tokens  # members, place_of, all_tokens
    return folded * itemsize + indices + sum(_kept_bytes(*named, precision) for named in _shapes(config))


def page_bytes(config: TransformerConfig, num_positions: int, precision: Precision) -> int:
    """Bytes of one page, `[L, 2, P, H, Dh]`."""
    return 2 * config.num_layers * num_positions * config.attention_width * precision.pages.itemsize


def work_bytes(config: ModelConfig, precision: Precision, num_rows: int) -> int:
    """What frames of `R` rows take besides weights and reserved pages, at most.

    Temporary tensors count twice: graphs keep memory for theirs, and the run before each capture, which does
    not use it, needs as much. To them come static tensors, kept tokens, the pages that the encoder takes with
    the first prompt and the work space of cuBLAS.
    """
    padded = 1 << (num_rows - 1).bit_length()  # as batches are
    tokenizer = config.tokenizer
    num_slots = max(FRAME_SLOTS, 1 << (2 * padded).bit_length())  # before and after a frame, and nobody's
    kept = num_slots * (8 * tokenizer.num_tokens + 4 * config.num_positions)
    encoder = GROWTH * page_bytes(tokenizer.encoder, tokenizer.num_tokens, precision.tokenizer)
    temporary = 2 * temporary_bytes(config, precision, padded)
    return temporary + FRAME_SETS * static_bytes(config, padded) + kept + encoder + LIBRARY_BYTES


def static_bytes(config: ModelConfig, num_rows: int) -> int:
    """Tensors that one captured frame of `R` rows owns, in a plan without reuse."""
    height, width = config.tokenizer.output_size
    window, decoder_window = config.dynamics.transformer.window, config.tokenizer.decoder.window
    inputs = 8 * 8 + 4 * (3 * window + 1 + decoder_window)
    tokens = (8 + 8 + 8 + 16) * config.tokenizer.num_tokens  # before, now, the order, scratch of the sampler
    rest = 3 * height * width + 16
    return num_rows * (inputs + tokens + rest) + 16 * 5  # parts of the inputs are aligned


def temporary_bytes(config: ModelConfig, precision: Precision, num_rows: int) -> int:
    """Temporary tensors that are alive at once in the largest pass of `R` rows, in a plan without reuse.

    The largest of a pass that takes the commit in, `2 R P` positions; the head, which gives `R N V` logits in
    fp32 and, with merged positions, once more in raster order; the decoder, `R N` positions; and the encoder,
    `N`. Of these it is what the largest step holds at the same time, as if none of it could be freed earlier.
    """
    tokenizer, dynamics = config.tokenizer, config.dynamics
    tokens, itemsize = num_rows * tokenizer.num_tokens, precision.activations.itemsize
    states = num_rows * config.num_positions * dynamics.transformer.width * itemsize
    wide = torch.promote_types(precision.activations, torch.float32).itemsize
    logits = tokens * tokenizer.codebook_size * wide * (2 if dynamics.merge > 1 else 1)
    patches = 3 * itemsize * tokenizer.num_tokens
    seen, shown = 3 * tokenizer.height * tokenizer.width, 3 * math.prod(tokenizer.output_size)
    passes = (
        _transformer_bytes(dynamics.transformer, 2 * num_rows * config.num_positions, precision),
        3 * states + logits,
        _transformer_bytes(tokenizer.decoder, tokens, precision.tokenizer)
        + num_rows * (patches * tokenizer.decoder_patch**2 + shown),
        _transformer_bytes(tokenizer.encoder, tokenizer.num_tokens, precision.tokenizer)
        + patches * tokenizer.patch**2
        + seen,
    )
    indices = tokens * (16 + 6 * wide)  # tokens of two frames; of the copy logit, what raises which
    return max(passes) + indices


def _transformer_bytes(config: TransformerConfig, num_rows: int, precision: Precision) -> int:
    """In one block of `num_rows` positions: what all steps have in common, and the largest projection."""
    width, attention, mlp = config.width, config.attention_width, config.mlp_width
    itemsize = precision.activations.itemsize
    held = (
        num_rows * itemsize * (2 * width + 4 * attention)
    )  # x, what it grows by; the last qkv and its output
    products = (
        _product_bytes(num_rows, width, 3 * attention, precision),
        _product_bytes(num_rows, attention, width, precision),
        _product_bytes(num_rows, width, mlp, precision),
        num_rows * itemsize * mlp + _product_bytes(num_rows, mlp, width, precision),
    )
    return held + max(products)


def _product_bytes(num_rows: int, width_in: int, width_out: int, precision: Precision) -> int:
    """A projection's input, made for it, and its output."""
    itemsize = precision.activations.itemsize
    if not _is_quantised((width_out, width_in), precision):
        return num_rows * itemsize * (width_in + width_out)
    both = num_rows * (width_in + 4 + itemsize * width_out)  # a row in 8 bits has a scale in fp32
    if precision.weights != torch.int8:
        return both
    filled = max(INT8_ROWS, -(-num_rows // INT8_UNIT) * INT8_UNIT)
    return both + filled * (width_in + 4 * width_out)  # the rows filled up; sums in int32


def _kept_bytes(name: str, shape: tuple[int, ...], precision: Precision) -> int:
    """Bytes of one weight as it is packed; 0 where it is part of what was multiplied out."""
    if name.startswith(_FOLDED):
        return 0
    if name.startswith("tokenizer."):
        precision = precision.tokenizer
    dtype, size, scales = precision.activations, math.prod(shape), 0
    if name in _WIDE:
        dtype = torch.promote_types(dtype, torch.float32)
    elif _is_projection(name, shape) and _is_quantised(shape, precision):
        dtype, scales = precision.weights, 4 * shape[0]
    return size * dtype.itemsize + scales


def _is_projection(name: str, shape: tuple[int, ...]) -> bool:
    """Whether it is one of a block: those at the ends of the tokenizer are never quantised."""
    return ".blocks." in name and name.endswith(".weight") and len(shape) == 2


def _is_quantised(shape: tuple[int, ...], precision: Precision) -> bool:
    return precision.quantised and not any(size % UNIT for size in shape)


@lru_cache(maxsize=8)
def _shapes(config: ModelConfig) -> tuple[tuple[str, tuple[int, ...]], ...]:
    return tuple(parameter_shapes(config).items())


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# What would fit where the budget does not.


def _advice(budget: MemoryBudget, free_bytes: int, capability: int) -> list[str]:
    """Proposals, the nearest first."""
    smaller = sorted(_in_precisions(budget, capability), key=lambda other: other.total_bytes)
    fitting = [other for other in reversed(smaller) if other.total_bytes <= free_bytes]
    advice = []
    if fitting:
        options = (f"{other.precision.name} ({scaled(other.total_bytes, 'B')})" for other in fitting)
        advice.append(f"take {' or '.join(options)}")
    for other in (budget,) if advice else (budget, smaller[0]):
        if budget.num_sessions > 1 and (sessions := _most_sessions(other, free_bytes)):
            held = f"hold pages of {_counted(sessions, 'session')} at most"
            advice.append(held if other is budget else f"take {other.precision.name} and {held}")
            break
    if not advice:
        advice.append(_shorter_window(smaller[0], free_bytes))
    names = [name for name in PRESETS if _preset_fits(budget, name, free_bytes)]
    known = f"would fit in {budget.precision.name}"
    advice.append(f"the presets {', '.join(names)} {known}" if names else f"no preset {known}")
    return advice


def _in_precisions(budget: MemoryBudget, capability: int) -> list[MemoryBudget]:
    """The same in every precision that a GPU of that capability has."""
    return [
        budget._replace(precision=precision)
        for precision in map(Precision.of, PRECISIONS)
        if _runs_on(precision, capability)
    ]


def _runs_on(precision: Precision, capability: int) -> bool:
    try:
        precision.check(capability)
    except UnsupportedError:
        return False
    return True


def _most_sessions(budget: MemoryBudget, free_bytes: int) -> int:
    """How many there is room for; 0 if for none."""
    one = budget._replace(num_sessions=1)
    more = (budget.page_bytes - one.page_bytes) // (budget.num_sessions - 1)
    return max(0, 1 + (free_bytes - one.total_bytes) // more)


def _shorter_window(budget: MemoryBudget, free_bytes: int) -> str:
    """Says which window of the dynamics fits in the precision of the budget."""
    config, name = budget.config, budget.precision.name
    window = config.dynamics.transformer.window
    page = budget.dynamics_bytes // window
    room = (free_bytes - budget.total_bytes + budget.dynamics_bytes) // page
    if room < 1:
        shortest = _with_window(config, 1)
        least = budget._replace(config=shortest).total_bytes
        return f"no precision fits, and in {name} a window of 1 frame would still need {scaled(least, 'B')}"
    return (
        f"no precision fits; in {name} a model whose dynamics had a window of at most {room} frames, not "
        f"{window}, would"
    )


def _with_window(config: ModelConfig, window: int) -> ModelConfig:
    transformer = replace(config.dynamics.transformer, window=window)
    return replace(config, dynamics=replace(config.dynamics, transformer=transformer))


def _preset_fits(budget: MemoryBudget, name: str, free_bytes: int) -> bool:
    return budget._replace(config=preset(name)).total_bytes <= free_bytes

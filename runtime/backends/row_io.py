"""A row taken apart into tensors, and put together again: what a snapshot keeps outside of the process."""

from collections.abc import Mapping

import torch
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.kernels.temporal_attention.reference import indexable
from genie_rt.runtime.backends.frame_reuse import Carried
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.pages import PagePool, Pages

EXCHANGED = (torch.float32, torch.bfloat16)
"""Dtypes of pages that are loaded into pools of each other: back ends of one number format keep either."""


def save(row: Row, config: ModelConfig, dynamics: PagePool, decoder: PagePool) -> dict[str, Tensor]:
    """Copies a row's tensors to the CPU.

    Returns:
        `tokens` `[N]` int64; the pages `dynamics` and `decoder`, newest first, `[n, L, 2, P, H, Dh]` each, in
        the dtype of their pool; of what is `Carried` the page `spatial`, none where there is none, and
        `change` `[P]` float32, then zeros.
    """
    carried = row.carried
    return {
        "tokens": row.tokens.cpu().clone(),
        "change": torch.zeros(config.num_positions) if carried is None else carried.change.cpu().clone(),
        "dynamics": _gather(dynamics, row.dynamics),
        "decoder": _gather(decoder, row.decoder),
        "spatial": _gather(dynamics, () if carried is None else (carried.spatial,)),
    }


def load(
    tensors: dict[str, Tensor],
    config: ModelConfig,
    dynamics: PagePool,
    decoder: PagePool,
    *,
    seed: int,
    frame_index: int,
    action: int,
    pending: bool,
) -> Row:
    """The row that `save` took apart, its pages copied in, rounded where the pools keep bfloat16.

    Raises:
        InputError: a tensor is missing, or its shape, dtype or values are not those of such a model's row.
    """
    pools = {"dynamics": dynamics, "decoder": decoder, "spatial": dynamics}
    shapes = {name: pool.shape for name, pool in pools.items()}
    most = {"dynamics": dynamics.window - 1, "decoder": decoder.window - 1, "spatial": 1}
    tensors = check_tensors(tensors, config, shapes, most, dynamics.dtype)
    pages: dict[str, Pages] = {
        name: tuple(pool.load(page) for page in tensors[name]) for name, pool in pools.items()
    }
    carried = None
    if pages["spatial"]:
        change = tensors["change"].to(dynamics.device, copy=True)
        carried = Carried(spatial=pages["spatial"][0], change=change)
    return Row(
        seed=seed, frame_index=frame_index, tokens=tensors["tokens"].to(dynamics.device, copy=True),
        action=action, pending=pending, dynamics=pages["dynamics"], decoder=pages["decoder"], carried=carried,
    )  # fmt: skip


def check_tensors(
    tensors: Mapping[str, Tensor],
    config: ModelConfig,
    shapes: Mapping[str, tuple[int, ...]],
    most: Mapping[str, int],
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """The tensors that `save` gives, if they are those of a row of the model, with pages of one dtype.

    Args:
        shapes: of a page, by the name of the tensor that holds some.
        most: pages that each may hold.
        dtype: of the pages to return.

    Raises:
        InputError: a tensor is missing, or its shape, dtype or values are not those of such a model's row.
    """
    for name in ("tokens", "change", *shapes):
        if name not in tensors:
            raise InputError(f"expected a tensor {name!r}, found {', '.join(sorted(tensors)) or 'none'}")
    _check("tokens", tensors["tokens"], (config.tokenizer.num_tokens,), torch.int64)
    _check("change", tensors["change"], (config.num_positions,), torch.float32)
    codes = config.tokenizer.codebook_size
    if not bool(((tensors["tokens"] >= 0) & (tensors["tokens"] < codes)).all()):
        raise InputError(f"tokens: expected numbers from 0 to {codes - 1}, found others")
    kept = EXCHANGED if dtype in EXCHANGED else (dtype,)
    for name, shape in shapes.items():
        count = len(tensors[name]) if tensors[name].ndim else 0
        if count > most[name]:
            raise InputError(f"{name}: expected at most {most[name]} pages, found {count}")
        _check(name, tensors[name], (count, *shape), *kept)
    checked = {**tensors, **{name: tensors[name].to(dtype) for name in shapes}}
    for name in ("change", *shapes):
        if not _is_finite(checked[name]):
            raise InputError(f"{name}: expected finite numbers, found NaN or Inf")
    return checked


def _gather(pool: PagePool, pages: Pages) -> Tensor:
    if not pages:
        return torch.empty((0, *pool.shape), dtype=pool.dtype)
    return torch.stack([indexable(pool.view(page)) for page in pages]).view(pool.dtype).cpu()


def _is_finite(tensor: Tensor) -> bool:
    if tensor.dtype == torch.float8_e4m3fn:  # no Inf; NaN is all ones but the sign
        return not bool(((indexable(tensor) & 0x7F) == 0x7F).any())
    return bool(torch.isfinite(tensor).all())


def _check(name: str, tensor: Tensor, shape: tuple[int, ...], *dtypes: torch.dtype) -> None:
    if tuple(tensor.shape) != shape or tensor.dtype not in dtypes:
        expected, found = " or ".join(map(_word, dtypes)), _word(tensor.dtype)
        raise InputError(f"{name}: expected {list(shape)} {expected}, found {list(tensor.shape)} {found}")


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

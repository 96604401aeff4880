"""Seeded inputs of `spatial_attention`, its cases at the presets' sizes, and library calls for the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

from genie_rt.kernels.case import Case, Outputs
from genie_rt.kernels.norm_qkv.reference import rms_norm
from genie_rt.kernels.shapes import SHAPES, ModelShape
from genie_rt.kernels.spatial_attention.kernel import cost, spatial_attention
from genie_rt.kernels.spatial_attention.reference import spatial_attention_kept

QKV = tuple[Tensor, Tensor, Tensor]

SDPA_BACKENDS = (
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """Arguments of the operator."""

    qkv: Tensor
    q_weight: Tensor
    k_weight: Tensor
    index: Tensor | None
    kept: Tensor | None

    @property
    def arguments(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        """Arguments in the operator's order."""
        return self.qkv, self.q_weight, self.k_weight, self.index, self.kept

    def outputs(self, out: Tensor) -> Outputs:
        """All that a call writes: `kept` comes second, where it is given."""
        return (out,) if self.kept is None else (out, self.kept)

    def widened(self) -> Inputs:
        """A copy in twice the precision."""
        wide = torch.float64 if self.qkv.dtype == torch.float32 else torch.float32
        return replace(
            self, qkv=self.qkv.to(wide), q_weight=self.q_weight.to(wide), k_weight=self.k_weight.to(wide),
            kept=None if self.kept is None else self.kept.to(wide),
        )  # fmt: skip


def make_inputs(
    dtype: torch.dtype,
    device: torch.device | str,
    *,
    frames: int = 1,
    positions: int,
    heads: int,
    head_width: int,
    queries: int | None = None,
    index_rows: int = 1,
    keep: bool = False,
    seed: int = 0,
) -> Inputs:
    """Queries and keys of any length, and kept keys and values from earlier.

    Args:
        queries: how many positions are computed, at random; None, all of them, and then there is no index.
        index_rows: 1 where all frames compute the same positions, else one a frame.
        keep: whether there is a `kept` without an index; with one there always is.
    """
    generator = torch.Generator(device).manual_seed(seed)
    draw = partial(torch.randn, generator=generator, device=device)
    index = kept = None
    if queries is not None:
        index = draw(index_rows, positions).argsort(1)[:, :queries].to(torch.int32).contiguous()
    if keep or index is not None:
        kept = draw(frames, 2, positions, heads, head_width).to(dtype)
    return Inputs(
        qkv=draw(frames, queries or positions, 3, heads, head_width).to(dtype),
        q_weight=(1 + 0.3 * draw(head_width)).to(dtype),
        k_weight=(1 + 0.3 * draw(head_width)).to(dtype),
        index=index,
        kept=kept,
    )


def cases(dtype: torch.dtype, device: torch.device) -> Iterator[Case]:
    """List every preset's cases: a frame, a frame and the commit of the last one, and reuse."""
    for name, shape in SHAPES.items():
        yield make_case(f"{name} F=1", shape, dtype, device)
        yield make_case(f"{name} F=2", shape, dtype, device, frames=2)
        yield make_case(f"{name} F=1 kept", shape, dtype, device, keep=True)
        yield make_case(f"{name} Q=P/4", shape, dtype, device, queries=shape.positions // 4)


def make_case(
    name: str,
    shape: ModelShape,
    dtype: torch.dtype,
    device: torch.device,
    *,
    frames: int = 1,
    queries: int | None = None,
    keep: bool = False,
) -> Case:
    """Make one call. Where it writes `kept`, that is its second output."""
    sizes = {"positions": shape.positions, "heads": shape.heads, "head_width": shape.head_width}
    inputs = make_inputs(dtype, device, frames=frames, queries=queries, keep=keep, **sizes)
    out = torch.empty_like(inputs.qkv[:, :, 0])

    def reference() -> Outputs:
        wide = inputs.widened()
        return wide.outputs(spatial_attention_kept(*wide.arguments))

    return Case(
        op="spatial_attention",
        name=name,
        dtype=dtype,
        run=lambda: inputs.outputs(spatial_attention(*inputs.arguments, out=out)),
        reference=reference,
        baselines=baselines(inputs),
        cost=cost(
            frames, queries or shape.positions, dtype=dtype, indexed=queries is not None, keep=keep, **sizes
        ),
    )


def baselines(inputs: Inputs) -> dict[str, Callable[[], Tensor]]:
    """Library calls that give the operator's first output, by back end of SDPA.

    "norm, ..." and "compiled norm, ..." do its whole job, the second with one generated kernel for norms and
    writes. "only ..." is the attention alone, a lower bound: all is normed and in its place.
    """

    def normed() -> QKV:
        return _normed(*inputs.arguments)

    @cache
    def compiled() -> Callable[..., QKV]:
        return torch.compile(_normed, dynamic=False)

    @cache
    def ready() -> QKV:
        q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in normed())
        return q, k, v

    def attend(backend: SDPBackend, given: Callable[[], QKV]) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in given())
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v).transpose(1, 2)

    calls: dict[str, Callable[[], Tensor]] = {}
    for backend in SDPA_BACKENDS if inputs.qkv.is_cuda else (SDPBackend.FLASH_ATTENTION,):
        name = f"sdpa {backend.name.removesuffix('_ATTENTION').lower()}"
        calls[f"norm, {name}"] = partial(attend, backend, normed)
        if inputs.qkv.is_cuda:
            calls[f"compiled norm, {name}"] = partial(attend, backend, lambda: compiled()(*inputs.arguments))
        calls[f"only {name}"] = partial(attend, backend, ready)

    def flex() -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in normed())
        return flex_attention_of(q)(q, k, v).transpose(1, 2)

    calls["norm, flex_attention"] = flex
    return calls


def flex_attention_of(x: Tensor) -> Callable[..., Tensor]:
    """`flex_attention`, compiled where it runs on a GPU, as it is meant to be."""
    return _flex_attention(x.is_cuda)


@cache
def _flex_attention(is_cuda: bool) -> Callable[..., Tensor]:
    from torch.nn.attention.flex_attention import flex_attention

    attend: Callable[..., Tensor] = flex_attention
    return torch.compile(attend, dynamic=False) if is_cuda else attend


def _normed(
    qkv: Tensor, q_weight: Tensor, k_weight: Tensor, index: Tensor | None, kept: Tensor | None
) -> QKV:
    """q `[F, Q, H, Dh]`, k and v `[F, P, H, Dh]`, normed; `kept` is written. One row of `index`."""
    q, k, v = qkv.unbind(2)
    q, k = rms_norm(q, q_weight), rms_norm(k, k_weight)
    if kept is None:
        return q, k, v
    if index is None:
        kept[:, 0], kept[:, 1] = k, v
    else:
        kept.index_copy_(2, index[0].long(), torch.stack([k, v], 1))
    return q, kept[:, 0], kept[:, 1]

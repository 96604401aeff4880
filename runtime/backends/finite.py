"""What is said where a model gives NaN or Inf."""

from collections.abc import Sequence

import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.runtime.model.transformer import KeysValues


def not_finite(part: str, is_finite: Sequence[bool]) -> DeviceError:
    """The error that names the layers between which a part of the model first gave NaN or Inf.

    Args:
        part: such as "dynamics".
        is_finite: of what each layer gave.
    """
    count = len(is_finite)
    places = ["the input", *(f"layer {layer}" for layer in range(count)), "the output"]
    first = [*is_finite, False].index(False)
    return DeviceError(
        f"the {part} of {count} layers gave NaN or Inf, first between {places[first]} and "
        f"{places[first + 1]}; the weights are broken or the precision is too narrow: try float32, or check "
        "the bundle"
    )


def check_finite(part: str, out: Tensor, kept: Sequence[KeysValues]) -> None:
    """Raises `DeviceError` where `out` is not finite, naming the layers whose keys and values still are."""
    if torch.isfinite(out.sum()) or torch.isfinite(out).all():  # the sum is cheaper, and rarely overflows
        return
    raise not_finite(part, [all(bool(torch.isfinite(x).all()) for x in layer) for layer in kept])

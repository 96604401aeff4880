"""The feed-forward part of an ST block."""

from torch import Tensor
from torch.nn.functional import gelu, linear


def mlp(x: Tensor, up: Tensor, down: Tensor) -> Tensor:
    """`gelu(x up^T) down^T` with the tanh form of GELU (Hendrycks and Gimpel 2016, arXiv 1606.08415).

    Args:
        x: `[..., D]`.
        up: `[F, D]`. down: `[D, F]`.

    Returns:
        `[..., D]`.
    """
    return linear(gelu(linear(x, up), approximate="tanh"), down)

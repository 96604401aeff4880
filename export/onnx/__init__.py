"""Writes the graphs of a bundle: ONNX files beside `weights.safetensors`, whose weights they name."""

from genie_rt.errors import UnsupportedError
from genie_rt.install import install_hint

try:
    import onnx  # noqa: F401 (only to say here that it is missing)
except ImportError as error:
    raise UnsupportedError(
        f"writing graphs: expected the package onnx, found none; install it with: {install_hint('onnx')}"
    ) from error

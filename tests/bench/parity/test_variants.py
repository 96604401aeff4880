"""What `verify` compares on a machine and of a bundle, and by which bounds."""

from dataclasses import replace

import pytest
import torch
from makers import make_config, make_world

from genie_rt.bench.parity.bounds import BOUNDS, bound_of
from genie_rt.bench.parity.verify import YARDSTICK, Variant, runnable, variants
from genie_rt.errors import UnsupportedError
from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.backends.select import Holdings
from genie_rt.runtime.manifest import GraphManifest, ParityBound

CONFIG = make_config(window=4, decoder_window=3)


def test_every_variant_but_the_yardstick_is_compared() -> None:
    assert YARDSTICK not in variants("cpu")
    by_name = {(variant.backend, variant.dtype) for variant in variants("cpu")}
    assert by_name == {("reference", "float32"), ("reference", "bfloat16"), ("native", "float32")}
    by_backend: dict[str, set[str]] = {}
    for variant in variants("cuda"):
        by_backend.setdefault(variant.backend, set()).add(variant.dtype)
    assert by_backend == {
        "reference": {"float64", "float32", "bfloat16"},
        "cuda": {"float32", "bfloat16", "float16", "fp8", "int8"},
    }
    assert set().union(*by_backend.values()) == set(BOUNDS)


def test_graphs_are_compared_where_the_bundle_has_them() -> None:
    graphs = GraphManifest(opset=23, precisions=("float32", "int8"))
    added = {(item.backend, item.dtype) for item in variants("cpu", Holdings(graphs=graphs))} - {
        (item.backend, item.dtype) for item in variants("cpu")
    }
    expected = {("onnx", "float32"), ("onnx", "int8")}
    assert added == expected | {("openvino", dtype) for dtype in ("float32", "bfloat16", "int8")}
    with_limits = {(item.backend, item.dtype) for item in variants("cpu", Holdings(has_limits=True))}
    assert with_limits - {(item.backend, item.dtype) for item in variants("cpu")} == {("native", "int8")}
    on_cuda = {
        (item.backend, item.dtype) for item in variants("cuda:1", Holdings(graphs=graphs, has_limits=True))
    }
    assert {backend for backend, _ in on_cuda} == {"reference", "cuda", "onnx", "tensorrt", "tensorrt-rtx"}
    assert ("onnx", "float16") not in on_cuda


def test_a_bundle_declares_what_its_own_graphs_may_be_off_by() -> None:
    declared = ParityBound(means=0.3, logit=0.5, psnr_db=44.0)
    graphs = GraphManifest(opset=23, precisions=("float32", "int8"), bounds={"int8": declared})
    bundle = replace(make_world(CONFIG).bundle, graphs=graphs)
    for backend in ("onnx", "openvino", "native", "tensorrt"):
        found = bound_of(bundle, backend, "int8")
        assert (found.means, found.logit, found.psnr_db) == (0.3, 0.5, 44.0)
        assert found.sampling == BOUNDS["int8"].sampling
    assert bound_of(bundle, "cuda", "int8") == BOUNDS["int8"]
    assert bound_of(bundle, "native", "float32") == bound_of(bundle, "onnx", "float32") == BOUNDS["float32"]
    assert bound_of(bundle, "openvino", "bfloat16") == BOUNDS["bfloat16"]
    assert bound_of(replace(bundle, graphs=None), "onnx", "int8") == BOUNDS["int8"]


def test_what_this_machine_cannot_compute_is_left_out_and_said() -> None:
    built = BACKENDS["native"].is_installed
    can = [variant for variant in variants("cpu") if built or variant.backend != "native"]
    here, reasons = runnable(variants("cpu"))
    assert here == can and len(reasons) == (not built)
    if not torch.cuda.is_available():
        with pytest.raises(UnsupportedError, match="cuda"):
            runnable(variants("cuda"))
    mixed = [*can, Variant(backend="reference", dtype="fp8", device="cpu")]
    here, reasons = runnable(mixed)
    assert here == can
    assert len(reasons) == 1 and "reference fp8 is left out" in reasons[0]

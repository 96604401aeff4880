"""The engines as a back end meets them: what is loaded, how it is set up, what is refused."""

import ctypes
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from fake_tensorrt import write_graph
from tensorrt_place import ADA, BUNDLE, SIGNATURE, Place

from genie_rt.errors import BundleError, DeviceError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.backends.exported.signature import Signature
from genie_rt.runtime.backends.tensorrt.engine import TensorRtEngine
from genie_rt.runtime.backends.tensorrt.flavour import Flavour
from genie_rt.runtime.backends.tensorrt.target import ANY, Target, driver_version


def engine_of(place: Place, here: Target = ADA, **more: Any) -> TensorRtEngine:
    return TensorRtEngine(
        BUNDLE, "float32", torch.device("cpu"), place.flavour, place.root, here=here, **more
    )  # fmt: skip


def test_a_graph_file_becomes_a_graph_that_runs(place: Place) -> None:
    graph = engine_of(place).load(place.graph, SIGNATURE)
    tokens, past = torch.full((1, 5), 3), torch.full((2, 8, 2, 16), 4.0)
    out = torch.zeros(1, 5, dtype=torch.int64)
    graph.run({"tokens": tokens, "past_1": past}, {"candidates": out})
    assert out.tolist() == [[7] * 5]


def test_the_context_owns_no_memory(place: Place) -> None:
    engine_of(place).load(place.graph, SIGNATURE)
    (call,) = [call for call in place.trt.calls if call[0] == "create_execution_context"]
    strategy = call[1] if call[2] is None else call[2].strategy
    assert strategy == place.trt.ExecutionContextAllocationStrategy.USER_MANAGED
    (memory,) = [call for call in place.trt.calls if call[0] == "set_device_memory"]
    assert memory[1] % 256 == 0 and memory[2] == 4096


def test_rtx_compiles_at_once_and_leaves_captures_to_us(rtx: Place) -> None:
    engine_of(rtx).load(rtx.graph, SIGNATURE)
    (call,) = [call for call in rtx.trt.calls if call[0] == "create_execution_context"]
    config = call[2]
    assert config.cuda_graph_strategy == rtx.trt.CudaGraphStrategy.DISABLED
    eager = rtx.trt.DynamicShapesKernelSpecializationStrategy.EAGER
    assert config.dynamic_shapes_kernel_specialization_strategy == eager


def test_what_rtx_compiled_is_kept_for_that_gpu_and_driver(rtx: Place) -> None:
    engine_of(rtx).load(rtx.graph, SIGNATURE)
    engine_of(rtx).load(rtx.graph, SIGNATURE)
    assert [call for call in rtx.trt.calls if call[0] == "runtime_cache"] == [("runtime_cache", b"kernels")]
    newer = Target(gpu=ADA.gpu, capability=89, driver="600.1")
    engine_of(rtx, newer).load(rtx.graph, SIGNATURE)
    assert len([call for call in rtx.trt.calls if call[0] == "runtime_cache"]) == 1
    assert rtx.trt.builds == 1


def test_compiled_kernels_that_rtx_refuses_or_that_are_damaged_are_made_again(rtx: Place) -> None:
    engine_of(rtx).load(rtx.graph, SIGNATURE)
    (kept,) = rtx.root.rglob("*.runtime")
    whole = kept.read_bytes()
    rtx.trt.refuses_runtime_cache = True
    engine_of(rtx).load(rtx.graph, SIGNATURE)
    kept.write_bytes(whole[:-1] + b"?")
    engine_of(rtx).load(rtx.graph, SIGNATURE)
    assert kept.read_bytes() == whole
    assert len([call for call in rtx.trt.calls if call[0] == "runtime_cache"]) == 1, (
        "damaged kernels were read"
    )


def test_a_changed_engine_is_never_read(place: Place) -> None:
    engine_of(place).load(place.graph, SIGNATURE)
    (path,) = place.root.rglob("*.engine")
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    place.trt.calls.clear()
    with pytest.raises(BundleError, match="--rebuild"):
        engine_of(place).load(place.graph, SIGNATURE)
    assert place.trt.calls == []
    engine_of(place, rebuild=True).load(place.graph, SIGNATURE)


def test_an_engine_whose_inputs_are_others_is_refused(place: Place) -> None:
    place.obtain()
    other = Signature(inputs=SIGNATURE.inputs, outputs={"candidates": SIGNATURE.outputs["candidates"]})
    with pytest.raises(BundleError, match="output 'page': expected none of that name"):
        engine_of(place).load(place.graph, other)
    assert not [call for call in place.trt.calls if call[0] == "create_execution_context"]


def test_an_input_that_shapes_depend_on_is_refused(place: Place) -> None:
    write_graph(place.path, SIGNATURE, host=["tokens"])
    with pytest.raises(BundleError, match="'tokens': expected a value that stays on the device"):
        engine_of(place).load(place.graph, SIGNATURE)


def test_an_engine_that_does_not_load_says_why(place: Place) -> None:
    place.trt.load_fails = True
    with pytest.raises(DeviceError, match=r"pass\.onnx: the engine does not load: out of memory"):
        engine_of(place).load(place.graph, SIGNATURE)


def test_rtx_has_nothing_for_a_datacentre_gpu_and_says_what_has(rtx: Place) -> None:
    hopper = Target(gpu="NVIDIA H100", capability=90, driver="580.65")
    with pytest.raises(
        UnsupportedError, match=r"8\.6, 8\.9, 12\.0, found 9\.0 \(NVIDIA H100\); take the engine tensorrt"
    ):
        engine_of(rtx, hopper)


def test_tensorrt_is_built_for_this_very_gpu_and_rtx_for_its_capability(full: Place) -> None:
    assert ADA.built_for(full.flavour) == ADA


def test_rtx_knows_no_gpu_and_no_driver(rtx: Place) -> None:
    assert ADA.built_for(rtx.flavour) == Target(gpu=ANY, capability=89, driver=ANY)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name.replace("-", "_"), None)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint(name))):
        Flavour.of(name)


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="expected one of tensorrt, tensorrt-rtx"):
        Flavour.of("tensorrt-xl")


def test_importing_it_needs_no_tensorrt() -> None:
    names = ["build", "cache", "engine", "flavour", "graph", "inspect", "target"]
    blocked = "sys.modules.update(tensorrt=None, tensorrt_rtx=None)"
    code = f"import sys; {blocked}\n" + "".join(
        f"import genie_rt.runtime.backends.tensorrt.{name}\n" for name in names
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)


class Nvml:
    """The driver's management library, as far as it is asked."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def nvmlInit_v2(self) -> int:  # noqa: N802
        return self.status

    def nvmlSystemGetDriverVersion(self, text: Any, size: int) -> int:  # noqa: N802
        assert size == 96
        text.value = b"580.65.06"
        return 0


def test_the_drivers_version_is_the_drivers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml())
    assert driver_version() == "580.65.06"


def test_a_driver_that_tells_no_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Nvml(status=9))
    with pytest.raises(UnsupportedError, match="found the status 9 of NVML"):
        driver_version()


def test_a_missing_driver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str) -> Nvml:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.raises(UnsupportedError, match=r"expected NVIDIA's driver with libnvidia-ml\.so\.1"):
        driver_version()

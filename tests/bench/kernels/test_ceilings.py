"""Ceilings are what was measured: work by time, the best size, and a reason where a format cannot run."""

from pathlib import Path

import pytest
import torch

from genie_rt.bench.kernels import ceilings
from genie_rt.bench.kernels.ceilings import MATRIX_DTYPES, CeilingsBody, measure_ceilings
from genie_rt.bench.record import Record, read_record
from genie_rt.cli import main
from genie_rt.errors import InputError, UnsupportedError


def small(**options: object) -> Record[CeilingsBody]:
    sizes = {"copy_bytes": (1 << 16, 1 << 18), "sides": (16, 32), "repeats": 2, "command": "x"}
    return measure_ceilings("cpu", **sizes | options)


def test_every_size_is_work_by_its_median_time() -> None:
    body = small().body
    assert [point.size for point in body.copy.points] == [1 << 16, 1 << 18]
    assert [matrix.name for matrix in body.matrices] == list(MATRIX_DTYPES)
    for matrix in body.matrices:
        if matrix.skipped is None:
            assert [point.size for point in matrix.points] == [16, 32]
    work = [(point, 2 * point.size) for point in body.copy.points]
    work += [(point, 2 * point.size**3) for matrix in body.matrices for point in matrix.points]
    for point, amount in work:
        assert point.median_us > 0
        assert point.per_second == pytest.approx(amount / point.median_us * 1e6)
    best = max(point.per_second for point in body.matrix("float32").points)
    assert body.matrix("float32").best == best
    assert body.launch_us > 0


def test_the_median_counts_and_the_first_call_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0]
    durations = iter([999, 5, 1, 3] * 2)
    monkeypatch.setattr(ceilings.time, "perf_counter_ns", lambda: now[0])

    def call() -> None:
        now[0] += next(durations)

    bench = ceilings._Bench(torch.device("cpu"), 3, lambda: None)
    assert bench._repeat(call) == [5, 1, 3]
    assert ceilings._point(7, [5, 1, 3], 6).per_second == 2e9
    monkeypatch.setattr(ceilings, "MAX_CALL_S", 500e-9)
    assert bench._repeat(call) == [999]  # too slow to do again


def test_larger_products_of_a_slow_format_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ceilings, "MAX_CALL_S", 0.0)
    assert [[point.size for point in matrix.points] for matrix in small().body.matrices] == [[16]] * 4


@pytest.mark.parametrize("missing", [RuntimeError("no int8 here\nsecond line"), AttributeError("_int_mm")])
def test_a_format_that_cannot_run_says_why(
    missing: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*operands: object) -> None:
        raise missing

    monkeypatch.setattr(torch, "_int_mm", refuse)
    monkeypatch.setattr(ceilings, "MATRIX_SIDES", {"cpu": (16,)})
    monkeypatch.setattr(ceilings, "COPY_BYTES", {"cpu": (1 << 16,)})
    path = tmp_path / "ceilings.json"
    assert main(["bench", "ceilings", "--repeats", "1", "--json", str(path)]) == 0
    int8 = read_record(path, CeilingsBody).body.matrix("int8")
    assert (int8.points, int8.best, int8.skipped) == ((), None, str(missing).splitlines()[0])
    printed = capsys.readouterr().out
    assert f"int8 cannot be measured here: {int8.skipped}" in printed
    for text in ("copy", "matrix product, bfloat16", "smallest operator", "B/s", "OP/s"):
        assert text in printed


def test_operands_are_random_numbers_of_their_format() -> None:
    bench = ceilings._Bench(torch.device("cpu"), 1, lambda: None)
    for dtype in ("float32", "bfloat16", "int8"):
        product = bench._product(dtype, 64)()
        assert torch.isfinite(product.float()).all()
        assert product.float().std() > 1


def test_progress_is_told_for_every_size() -> None:
    calls: list[None] = []
    body = small(on_point=lambda: calls.append(None)).body
    assert len(calls) == 2 + sum(len(matrix.points) for matrix in body.matrices)


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(InputError, match="repeats"):
        small(repeats=0)
    for device in ("abacus", "meta", "cuda:99"):
        with pytest.raises(UnsupportedError, match=device):
            measure_ceilings(device, command="x")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured_with_its_own_clock() -> None:
    body = measure_ceilings("cuda", command="x", copy_bytes=(1 << 26,), sides=(1024,), repeats=3).body
    assert body.copy.best is not None and body.copy.best > 1e9
    assert body.matrix("bfloat16").best is not None

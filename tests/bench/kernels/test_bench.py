"""The bench of kernels with toy kernels and a scripted clock: what is judged, timed and chosen."""

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torch import Tensor

from genie_rt import kernels
from genie_rt.bench.kernels.architectures import KNOWN, parse_architectures
from genie_rt.bench.kernels.ceilings import CeilingsBody, measure_ceilings
from genie_rt.bench.kernels.commands import _chosen_ops
from genie_rt.bench.kernels.compile import CompileBody, Compiled, _widest_load
from genie_rt.bench.kernels.tables import print_roofline
from genie_rt.bench.kernels.times import KernelsBody, judge_case, measure_case
from genie_rt.bench.kernels.tuning import Found, choose_fastest, choose_sound, write_choice
from genie_rt.bench.record import Record, read_record, write_record
from genie_rt.cli import main
from genie_rt.errors import ConfigError, InputError
from genie_rt.kernels.case import Case
from genie_rt.kernels.catalogue import OPS
from genie_rt.kernels.cost import Cost
from genie_rt.kernels.launch import ARCHITECTURES, Config, Kernel, Variant, config
from genie_rt.runtime.config import from_dict

SPACE = (config(4, 2, BLOCK=64), config(8, 2, BLOCK=128), config(4, 2, BLOCK=256))
KERNEL = Kernel(name="toy", function=None, space=SPACE, variants=())
CPU = torch.device("cpu")


def make_case(
    run: Callable[[], Tensor] | None = None,
    *,
    name: str = "small",
    baselines: Mapping[str, Callable[[], object]] | None = None,
    exact: bool = False,
) -> Case:
    """Doubles a tensor, and asks for its configuration as a launch would."""
    x = torch.arange(12.0).view(3, 4)

    def launched() -> tuple[Tensor]:
        KERNEL.config_for("fp32", CPU)
        return (x * 2 if run is None else run(),)

    return Case(
        op="toy", name=name, dtype=torch.float32, run=launched, reference=lambda: (x * 2,),
        baselines=baselines or {}, cost=Cost(flops=0, bytes=96), exact=(exact,),
    )  # fmt: skip


@pytest.fixture(scope="module")
def ceilings() -> CeilingsBody:
    return measure_ceilings("cpu", command="", repeats=1, copy_bytes=[2**16], sides=[16]).body


def scripted(us: Mapping[str, float]) -> Callable[..., Mapping[str, Sequence[float]]]:
    """A clock that runs everything once and says what it was told."""

    def clock(calls: Mapping[str, Callable[[], object]]) -> Mapping[str, Sequence[float]]:
        for call in calls.values():
            call()
        return {name: [us[name]] * 5 for name in calls}

    return clock


def test_a_right_case_has_times_a_share_and_its_rivals(ceilings: CeilingsBody) -> None:
    def broken() -> None:
        raise RuntimeError("no such kernel here")

    case = make_case(baselines={"slow": lambda: None, "quick": lambda: None, "broken": broken})
    row = measure_case(case, ceilings, scripted({"ours": 2.0, "slow": 9.0, "quick": 4.0}), CPU)
    assert (row.failure, row.error, row.median_us, row.p95_us) == (None, 0.0, 2.0, 2.0)
    assert row.bound_by == "bytes"
    assert row.percent == pytest.approx(100 * 96 / ceilings.copy.best / 2e-6)  # type: ignore[operator]
    assert row.strongest is not None and (row.strongest.name, row.strongest.median_us) == ("quick", 4.0)
    assert [item.failure for item in row.baselines if item.name == "broken"] == [
        "RuntimeError: no such kernel here"
    ]


WRONG: dict[str, Callable[[], Tensor]] = {
    "zeros": lambda: torch.zeros(3, 4),
    "doubled": lambda: torch.arange(12.0).view(3, 4) * 4,
    "shuffled": lambda: torch.arange(12.0).flip(0).view(3, 4) * 2,
    "NaN": lambda: torch.full((3, 4), torch.nan),
    "of another shape": lambda: torch.zeros(3, 5),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("exact", [False, True])
def test_a_wrong_result_has_no_time(ceilings: CeilingsBody, wrong: str, exact: bool) -> None:
    row = measure_case(make_case(WRONG[wrong], exact=exact), ceilings, scripted({}), CPU)
    assert row.failure is not None and row.failure.startswith("output 0: ")
    assert row.median_us is None


def test_exact_outputs_have_to_be_equal() -> None:
    nearly = make_case(lambda: torch.arange(12.0).view(3, 4) * (2 + 1e-6), exact=True)
    assert judge_case(nearly)[1] == "output 0: 11 of 12 differ"  # zero stays zero


def test_a_kernel_that_raises_is_a_row_with_its_reason(ceilings: CeilingsBody) -> None:
    def run() -> Tensor:
        raise ValueError("out of\n  shared memory")

    row = measure_case(make_case(run), ceilings, scripted({}), CPU)
    assert row.failure == "ValueError: out of shared memory"


@pytest.mark.parametrize("words", [[], ["--tune"]], ids=["measure", "tune"])
@pytest.mark.parametrize("device", ["cpu", "cuda:99"])
def test_without_a_gpu_the_first_message_says_what_needs_none(
    device: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "kernels", "--device", device, *words]) == 1
    message = capsys.readouterr().err
    assert f"found {device!r}; without one use --compile-only or --roofline\n" in message
    assert "try" not in message


def test_operators_are_taken_by_the_names_that_the_kernels_page_lists() -> None:
    page = (Path(kernels.__file__).parent / "README.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    names = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert {_chosen_ops([name]) for name in names} == {(op,) for op in OPS}
    assert _chosen_ops(["vq_lookup", "mlp_gelu", "mlp"]) == ("mlp", "vq_lookup")
    with pytest.raises(InputError, match=r"expected operators among embed_tokens, .*, found 'vq_decode'"):
        _chosen_ops(["mlp_gelu", "vq_decode"])


def test_the_fastest_configuration_over_all_cases_is_chosen() -> None:
    """The second is best in one case and bad in the other; the third is nearly best in both."""
    times = iter([{"0": 4.0, "1": 1.0, "2": 1.1}, {"0": 4.0, "1": 3.0, "2": 1.0}])

    def clock(calls: Mapping[str, Callable[[], object]]) -> Mapping[str, Sequence[float]]:
        return {name: [us] for name, us in next(times).items()}

    found = choose_fastest([make_case(name="a"), make_case(name="b")], clock)
    assert found == {("toy", "fp32"): SPACE[2]}


def test_a_configuration_that_gives_a_wrong_result_is_not_chosen() -> None:
    from genie_rt.kernels import launch

    def run() -> Tensor:
        assert launch._trial is not None
        good = launch._trial.configs.get(("toy", "fp32"), SPACE[0]) != SPACE[0]
        return torch.arange(12.0).view(3, 4) * (2 if good else 3)

    def clock(calls: Mapping[str, Callable[[], object]]) -> Mapping[str, Sequence[float]]:
        assert list(calls) == ["0", "1"]  # of the two that are right
        return {"0": [2.0], "1": [1.0]}

    assert choose_fastest([make_case(run)], clock) == {("toy", "fp32"): SPACE[2]}


def make_compiled(config: Config, *, stack: int = 0, shared: int = 0, failure: str | None = None) -> Compiled:
    return Compiled(
        kernel="toy", variant="fp32", architecture="sm_90", config=config, chosen=True,
        stack_bytes=stack, shared_bytes=shared, shared_limit=1000, failure=failure,
    )  # fmt: skip


def test_without_a_gpu_the_first_sound_configuration_is_chosen() -> None:
    rows = {
        SPACE[0]: make_compiled(SPACE[0], shared=2000),
        SPACE[1]: make_compiled(SPACE[1], stack=8),
        SPACE[2]: make_compiled(SPACE[2], shared=1000),
    }
    tried = []

    def compile_one(kernel: Kernel, variant: Variant, config: Config, capability: int) -> Compiled:
        tried.append((variant.name, capability, config))
        return rows[config]

    variants = (
        Variant(name="fp32", types={}, constants={}),
        Variant(name="fp8", types={}, constants={}, capability=89),
    )
    kernel = dataclasses.replace(KERNEL, variants=variants)
    assert choose_sound([kernel], 80, compile_one) == {("toy", "fp32"): SPACE[2]}
    assert tried == [("fp32", 80, config) for config in SPACE]
    rows[SPACE[2]] = make_compiled(SPACE[2], failure="no")
    assert choose_sound([kernel], 80, compile_one) == {("toy", "fp32"): SPACE[1]}  # spills, but fits
    rows[SPACE[0]] = make_compiled(SPACE[0])
    tried.clear()
    assert choose_sound([kernel], 90, compile_one) == {("toy", name): SPACE[0] for name in ("fp32", "fp8")}
    assert len(tried) == 2


def test_what_speaks_against_a_configuration() -> None:
    assert make_compiled(SPACE[0], shared=2000).problem == "2000 bytes of shared memory, 1000 are there"
    assert make_compiled(SPACE[0], stack=8).problem == "spills: 8 bytes of stack a thread"
    assert make_compiled(SPACE[0], failure="no such type").problem == "no such type"
    sound = make_compiled(SPACE[0], shared=1000)
    assert sound.problem is None
    broken = dataclasses.replace(sound, stack_bytes=8)
    assert CompileBody(triton="3", rows=(sound, dataclasses.replace(broken, chosen=False))).passed
    assert not CompileBody(triton="3", rows=(sound, broken)).passed


def test_choices_are_filed_beside_those_that_were_there(tmp_path: Path) -> None:
    found = Found(how="measured", command="genie-rt bench kernels", date="2026-01-01", triton="3", device="G")
    write_choice(tmp_path, 90, {("toy", "fp32"): SPACE[0], ("toy", "bf16"): SPACE[0]}, found)
    path = write_choice(tmp_path, 90, {("toy", "fp32"): SPACE[1]}, found)
    values = json.loads(path.read_bytes())
    assert values["capability"] == 90 and values["last_run"]["device"] == "G"
    assert values["kernels"]["toy"] == {
        "bf16": {"blocks": {"BLOCK": 64}, "num_warps": 4, "num_stages": 2, "found": "measured"},
        "fp32": {"blocks": {"BLOCK": 128}, "num_warps": 8, "num_stages": 2, "found": "measured"},
    }


def test_architectures_are_named_as_compilers_name_them() -> None:
    assert [item.capability for item in parse_architectures("sm_80, sm_90a,120")] == [80, 90, 120]
    assert [item.capability for item in parse_architectures("all")] == list(ARCHITECTURES) == sorted(KNOWN)
    for word in ("sm_70", "", "H100"):
        with pytest.raises(InputError, match=r"--arch: expected some of sm_80,"):
            parse_architectures(word)


def test_the_widest_load_is_read_from_the_code() -> None:
    assert _widest_load("ld.global.b32 %r1, [%rd1];\n@%p1 ld.global.v4.b32 { %r1 }, [ %rd1 + 0 ];") == 128
    assert _widest_load("ld.global.L1::evict_last.v2.b32 {}") == 64
    assert _widest_load("cp.async.cg.shared.global [ %r1 + 0 ], [ %rd2 + 0 ], 0x10, %r3;") == 128
    assert _widest_load("st.global.v4.b32 [%rd1], {};") == 0


def test_records_of_kernels_can_be_read_again(tmp_path: Path, ceilings: CeilingsBody) -> None:
    row = measure_case(
        make_case(baselines={"other": lambda: None}), ceilings, scripted({"ours": 2.0, "other": 3.0}), CPU
    )
    bodies = (
        KernelsBody(triton="3", ceilings=ceilings, rows=(row,)),
        CompileBody(triton="3", rows=(make_compiled(SPACE[0], failure="no"),)),
    )
    for body in bodies:
        path = tmp_path / f"{body.KIND}.json"
        write_record(path, Record.take(body, command="genie-rt bench kernels", device="cpu", warnings=()))
        assert read_record(path, type(body)).body == body
    path.write_text(path.read_text().replace('"toy"', "7"))
    with pytest.raises(InputError, match=r"rows\[0\].kernel: expected str, found 7"):
        read_record(path, CompileBody)


def test_a_pair_in_a_record_has_two_entries() -> None:
    assert from_dict(Config, {"blocks": [["BLOCK", 64]]}).blocks == (("BLOCK", 64),)
    with pytest.raises(ConfigError, match=r"blocks\[0\]: expected a list of 2, found one of 3"):
        from_dict(Config, {"blocks": [["BLOCK", 64, 2]]})


def test_a_bound_is_the_roofline(capsys: pytest.CaptureFixture[str]) -> None:
    device = dataclasses.replace(KNOWN[90], bytes_per_second=1e6, flops_per_second={"float32": 1e9})
    costs = [("toy", "a", Cost(flops=10, bytes=10)), ("toy", "b", Cost(flops=50_000, bytes=10))]
    print_roofline(Console(width=100), costs, [device], "float32")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("toy")]
    assert [row[-1] for row in rows] == ["10", "50*"]

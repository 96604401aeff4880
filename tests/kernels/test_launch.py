"""Which configuration a launch takes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from genie_rt.errors import UnsupportedError
from genie_rt.kernels import launch
from genie_rt.kernels.launch import Kernel, Trial, Variant, check_device, config, next_power_of_2

SPACE = (config(4, 2, BLOCK=64), config(8, 3, BLOCK=128))


def make_kernel(function: Any = None) -> Kernel:
    variant = Variant(name="bf16", types={"x": "*bf16"}, constants={})
    return Kernel(name="toy", function=function, space=SPACE, variants=(variant,))


def forget_choices() -> None:
    launch.tuned.cache_clear()
    launch._chosen.cache_clear()


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of choices that holds one, for sm_89."""
    entry = {"blocks": {"BLOCK": 128}, "num_warps": 8, "num_stages": 3}
    (tmp_path / "sm_89.json").write_text(json.dumps({"kernels": {"toy": {"bf16": entry}}}))
    monkeypatch.setattr(launch, "TUNED", tmp_path)
    forget_choices()
    yield tmp_path
    forget_choices()


def test_an_architecture_takes_the_choice_of_the_next_lower_one(tuned: Path) -> None:
    kernel = make_kernel()
    for capability, expected in (
        (80, SPACE[0]),
        (89, SPACE[1]),
        (90, SPACE[1]),
        (120, SPACE[1]),
        (0, SPACE[0]),
    ):
        assert kernel.config_on("bf16", capability) == expected
    assert kernel.config_on("fp16", 90) == SPACE[0]
    assert kernel.config_for("bf16", torch.device("cpu")) == SPACE[0]


def test_a_trial_rules_while_it_lasts_and_notes_what_was_launched() -> None:
    kernel, cpu = make_kernel(), torch.device("cpu")
    with Trial(configs={("toy", "bf16"): SPACE[1]}) as trial:
        assert kernel.config_for("bf16", cpu) == SPACE[1]
        assert kernel.config_for("fp16", cpu) == SPACE[0]
    assert set(trial.asked) == {("toy", "bf16"), ("toy", "fp16")}
    assert kernel.config_for("bf16", cpu) == SPACE[0]


def test_a_launch_gets_blocks_warps_and_stages() -> None:
    class Function:
        def __getitem__(self, grid: tuple[int, ...]) -> Any:
            return lambda *args, **kwargs: seen.append((grid, args, kwargs))

    seen: list[Any] = []
    make_kernel(Function()).launch((3,), SPACE[1], "x", WIDTH=5)
    assert seen == [((3,), ("x",), {"WIDTH": 5, "BLOCK": 128, "num_warps": 8, "num_stages": 3})]


def test_a_cpu_tensor_needs_the_interpreter() -> None:
    with pytest.raises(UnsupportedError, match=r"toy: expected tensors on a CUDA device.*ops.genie_rt.toy"):
        check_device(torch.zeros(1), make_kernel(lambda: None))


@pytest.mark.parametrize(("number", "expected"), [(1, 1), (2, 2), (3, 4), (920, 1024), (1024, 1024)])
def test_next_power_of_2(number: int, expected: int) -> None:
    assert next_power_of_2(number) == expected

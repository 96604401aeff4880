"""The committed configurations: all of them are of kernels that exist, and none is missing."""

import pytest

pytest.importorskip("triton", reason="the kernels need Triton")

from genie_rt.kernels.catalogue import OPS, all_kernels
from genie_rt.kernels.launch import ARCHITECTURES, tuned

KERNELS = {kernel.name: kernel for kernel in all_kernels(OPS)}


@pytest.mark.parametrize("capability", ARCHITECTURES)
def test_every_specialisation_has_a_configuration_of_its_kernels_space(capability: int) -> None:
    choices = tuned(capability)
    assert set(choices) <= set(KERNELS)
    for name, kernel in KERNELS.items():
        expected = {variant.name for variant in kernel.variants if variant.capability <= capability}
        assert set(choices.get(name, {})) == expected
        assert {kernel.config_on(variant, capability) for variant in expected} <= set(kernel.space)


def test_every_specialisation_names_all_arguments_of_its_kernel() -> None:
    for kernel in KERNELS.values():
        names = set(kernel.function.arg_names)
        for config in kernel.space:
            for variant in kernel.variants:
                blocks = {name for name, _ in config.blocks}
                assert variant.types.keys() | variant.constants.keys() | blocks == names, kernel.name
                given = {name for name, value in variant.constants.items() if value is not None}
                assert not variant.types.keys() & (given | blocks), kernel.name


def test_a_program_that_writes_to_what_it_reads_has_a_number_for_every_thread() -> None:
    """With fewer, two warps would hold the same number, and one might read what the other had written."""
    for name in ("norm_qkv", "norm_qkv_fp8", "norm_qkv_int8", "mlp_gelu", "mlp_gelu_fp8", "mlp_gelu_int8"):
        for config in KERNELS[name].space:
            blocks = dict(config.blocks)
            assert (blocks.get("TILE") or blocks["BLOCK"]) >= 32 * config.num_warps, (name, config)


def test_a_launch_specialises_for_what_was_compiled() -> None:
    """Each integer is either a multiple of 16 at the presets' sizes or not to be looked at."""
    for kernel in KERNELS.values():
        function = kernel.function  # Triton's interpreter keeps what the decorator was given
        ignored = set(
            getattr(function, "kwargs", {}).get("do_not_specialize")
            or getattr(function, "do_not_specialize", None)
            or ()
        )
        for variant in kernel.variants:
            integers = {name for name, kind in variant.types.items() if kind in ("i32", "i64")}
            assert integers - ignored == set(variant.multiples_of_16), (kernel.name, variant.name)

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

"""A small bundle that claims sizes of gigabytes is refused before anything is built; presets are not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import CONFIG, edit, refuse

from genie_rt.errors import BundleError
from genie_rt.runtime import memory_bound
from genie_rt.runtime.cost import model_cost
from genie_rt.runtime.memory_bound import FREE_BYTES, check_memory, memory_limit, memory_parts
from genie_rt.runtime.pages import CHUNK_PAGES
from genie_rt.runtime.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_every_preset_is_far_within_what_its_weights_warrant(name: str, dtype: str) -> None:
    config = preset(name)
    weight_bytes = model_cost(config).weight_bytes(dtype)
    assert sum(memory_parts(config, passes=64).values()) < 0.75 * memory_limit(weight_bytes)
    check_memory(config, weight_bytes, name, passes=64)


def test_pages_are_counted_by_the_chunks_that_are_allocated() -> None:
    assert memory_bound.CHUNK_PAGES == CHUNK_PAGES


@pytest.mark.parametrize(
    ("part", "sizes", "says"),
    [
        ("tokenizer", {"patch": 1, "decoder_patch": 256, "height": 64, "width": 64}, "frames of 16384"),
        ("tokenizer", {"patch": 256, "height": 8192, "width": 8192}, "pictures of 8192 x 8192 pixels"),
        ("tokenizer", {"height": 1, "width": 1, "decoder_patch": 256, "patch": 256}, ""),
        ("tokenizer", {"patch": 4, "height": 256, "width": 256, "codebook_size": 65536}, "scores of"),
        ("tokenizer", {"patch": 4, "height": 512, "width": 512}, "attention among 16384 tokens"),
        ("tokenizer", {"codebook_size": 65536, "codebook_dim": 4096}, "a table of 65536 codes"),
        ("transformer", {"window": 4096, "num_layers": 512}, "pages of windows up to 4096 frames"),
        ("transformer", {"num_heads": 1024, "head_width": 1024, "num_layers": 512}, "pages of windows"),
    ],
)  # fmt: skip
def test_sizes_that_take_gigabytes_say_what_takes_them(part: str, sizes: dict[str, int], says: str) -> None:
    tokenizer, dynamics = CONFIG.tokenizer, CONFIG.dynamics
    if part == "tokenizer":
        tokenizer = replace(tokenizer, **sizes)
    else:
        dynamics = replace(dynamics, transformer=replace(dynamics.transformer, **sizes))
    config = replace(CONFIG, tokenizer=tokenizer, dynamics=dynamics)
    if not says:
        check_memory(config, 822_000, "tiny")
        return
    with pytest.raises(BundleError, match=r"tiny: expected a model that takes at most 525 MiB") as caught:
        check_memory(config, 822_000, "tiny")
    assert says in str(caught.value)


def test_the_passes_of_plans_count() -> None:
    tokens = CONFIG.tokenizer.num_tokens
    assert memory_parts(CONFIG, 4096)["random numbers of 4096 passes"] == 12 * tokens * 4096


def test_what_a_bundle_may_take_grows_with_its_weights() -> None:
    assert memory_limit(0) == FREE_BYTES
    assert memory_limit(2**30) == FREE_BYTES + 16 * 2**30


def test_a_bundle_is_refused_when_it_is_opened(folder: Path) -> None:
    def grow(values: dict[str, Any]) -> None:
        values["config"]["tokenizer"] |= {"patch": 1, "decoder_patch": 256, "height": 64, "width": 64}

    edit(folder, grow)
    refuse(folder, "bundle.json", "frames of 16384 x 16384 pixels alone 12,288 MiB", "smaller sizes")

"""Readers of JSON and graphs, given what Hypothesis makes of a valid file: refused in words, or read.

It makes small what it finds. The campaign in `test_fuzz.py` tries more, and whole commands.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("onnx", reason="mutates graphs with it")

from fuzz.mutate import mutate_json, mutate_safetensors, places_of, with_change
from fuzz.mutate_graph import mutate_graph
from fuzz.samples import ROOT, write_sample_bundle

from genie_rt.bench.latency.frame_record import FrameBody
from genie_rt.bench.parity.verify import VerifyBody
from genie_rt.bench.record import read_record
from genie_rt.errors import GenieError
from genie_rt.export.graph_writer import read_psnr_changes
from genie_rt.export.plans import read_recommended
from genie_rt.export.run_card import card_metrics
from genie_rt.export.run_card import read_record as read_metrics
from genie_rt.runtime.backends.exported.checked import check_graph
from genie_rt.runtime.backends.exported.limits import limits_of
from genie_rt.runtime.backends.exported.signature import signatures
from genie_rt.runtime.bundle import Bundle, open_bundle, read_file, read_weights
from genie_rt.runtime.manifest import parse_manifest
from genie_rt.runtime.stored_weights import read_stored

EXAMPLES = settings(
    derandomize=True, deadline=None, max_examples=60, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
RANDOMS = st.randoms(use_true_random=False)

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
"""JSON, and the NaN and infinities that Python writes as if they were."""


def _metrics(path: Path) -> object:
    record = read_metrics(path)
    return card_metrics(record.get("figures", record))


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "manifest": ("runtime/bundles/demo/bundle.json", lambda path: parse_manifest(path.read_bytes(), "it")),
    "precisions": ("docs/demo-exported.json", read_psnr_changes),
    "plans": ("docs/demo-quality.json", read_recommended),
    "metrics": ("docs/demo-evaluation.json", _metrics),
    "frame record": ("bench/results/demo-cpu-k2.json", lambda path: read_record(path, FrameBody)),
    "verify record": ("bench/results/demo-cpu-verify.json", lambda path: read_record(path, VerifyBody)),
}


def refused_or_read(read: Callable[[Path], object], path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        read(path)
    except GenieError as error:
        assert 0 < len(str(error)) < 4000


@pytest.mark.parametrize("reader", READERS)
def test_any_value_at_any_place(reader: str, tmp_path: Path) -> None:
    sample, read = READERS[reader]
    value = json.loads((ROOT / sample).read_bytes())
    places = st.sampled_from(places_of(value))

    @EXAMPLES
    @given(places, VALUES)
    def check(place: tuple[Any, ...], new: object) -> None:
        data = json.dumps(with_change(value, place, lambda old: new)).encode()
        refused_or_read(read, tmp_path / "it.json", data)

    check()


@pytest.mark.parametrize("reader", READERS)
def test_json_that_is_none(reader: str, tmp_path: Path) -> None:
    sample, read = READERS[reader]
    data = (ROOT / sample).read_bytes()

    @EXAMPLES
    @given(RANDOMS)
    def check(random: Random) -> None:
        refused_or_read(read, tmp_path / "it.json", mutate_json(random, data)[1])

    check()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return open_bundle(write_sample_bundle(tmp_path_factory.mktemp("structures") / "tiny"))


@pytest.mark.parametrize("graph", ["encode", "pass", "pass-at", "decode", "frame-whole"])
def test_graphs(graph: str, bundle: Bundle) -> None:
    """What is written for the engine is what was checked: it reads as the same graph."""
    data, weights = read_file(bundle, f"{graph}.onnx").tobytes(), read_weights(bundle)
    plans = dict(bundle.plans)
    signature = signatures(bundle.config, "float32", plans)[graph]
    limits = limits_of(bundle.config, graph, plans, len(weights.data))

    @EXAMPLES
    @given(RANDOMS)
    def check(random: Random) -> None:
        _, changed, wrong = mutate_graph(random, data)
        try:
            found = check_graph(Path(graph), changed, weights, signature, limits)
        except GenieError as error:
            assert 0 < len(str(error)) < 4000
        else:
            assert not wrong
            again = check_graph(Path(graph), found.to_bytes(), weights, signature, limits)
            assert again.model == found.model and again.to_bytes() == found.to_bytes()

    check()


def test_files_of_weights(bundle: Bundle) -> None:
    """Whatever is taken fills the file, each byte once."""
    data = read_weights(bundle).data.tobytes()

    @EXAMPLES
    @given(RANDOMS)
    def check(random: Random) -> None:
        word, changed, wrong = mutate_safetensors(random, data)
        try:
            found = read_stored(np.frombuffer(changed, np.uint8))
        except ValueError as error:
            assert 0 < len(str(error)) < 4000
        else:
            assert not wrong or word == "a number that is none"
            lengths = sum(stored.length for stored in found.tensors.values())
            assert lengths == len(changed) - 8 - int.from_bytes(changed[:8], "little")

    check()

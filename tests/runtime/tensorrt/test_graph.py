"""A loaded engine over our memory: what it is bound to, and when it is captured."""

import threading
from collections import Counter

import pytest
import torch
from fake_tensorrt import Context, Engine, FakeCaptures, FakeTensorRt, page
from makers import make_config
from torch import Tensor

from genie_rt.errors import DeviceError, InputError
from genie_rt.runtime.backends.exported.memory import BoundPages
from genie_rt.runtime.backends.exported.signature import Signature, Value
from genie_rt.runtime.backends.tensorrt.flavour import Log
from genie_rt.runtime.backends.tensorrt.graph import MANY_RUNS, MAX_KEYS, TensorRtGraph
from genie_rt.runtime.pages import Pages

W = 4
PAGE = (2, 8, 2, 16)
ONE, TOKENS = Value(dtype="int64", shape=(1,)), Value(dtype="int64", shape=(1, 5))
PASS = Signature(
    inputs={"tokens": TOKENS, "num_past": ONE, **{f"past_{age}": page(*PAGE) for age in range(1, W)}},
    outputs={"candidates": TOKENS, "logits": Value(dtype="float32", shape=(1, 5, 3)), "page": page(*PAGE)},
)
SUBSET = Signature(
    inputs={"index": Value(dtype="int64", shape=("Q",)), "around": page(*PAGE)},
    outputs={"candidates": Value(dtype="int64", shape=(1, "Q")), "around_out": page(*PAGE)},
)


def aligned(*shape: int, value: float = 0.0, off: int = 0) -> Tensor:
    """A float32 tensor that lies `off` bytes after a multiple of 256."""
    size = 4 * torch.Size(shape).numel()
    memory = torch.zeros(size + 512, dtype=torch.uint8)
    start = -memory.data_ptr() % 256 + off
    return memory[start : start + size].view(torch.float32).view(shape).fill_(value)


class Bench:
    """A graph on the fake, its context and what was asked of it."""

    def __init__(self, signature: Signature = PASS, *, rtx: bool = False) -> None:
        self.trt = FakeTensorRt(rtx=rtx)
        ports = [
            [name, value.dtype, [-1 if isinstance(side, str) else side for side in value.shape], kind]
            for kind, values in (("in", signature.inputs), ("out", signature.outputs))
            for name, value in values.items()
        ]
        self.log = Log(self.trt)
        self.context = Context(Engine(self.trt, {"ports": ports}))
        self.graph = TensorRtGraph(
            "pass", self.context, signature, torch.device("cpu"), FakeCaptures(self.trt, self.context),
            self.log, scratch_bytes=4096,
        )  # fmt: skip

    def names(self) -> list[str]:
        """The calls since the last time, a run of the same as one."""
        found = [call[0] for call in self.trt.calls]
        self.trt.calls.clear()
        return [name for i, name in enumerate(found) if i == 0 or name != found[i - 1]]

    def run(self, pages: list[Tensor], first: int = 1) -> int:
        """One run over pages, newest first; returns a number of its output, and checks that it is the sum."""
        inputs = {
            "tokens": torch.full((1, 5), first), "num_past": torch.tensor([0, W - 1, 0])[1:2],
            **{f"past_{age}": past for age, past in enumerate(pages, 1)},
        }  # fmt: skip
        out = torch.zeros(1, 5, dtype=torch.int64)
        self.graph.run(inputs, {"candidates": out})
        assert out.tolist() == [[first + W - 1 + sum(int(past.flatten()[0]) for past in pages)] * 5]
        return int(out[0, 0])


ENQUEUED = ["set_tensor_address", "execute_async_v3"]


def three_pages(seed: int) -> list[Tensor]:
    return [aligned(*PAGE, value=10.0**seed * i) for i in range(1, W)]


def test_pages_are_bound_where_they_lie_and_the_rest_in_places_that_stay() -> None:
    bench, own_page = Bench(), aligned(*PAGE)
    pages = three_pages(1)
    inputs = {"tokens": torch.full((1, 5), 7), "num_past": torch.tensor([3])}
    inputs |= {f"past_{age}": past for age, past in enumerate(pages, 1)}
    for tokens in (7, 8):
        fresh = {**inputs, "tokens": torch.full((1, 5), tokens)}
        outputs = {"candidates": torch.zeros(1, 5, dtype=torch.int64), "page": own_page}
        bench.graph.run(fresh, outputs)
        assert outputs["candidates"].tolist() == [[tokens + 3 + 60] * 5]
        assert own_page.unique().tolist() == [tokens + 3 + 60 + 2]
    bound = [call[1:] for call in bench.trt.calls if call[0] == "set_tensor_address"]
    first, second = dict(bound[:8]), dict(bound[8:])
    assert first == second, "an address that changed without a page that changed"
    assert [first[f"past_{age}"] for age in range(1, W)] == [past.data_ptr() for past in pages]
    assert first["page"] == own_page.data_ptr()
    assert len(set(first.values())) == 8, "two outputs or inputs in one place"


def test_all_is_bound_before_the_engine_is_run() -> None:
    bench = Bench()
    assert bench.trt.calls[0][0] == "set_device_memory" and bench.trt.calls[0][2] == 4096
    bench.names()
    bench.run(three_pages(1))
    assert bench.names() == ENQUEUED


def test_a_page_that_is_not_aligned_is_copied() -> None:
    bench = Bench()
    pages = [aligned(*PAGE, value=value, off=64) for value in (1, 2, 3)]
    bench.run(pages)
    out = aligned(*PAGE, off=4)
    inputs = {"tokens": torch.zeros(1, 5, dtype=torch.int64), "num_past": torch.tensor([0])}
    bench.graph.run(inputs | {f"past_{age}": past for age, past in enumerate(pages, 1)}, {"page": out})
    assert out.unique().tolist() == [6 + 2]


def test_outputs_that_nobody_wants_have_memory_of_their_own() -> None:
    bench = Bench()
    bench.run(three_pages(1))
    addresses = [call[2] for call in bench.trt.calls if call[0] == "set_tensor_address"]
    assert len(addresses) == len({*addresses}) == 8


def test_pages_that_come_round_are_captured_once_and_then_replayed() -> None:
    bench = Bench()
    mine, others = three_pages(1), three_pages(2)
    story = [("run", mine), ("run", others), ("capture", mine), ("capture", others), ("replay", mine)]
    story += [("replay", others), ("replay", mine)]
    expected = {
        "run": ENQUEUED,
        "capture": ["prepare", *ENQUEUED, *ENQUEUED, "captured"],
        "replay": ["replay"],
    }
    bench.names()
    for number, (what, pages) in enumerate(story):
        bench.run(pages, first=number)  # with tokens of its own: a replay must not see older ones
        assert bench.names() == expected[what]


def test_a_session_is_captured_once_for_each_page_of_its_ring() -> None:
    bench, config = Bench(), make_config().dynamics.transformer
    pool = BoundPages(config, 4, torch.float32, torch.device("cpu"))
    memory = [aligned(*PAGE, value=index) for index in range(16)]
    window = config.window
    held: Pages = tuple(pool.take() for _ in range(window - 1))
    seen = []
    for _ in range(4 * window):
        places = [memory[page.index] for page in held] + [memory[15]] * (W - window)
        for first in range(3):  # passes
            bench.run(places[: W - 1], first)
        seen.append(tuple(page.index for page in held))
        held = pool.push(held, pool.take())
    assert Counter(seen) == dict.fromkeys(seen[:window], 4), "the ring has another period than W"
    names = Counter(call[0] for call in bench.trt.calls)
    assert names["prepare"] == window
    assert names["replay"] == 3 * 4 * window - 3 * window - window


def test_passes_in_a_row_are_no_reason_to_capture() -> None:
    bench, pages = Bench(), three_pages(1)
    for _ in range(MANY_RUNS):
        bench.run(pages)
    assert ("prepare",) not in bench.trt.calls


def test_a_set_that_never_changes_is_captured_in_the_end() -> None:
    bench, pages = Bench(), three_pages(1)
    for _ in range(MANY_RUNS + 2):
        bench.run(pages)
    assert Counter(call[0] for call in bench.trt.calls)["prepare"] == 1
    assert bench.trt.calls[-1] == ("replay",)


def test_more_sets_than_are_remembered_are_run_without_captures() -> None:
    bench = Bench()
    sets = [three_pages(1) for _ in range(MAX_KEYS + 1)]
    for _ in range(3):
        for pages in sets:
            bench.run(pages)
    assert ("prepare",) not in bench.trt.calls
    assert len(bench.graph._met) == MAX_KEYS


def test_the_set_that_was_not_met_for_longest_is_forgotten() -> None:
    bench, kept = Bench(), three_pages(1)
    for _ in range(2):
        bench.run(kept)
        bench.run(three_pages(2))
    bench.names()
    strangers = [three_pages(2) for _ in range(2 * MAX_KEYS)]  # all alive: no two at one address
    for pages in strangers:
        bench.run(pages)
        bench.run(kept)
    assert bench.trt.calls[-1] == ("replay",)
    assert len(bench.graph._met) == MAX_KEYS


def test_a_context_that_cannot_be_captured_is_run() -> None:
    bench = Bench(rtx=True)
    bench.trt.capturable = False
    mine, others = three_pages(1), three_pages(2)
    for _ in range(3):
        bench.run(mine)
        bench.run(others)
    assert ("prepare",) not in bench.trt.calls


def test_subsets_of_every_size_tell_their_shape() -> None:
    bench, around = Bench(SUBSET), aligned(*PAGE, value=5)
    for size in (2, 3, 2, 3, 2):
        out = torch.zeros(1, size, dtype=torch.int64)
        bench.graph.run({"index": torch.full((size,), 4), "around": around}, {"candidates": out})
        assert out.tolist() == [[9] * size]
    shapes = [call[2] for call in bench.trt.calls if call[0] == "set_input_shape"]
    assert shapes == [(2,), (3,), (2,), (2,), (3,), (3,)]
    assert bench.trt.calls[-1] == ("replay",)


def test_a_subset_whose_tokens_nobody_wants_still_has_a_place_for_them() -> None:
    bench, out = Bench(SUBSET), aligned(*PAGE)
    bench.graph.run({"index": torch.full((3,), 4), "around": aligned(*PAGE, value=5)}, {"around_out": out})
    assert out.unique().tolist() == [10]


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("tokens", torch.zeros(1, 5)),
        ("tokens", torch.zeros(1, 6, dtype=torch.int64)),
        ("tokens", torch.zeros(5, dtype=torch.int64)),
        ("past_2", torch.zeros(2, 8, 16, 2).transpose(2, 3)),
        ("past_2", torch.zeros(PAGE, device="meta")),
    ],
)
def test_a_tensor_that_is_not_the_signatures_is_refused(name: str, tensor: Tensor) -> None:
    bench = Bench()
    inputs = {"tokens": torch.zeros(1, 5, dtype=torch.int64), "num_past": torch.tensor([0])}
    inputs |= {f"past_{age}": aligned(*PAGE) for age in range(1, W)}
    with pytest.raises(InputError, match=f"the graph pass: {name}: expected .*, found"):
        bench.graph.run(inputs | {name: tensor}, {})
    assert ("execute_async_v3", 0) not in bench.trt.calls


def test_names_that_are_not_the_signatures_are_refused() -> None:
    bench = Bench()
    inputs = {"tokens": torch.zeros(1, 5, dtype=torch.int64), "num_past": torch.tensor([0])}
    with pytest.raises(InputError, match="expected the inputs tokens, num_past, past_1"):
        bench.graph.run(inputs, {})
    inputs |= {f"past_{age}": aligned(*PAGE) for age in range(1, W)}
    with pytest.raises(InputError, match=r"found .* and rgb"):
        bench.graph.run(inputs, {"rgb": torch.zeros(1)})


@pytest.mark.parametrize("call", ["set_tensor_address", "execute_async_v3"])
def test_an_engine_that_fails_says_which_graph_and_why_and_runs_again(call: str) -> None:
    bench, pages = Bench(), three_pages(1)
    bench.log.sink.log(bench.trt.ILogger.Severity.ERROR, "an illegal memory access")
    bench.trt.fails = call
    with pytest.raises(DeviceError, match=rf"the graph pass: {call}\(.*failed: an illegal memory access"):
        bench.run(pages)
    bench.trt.fails = ""
    bench.run(pages)


def test_a_capture_that_fails_leaves_the_graph_usable() -> None:
    bench, mine, others = Bench(), three_pages(1), three_pages(2)
    bench.run(mine)
    bench.run(others)
    bench.trt.fails = "execute_async_v3"
    with pytest.raises(DeviceError):
        bench.run(mine)
    bench.trt.fails = ""
    bench.run(mine)
    bench.names()
    bench.run(mine)
    assert bench.names() == ["replay"]


def test_threads_take_turns() -> None:
    bench = Bench()
    wrong: list[BaseException] = []

    def play(seed: int) -> None:
        try:
            mine, others = three_pages(seed), three_pages(seed)
            for first in range(50):
                bench.run(mine, first)
                bench.run(others, first)
        except BaseException as error:
            wrong.append(error)

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

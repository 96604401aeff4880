"""Whole sessions over `TensorRtGraph`, against the reference: what TensorRT would compute, torch does.

Each graph is computed at the addresses that it was bound to, and replayed at those of its capture: memory
that is mixed up between pages, runs or graphs gives other tokens.
"""

from collections import Counter
from typing import Any

import pytest
import torch
import torch_engine
from fake_tensorrt import Context, Engine, FakeCaptures, FakeTensorRt
from makers import make_actions, make_config, make_pictures, make_world
from torch_engine import TorchEngine, make_exported_world

from genie_rt.runtime.backends.exported.checked import CheckedGraph
from genie_rt.runtime.backends.exported.signature import PAGE_DTYPES, Signature
from genie_rt.runtime.backends.tensorrt import graph as graph_module
from genie_rt.runtime.backends.tensorrt.flavour import Log
from genie_rt.runtime.backends.tensorrt.graph import TensorRtGraph
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.manifest import GRAPH_FORMATS
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World


class Through(TorchEngine):
    """Torch's graphs behind TensorRT's interface."""

    trt = FakeTensorRt(rtx=True, alignment=8)

    def load(self, graph: CheckedGraph, signature: Signature) -> Any:
        ports = [
            [name, value.dtype, [-1 if isinstance(side, str) else side for side in value.shape], kind]
            for kind, values in (("in", signature.inputs), ("out", signature.outputs))
            for name, value in values.items()
        ]
        engine = Engine(self.trt, {"ports": ports})
        engine.function = super().load(graph, signature).run
        context = Context(engine)
        captures = FakeCaptures(self.trt, context)
        return TensorRtGraph(
            graph.path.name, context, signature, self.device, captures, Log(self.trt), scratch_bytes=0
        )


@pytest.fixture(autouse=True)
def _float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PAGE_DTYPES, "float64", "float64")
    monkeypatch.setitem(GRAPH_FORMATS, "float64", "")
    monkeypatch.setattr(graph_module, "ALIGNMENT", 8)  # that pages have on a CPU
    monkeypatch.setattr(Through, "trt", FakeTensorRt(rtx=True, alignment=8))
    monkeypatch.setattr(torch_engine, "TorchEngine", Through)


def play(world: World, plan: Plan, frames: int, count: int = 2) -> list[Any]:
    """Sessions in turn; of several, the first goes back to an earlier moment."""
    sessions = [world.session(seed=seed, plan=plan) for seed in range(count)]
    pictures = make_pictures(world.bundle.config, 2)
    seen: list[Any] = [session.reset(pictures, [1]).tobytes() for session in sessions]
    moment = sessions[0].snapshot()
    for number, action in enumerate(make_actions(frames)):
        if number == frames // 3 and count > 1:
            sessions[0].restore(moment)
        for session in sessions:
            seen.append((session.step(action).tobytes(), session.row.tokens.tolist()))
    return seen


@pytest.mark.parametrize(
    ("config", "plan", "frames", "count"),
    [
        (make_config(window=3), Plan(passes=2), 20, 2),
        (make_config(window=1), Plan(passes=2), 18, 2),
        (
            make_config(window=3, encoder_window=2, decoder_window=4, merge=2, grid=(4, 6)),
            Plan(passes=3),
            16,
            1,
        ),
        (make_config(window=2, grid=(4, 6)), Plan(order="halton", passes=3, reuse="passes"), 16, 1),
        (make_config(window=2, grid=(4, 6)), Plan(passes=2, reuse="frames", fresh=0.4), 16, 1),
    ],
)
def test_sessions_are_the_references(config: ModelConfig, plan: Plan, frames: int, count: int) -> None:
    expected = play(make_world(config), plan, frames, count)
    found = play(make_exported_world(config), plan, frames, count)
    for number, (ours, theirs) in enumerate(zip(found, expected, strict=True)):
        assert ours == theirs, f"picture {number}"
    calls = Counter(call[0] for call in Through.trt.calls)
    assert calls["replay"] > calls["prepare"] > 0


def test_frame_graphs_are_the_references() -> None:
    config, plan = make_config(window=3, decoder_window=2), Plan(passes=2)
    expected = play(make_world(config), plan, 20, 1)
    found = play(make_exported_world(config, plans={"quick": plan}, whole_frames=True), plan, 20, 1)
    assert found == expected
    assert Counter(call[0] for call in Through.trt.calls)["replay"] > 0


@pytest.mark.parametrize("whole_frames", [True, False])
def test_frames_do_not_depend_on_how_they_are_asked_for(whole_frames: bool) -> None:
    config, plan = make_config(window=3, decoder_window=2), Plan(passes=2)
    world = make_exported_world(config, plans={"quick": plan}, whole_frames=whole_frames)
    assert world.backend.batch_invariant and world.backend.commits_ahead(plan) is not whole_frames
    plain, idle, peeking, undoing = (world.session(seed=3, plan=plan) for _ in range(4))
    for session in (plain, idle, peeking, undoing):
        session.reset(make_pictures(config, 1)[0])
    for action in make_actions(8):
        idle.commit()
        peeking.peek()
        moment = undoing.snapshot()
        undoing.step((action + 1) % 3)
        undoing.restore(moment)
        frames = {session.step(action).tobytes() for session in (plain, idle, peeking, undoing)}
        assert len(frames) == 1
        rows = [session.world.backend.save_row(session.row) for session in (plain, idle, peeking, undoing)]
        assert all(torch.equal(row[name], rows[0][name]) for row in rows for name in row)


def test_pages_are_never_copied() -> None:
    """With torch's alignment all pages are bound where they lie."""
    config = make_config(window=3)
    world = make_exported_world(config)
    warm_up = len(Through.trt.calls)
    play(world, Plan(passes=2), 4)
    pools = world.backend.dynamics_pages, world.backend.decoder_pages, world.backend.encoder_pages
    inside = [(c.data_ptr(), c.data_ptr() + c.nbytes) for pool in pools for c in pool._chunks]
    inside += [(pool.blank.data_ptr(), pool.blank.data_ptr() + 1) for pool in pools]
    calls = Through.trt.calls[warm_up:]
    bound = [call[1:] for call in calls if call[0] == "set_tensor_address" and "past_" in call[1]]
    assert (
        bound
        and torch.tensor(
            [
                any(low <= address < high for low, high in inside)
                for name, address in bound
                if "num" not in name
            ]
        ).all()
    )

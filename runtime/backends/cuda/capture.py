"""Stages of a frame as CUDA graphs: captured once, then one launch each. On a CPU they just run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module

import torch

from genie_rt.errors import DeviceError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.runtime.backends.cuda.frame import Frame
from genie_rt.runtime.backends.cuda.pages import captures
from genie_rt.runtime.backends.cuda.stream_order import out_of_memory

Stage = Callable[[], None]


class Graph:
    """A captured stage. Calling it is one launch."""

    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self._graph = graph

    def __call__(self) -> None:
        self._graph.replay()

    @property
    def num_nodes(self) -> int:
        """Kernels, copies and fills in it.

        Raises:
            UnsupportedError: the package `cuda-bindings` is not there.
        """
        try:
            runtime = import_module("cuda.bindings.runtime")
        except ImportError as error:
            raise UnsupportedError(
                f"to count the nodes of a graph takes cuda-bindings: {install_hint('gpu')}"
            ) from error
        status, _, count = runtime.cudaGraphGetNodes(runtime.cudaGraph_t(self._graph.raw_cuda_graph()), 0)
        if int(status):
            raise DeviceError(f"cudaGraphGetNodes: expected success, found {status!r}")
        return int(count)


class GraphCapture:
    """Captures stages on one device; all graphs share their temporary memory, since they run one by one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None
        # one for all runs before a capture: cuBLAS keeps a work space for every stream that it has seen
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None

    def prepare(self, stage: Stage) -> Stage:
        """Runs a stage, and returns what runs it again.

        On CUDA it is run once, so that kernels are compiled and libraries have their work space, and then
        captured, which runs nothing. Afterwards it has been run once, as on a CPU.

        Args:
            stage: enqueues on the current stream over tensors that stay where they are; asks nothing of the
                device, and may be run twice on the same inputs.

        Raises:
            DeviceError: there is not enough memory; what was captured before still works.
        """
        if (side := self._side) is None:
            stage()
            return stage
        try:
            with captures:
                self._run_once(stage, side)
                graph = torch.cuda.CUDAGraph(keep_graph=True)  # to count its nodes by
                # deaf to what other threads do meanwhile; the outer block puts the stream back where a
                # capture fails
                with (
                    own_work_space(),
                    torch.cuda.stream(side),
                    torch.cuda.graph(graph, pool=self._pool, stream=side, capture_error_mode="thread_local"),
                ):
                    stage()
                graph.instantiate()
        except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
            self.forget()
            torch.cuda.empty_cache()
            if "out of memory" not in str(error).lower():
                raise
            raise out_of_memory(self.device) from error
        return Graph(graph)

    def forget(self) -> None:
        """Takes another pool for the graphs to come: one whose graphs are gone cannot be captured into."""
        if self.device.type == "cuda":
            self._pool = torch.cuda.graph_pool_handle()

    def _run_once(self, stage: Stage, side: torch.cuda.Stream) -> None:
        """On the side, with the current stream waiting for it whatever happens."""
        current = torch.cuda.current_stream(self.device)
        side.wait_stream(current)
        try:
            with torch.cuda.stream(side):
                stage()
        finally:
            current.wait_stream(side)
        torch.cuda.synchronize(self.device)


@contextmanager
def own_work_space() -> Iterator[None]:
    """Within its block cuBLAS takes work space anew: while a graph is captured, of that graph's memory.

    It keeps one for each stream, whose address graphs remember, and which others let go: the end of any graph
    captured on that stream (pytorch#193402), `torch.compile` before a capture of its own.
    """
    torch._C._cuda_clearCublasWorkspaces()  # as torch._inductor.cudagraph_trees does
    try:
        yield
    finally:
        torch._C._cuda_clearCublasWorkspaces()


class CapturedFrame:
    """A frame and its stages, all captured when it is first run.

    Attributes:
        cold: whether the last run captured a stage, so that its time says nothing about the next.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.cold = True
        self._stages: dict[str, Stage] = {}

    def run(self, graphs: GraphCapture, num_rows: int) -> list[int]:
        """The whole frame. Returns the passes that each of the first rows took; the others fill it up."""
        frame, plan = self.frame, self.frame.plan
        self.cold = False
        if not plan.adapts:
            self._stage("whole", frame.whole, graphs)
            return [plan.passes] * num_rows
        self._stage("first", frame.first, graphs)
        passes: list[int] = frame.passes.tolist()[:num_rows]  # waits for the first pass
        # at first all of them, so that none is captured in play: a pass too many has nothing to decide
        for k in range(1, max(passes) if "finish" in self._stages else plan.passes):
            self._stage(f"pass {k}", partial(frame.loop.later, k), graphs)
        self._stage("finish", frame.finish, graphs)
        return passes

    def num_nodes(self) -> dict[str, int]:
        """Nodes in the graph of each stage that was captured."""
        return {name: stage.num_nodes for name, stage in self._stages.items() if isinstance(stage, Graph)}

    def commit(self, graphs: GraphCapture) -> None:
        """The commit alone."""
        frame = self.frame

        def stage() -> None:
            frame.start()
            frame.commit_pages()

        self.cold = False
        self._stage("commit", stage, graphs)

    def _stage(self, name: str, stage: Stage, graphs: GraphCapture) -> None:
        if name in self._stages:
            self._stages[name]()
        else:
            self.cold = True
            self._stages[name] = graphs.prepare(stage)

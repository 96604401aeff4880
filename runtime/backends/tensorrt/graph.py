"""A loaded engine that runs over our memory, captured in CUDA graphs as its pages come round again.

A CUDA graph knows addresses. Those of pages repeat: a session that keeps `W - 1` pages and takes a new one
each frame is given back the oldest each time, so that the same pages stand at the same ages every `W` frames.
All else (tokens, an action, pictures) comes from anywhere, and often from the middle of a tensor where
TensorRT's alignment does not hold; it is small, and is copied to and from memory that stays. What is left of
the addresses is a key that comes round, and each has its CUDA graph once it has come round.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from genie_rt.errors import DeviceError, InputError
from genie_rt.runtime.backends.cuda.capture import Stage
from genie_rt.runtime.backends.cuda.pages import settle
from genie_rt.runtime.backends.cuda.stream_order import StreamOrder
from genie_rt.runtime.backends.exported.signature import Signature, Value
from genie_rt.runtime.backends.tensorrt.flavour import Log

MAX_KEYS = 128
"""Sets of pages that are remembered; the one that was not met for longest goes first.

A session takes `W`, one that computes subsets `W` for each of their sizes, and `R` sessions in turn, which
share the pages that are free, `R (W - 1) + 1`.
"""

MANY_RUNS = 32
"""After which a set that never changes is captured as well; more than a frame has passes."""

ALIGNMENT = 256
"""Alignment of addresses, in bytes, as TensorRT wants them."""

Key = tuple[object, ...]


class Captures(Protocol):
    """Captures stages: `cuda.capture.GraphCapture`."""

    def prepare(self, stage: Stage) -> Stage:
        """Runs a stage once, and returns what runs it again."""
        ...


@dataclass(slots=True)
class _Met:
    """How often a set of pages was met, and its CUDA graph. A visit is one run or many in a row."""

    runs: int = 0
    visits: int = 0
    captured: Stage | None = None


@dataclass(slots=True)
class _Binding:
    """What one run is bound to.

    Attributes:
        tensors: by name, all inputs and outputs, where TensorRT reads and writes them.
        before, after: (to, from) that are copied before and after it.
        shapes: of inputs that are not fixed.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    before: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    after: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)


class TensorRtGraph:
    """A graph of `exported.engine`. Several threads may run it, on several streams; one run follows another.

    Args:
        name: of the graph, for messages.
        context: TensorRT's, of an engine whose inputs and outputs are the signature's; it owns no memory.
        scratch_bytes: that the context needs.
        captures: of the device.
        log: what the context says.
        keeps: what has to live as long as the context.

    Raises:
        DeviceError: there is not enough memory.
    """

    def __init__(
        self,
        name: str,
        context: Any,
        signature: Signature,
        device: torch.device,
        captures: Captures,
        log: Log,
        *,
        scratch_bytes: int,
        keeps: tuple[object, ...] = (),
    ) -> None:
        self.name, self.signature, self.device = name, signature, device
        self._context, self._captures, self._log, self._keeps = context, captures, log, keeps
        self._places: dict[tuple[str, tuple[int, ...]], Tensor] = {}
        self._met: OrderedDict[Key, _Met] = OrderedDict()
        self._last: Key | None = None
        self._turns = StreamOrder(device)
        # never the default stream, on which TensorRT waits for the whole device
        self._side = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._scratch = self._empty((max(scratch_bytes, 1),), "uint8")
        context.set_device_memory(self._scratch.data_ptr(), scratch_bytes)

    @torch.inference_mode()
    def run(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> None:
        """See `exported.engine.Graph`. Pages are read and written where they lie, the rest is copied.

        Raises:
            InputError: a tensor is missing, extra, or not of the signature's dtype and shape.
            DeviceError: TensorRT failed, or there is not enough memory.
        """
        with self._turns.take():
            binding = self._bind(inputs, outputs)
            for to, given in binding.before:
                to.copy_(given)
            self._launch(binding)
            for to, made in binding.after:
                to.copy_(made)

    def _launch(self, binding: _Binding) -> None:
        """Replays the CUDA graph of these pages; where there is none, runs, and captures if it pays."""
        addresses = {name: tensor.data_ptr() for name, tensor in binding.tensors.items()}
        key = (*addresses.values(), *binding.shapes.values())
        met = self._met.setdefault(key, _Met())
        self._met.move_to_end(key)
        met.runs += 1
        met.visits += key != self._last
        self._last = key
        if met.captured is not None:
            met.captured()
            return

        def stage() -> None:
            self._enqueue(addresses, binding.shapes)

        # those of a session's first frames, or of more sessions than are remembered, are not met again
        if (met.visits > 1 or met.runs > MANY_RUNS) and self._may_capture():
            try:
                met.captured = self._captures.prepare(stage)
            except torch.AcceleratorError as error:
                raise DeviceError(f"the graph {self.name} cannot be captured: {error}") from error
        else:
            self._run_aside(stage)
        if len(self._met) > MAX_KEYS:
            _, oldest = self._met.popitem(last=False)
            if oldest.captured is not None:
                settle(self.device)

    def _enqueue(self, addresses: Mapping[str, int], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """On the current stream."""
        for name, shape in shapes.items():
            self._must(self._context.set_input_shape, name, shape)
        for name, address in addresses.items():
            self._must(self._context.set_tensor_address, name, address)
        self._must(self._context.execute_async_v3, self._stream())

    def _must(self, call: Callable[..., bool], *arguments: object) -> None:
        if not call(*arguments):
            raise DeviceError(
                f"the graph {self.name}: {call.__name__}{arguments} failed: {self._log.last_errors()}"
            )

    def _run_aside(self, stage: Stage) -> None:
        if (side := self._side) is None:
            stage()
            return
        current = torch.cuda.current_stream(self.device)
        side.wait_stream(current)
        try:
            with torch.cuda.stream(side):
                stage()
        finally:
            current.wait_stream(side)

    def _may_capture(self) -> bool:
        """Whether the context can be captured, as TensorRT-RTX tells; TensorRT has no such question."""
        ask = getattr(self._context, "is_stream_capturable", None)
        return ask is None or bool(ask(0 if self._side is None else self._side.cuda_stream))

    def _stream(self) -> int:
        return int(torch.cuda.current_stream(self.device).cuda_stream) if self._side is not None else 0

    # What a run is bound to.

    def _bind(self, inputs: Mapping[str, Tensor], outputs: Mapping[str, Tensor]) -> _Binding:
        expected = self.signature
        if inputs.keys() != expected.inputs.keys() or not outputs.keys() <= expected.outputs.keys():
            raise InputError(
                f"the graph {self.name}: expected the inputs {', '.join(expected.inputs)} and of the outputs "
                f"{', '.join(expected.outputs)}, found {', '.join(inputs)} and {', '.join(outputs)}"
            )
        binding = _Binding()
        for name, value in expected.inputs.items():
            given = inputs[name]
            self._check(name, value, given)
            if _is_page(value) and given.data_ptr() % ALIGNMENT == 0:
                binding.tensors[name] = given
            else:
                place = binding.tensors[name] = self._place(name, tuple(given.shape), value.dtype)
                binding.before.append((place, given))
            if not _is_fixed(value):
                binding.shapes[name] = tuple(given.shape)
        for name, value in expected.outputs.items():
            wanted = outputs.get(name)
            if wanted is None:
                binding.tensors[name] = self._place(name, self._shape(name, value, binding), value.dtype)
                continue
            self._check(name, value, wanted)
            if _is_page(value) and wanted.data_ptr() % ALIGNMENT == 0:
                binding.tensors[name] = wanted
            else:
                place = binding.tensors[name] = self._place(name, tuple(wanted.shape), value.dtype)
                binding.after.append((wanted, place))
        return binding

    def _check(self, name: str, value: Value, given: Tensor) -> None:
        fits = given.dim() == len(value.shape) and all(
            isinstance(side, str) or side == found
            for side, found in zip(value.shape, given.shape, strict=True)
        )
        here = given.device.type == self.device.type
        if fits and here and given.dtype == getattr(torch, value.dtype) and given.is_contiguous():
            return
        raise InputError(
            f"the graph {self.name}: {name}: expected {value.dtype} {list(value.shape)}, contiguous, on "
            f"{self.device}, found {given.dtype} {list(given.shape)} with strides {given.stride()} on "
            f"{given.device}"
        )

    def _shape(self, name: str, value: Value, binding: _Binding) -> tuple[int, ...]:
        """Shape of an output that nobody wants."""
        if _is_fixed(value):
            return tuple(int(side) for side in value.shape)
        for own, shape in binding.shapes.items():
            self._must(self._context.set_input_shape, own, shape)
        return tuple(self._context.get_tensor_shape(name))

    def _place(self, name: str, shape: tuple[int, ...], dtype: str) -> Tensor:
        """Memory that stays, of its own for each name.

        Also for outputs that nobody wants: TensorRT may read one again for what follows from it.
        """
        if (place := self._places.get((name, shape))) is None:
            place = self._places[name, shape] = self._empty(shape, dtype)
        return place

    def _empty(self, shape: tuple[int, ...], dtype: str) -> Tensor:
        kind: torch.dtype = getattr(torch, dtype)
        size = torch.Size(shape).numel() * kind.itemsize
        try:
            memory = torch.empty(size + ALIGNMENT, dtype=torch.uint8, device=self.device)
        except torch.OutOfMemoryError as error:
            raise DeviceError(
                f"expected memory for the graph {self.name}, {dtype} {list(shape)}, found too little; play "
                "fewer sessions, or take a narrower precision"
            ) from error
        start = -memory.data_ptr() % ALIGNMENT
        return memory[start : start + size].view(kind).view(shape)


def _is_page(value: Value) -> bool:
    """Whether it is keys and values, `[2 L, P, H, Dh]`: nothing else of a graph has four floating axes."""
    return len(value.shape) == 4 and getattr(torch, value.dtype).is_floating_point


def _is_fixed(value: Value) -> bool:
    return all(isinstance(side, int) for side in value.shape)

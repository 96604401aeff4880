"""Inputs that once got through, in a small form: each is tried again in every run of the tests.

Those of reports are beside those that the campaign found: what it did is said at each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
from fuzz.case import GONE, Case
from fuzz.mutate import Raw, render
from fuzz.mutate_graph import SECRET, field_bytes, fields_of
from onnx import TensorProto

from genie_rt.training.checkpoint_state import sealed_state

Builder = Callable[[Path], Case]
CORPUS: dict[str, Builder] = {}
"""By target/what; each gets the folder of all samples."""


def _case(name: str, *, wrong: bool = True) -> Callable[[Callable[[Path], dict[str, bytes | str]]], Builder]:
    """Adds what a function makes: files by path within the target's sample."""

    def add(make: Callable[[Path], dict[str, bytes | str]]) -> Builder:
        target, _, what = name.partition("/")
        CORPUS[name] = lambda samples: Case(target=target, what=what, files=make(samples), must_refuse=wrong)
        return CORPUS[name]

    return add


# Graphs.


@_case("graph/external data behind a tag of five bytes")
def _hidden_place(samples: Path) -> dict[str, bytes | str]:
    """It read a file that bundle.json does not list: engines cut tags to 32 bits, the check did not."""
    pair = field_bytes(1, 2, b"location") + field_bytes(2, 2, SECRET.encode())
    tensor = field_bytes(1, 0, 1) + field_bytes(2, 0, 1) + field_bytes(8, 2, b"secret")
    tensor += field_bytes(13 + (1 << 29), 2, pair) + field_bytes(14, 0, 1)
    return _with_initializer(samples, tensor)


@_case("graph/an initializer behind a tag of five bytes")
def _hidden_tensor(samples: Path) -> dict[str, bytes | str]:
    data = (samples / "bundle" / "pass.onnx").read_bytes()
    fields = [
        (n, e, v + field_bytes(5 + (1 << 29), 2, b"\x08\x01") if n == 7 and isinstance(v, bytes) else v)
        for n, e, v in fields_of(data)
    ]
    return {"pass.onnx": b"".join(field_bytes(*each) for each in fields)}


def _with_initializer(samples: Path, tensor: bytes) -> dict[str, bytes | str]:
    fields = fields_of((samples / "bundle" / "pass.onnx").read_bytes())
    changed = [
        (n, e, v + field_bytes(5, 2, tensor) if n == 7 and isinstance(v, bytes) else v) for n, e, v in fields
    ]
    return {"pass.onnx": b"".join(field_bytes(*each) for each in changed), SECRET: bytes(4096)}


@_case("graph/weights at an address of the process")
def _address(samples: Path) -> dict[str, bytes | str]:
    """ONNX Runtime 1.23 read whatever memory the offset named."""
    model = onnx.load_model_from_string((samples / "bundle" / "pass.onnx").read_bytes())
    tensor = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[1], data_location=1)
    for key, value in (("location", "*/_ORT_MEM_ADDR_/*"), ("offset", "4096"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)
    model.graph.initializer.append(tensor)
    return {"pass.onnx": model.SerializeToString()}


@_case("graph/20000 nodes that do nothing")
def _chain(samples: Path) -> dict[str, bytes | str]:
    """OpenVINO thought about them for more than 75 s."""
    model = onnx.load_model_from_string((samples / "bundle" / "decode.onnx").read_bytes())
    name = model.graph.node[-1].output[0]
    model.graph.node[-1].output[0] = "chain0"
    for i in range(20_000):
        new = name if i == 19_999 else f"chain{i + 1}"
        model.graph.node.append(onnx.helper.make_node("Identity", [f"chain{i}"], [new]))
    return {"decode.onnx": model.SerializeToString()}


def _pointing(at: int) -> Callable[[Path], dict[str, bytes | str]]:
    def make(samples: Path) -> dict[str, bytes | str]:
        model = onnx.load_model_from_string((samples / "bundle" / "pass.onnx").read_bytes())
        (node,) = [node for node in model.graph.node if node.op_type == "ScatterElements"]
        model.graph.initializer.append(
            TensorProto(
                name="far", data_type=TensorProto.INT64, raw_data=at.to_bytes(8, "little", signed=True)
            )
        )
        index = list(model.graph.node).index(node)
        kept = list(model.graph.node)
        far = onnx.helper.make_node("Add", [node.input[1], "far"], ["pointing far"])
        node.input[1] = "pointing far"
        del model.graph.node[:]
        model.graph.node.extend([*kept[:index], far, node, *kept[index + 1 :]])
        return {"pass.onnx": model.SerializeToString()}

    return make


for _at in (1 << 20, 1 << 30, -(1 << 30)):  # OpenVINO wrote there; ONNX Runtime refuses it
    _case(f"graph/an index that leads {_at} places away", wrong=False)(_pointing(_at))


# Records, logs and notes.


def _precisions(samples: Path, value: Any) -> dict[str, bytes | str]:
    record = json.loads((samples / "records" / "precision.json").read_bytes())
    for row in record["body"]["rows"]:
        if row.get("cost") is not None:
            row["cost"]["psnr_db"] = [value]
    return {"precision.json": render(record)}


@_case("record/NaN is no 0 dB")
def _nan(samples: Path) -> dict[str, bytes | str]:
    """`max(0.0, nan)` made the best of all number formats of it."""
    return _precisions(samples, Raw("NaN"))


@_case("record/a whole number of 10000 digits")
def _digits(samples: Path) -> dict[str, bytes | str]:
    return _precisions(samples, Raw("1" + "0" * 10_000))


@_case("record/figures that are a number")
def _figures(samples: Path) -> dict[str, bytes | str]:
    return {"evaluation.json": b'{"figures": 3}'}


@_case("checkpoint/nesting that no stack holds")
def _deep(samples: Path) -> dict[str, bytes | str]:
    return {"checkpoint-00000002/state.json": b"[" * 100_000}


@_case("checkpoint/a kind of 100000 characters")
def _kind(samples: Path) -> dict[str, bytes | str]:
    """The message had all of them."""
    place = "checkpoint-00000002/state.json"
    state = json.loads((samples / "checkpoint" / place).read_bytes())
    state["describe"]["kind"] = "x" * 100_000
    del state["state_sha256"]
    return {place: json.dumps(sealed_state(state)).encode()}


@_case("log/a count of 5000 digits")
def _count(samples: Path) -> dict[str, bytes | str]:
    """The message had all of them."""
    return {"script.txt": b"left*" + b"9" * 5000}


@_case("log/a word of 15 MB")
def _word(samples: Path) -> dict[str, bytes | str]:
    """It was compared with the world's action names letter by letter, and then quoted."""
    return {"script.txt": b"x" * (15 << 20)}


@_case("video/a codec that nobody knows")
def _codec(samples: Path) -> dict[str, bytes | str]:
    """A traceback: the stream had no decoder."""
    return {"a.mp4": (samples / "videos" / "a.mp4").read_bytes().replace(b"$dinf", b"\xff\xff\xff\xfff")}


@_case("video/a stream that begins late", wrong=False)
def _late(samples: Path) -> dict[str, bytes | str]:
    """A traceback of PyAV, whose list of streams was shorter."""
    data = (samples / "videos" / "a.ts").read_bytes()
    at = data.rindex(b"GA\x00")
    return {"a.ts": data[:at] + b"GQ\x00" + data[at + 3 :]}


def _engine(samples: Path, change: Callable[[dict[str, Any]], object]) -> tuple[str, bytes]:
    (path,) = (samples / "engines").rglob("*.engine")
    line, _, data = path.read_bytes().partition(b"\n")
    seal = json.loads(line)
    change(seal)
    return path.relative_to(samples / "engines").as_posix(), json.dumps(seal).encode() + b"\n" + data


@_case("engine/a hash that is a list")
def _listed(samples: Path) -> dict[str, bytes | str]:
    """The message had all of it."""
    name, data = _engine(samples, lambda seal: seal.update(sha256=[0] * 10_000))
    return {name: data}


@_case("engine/notes of a GPU that is a number", wrong=False)
def _numbered(samples: Path) -> dict[str, bytes | str]:
    """A traceback, where engines of other GPUs are told of."""
    name, data = _engine(samples, lambda seal: seal["about"]["target"].update(gpu=5))
    return {name: GONE, f"{name[: name.rindex('/')]}/{'0' * 32}.engine": data}

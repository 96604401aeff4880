"""LoadedGraphs of a bundle computed from the definition, in torch: what any engine has to give.

Every call is held to the contract as well: names, shapes, dtypes, memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from makers import make_model, make_world
from torch import Tensor

from genie_rt.kernels.maskgit_sample.reference import sample
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.vq_lookup.reference import nearest_code
from genie_rt.runtime.backends.exported import backend as backend_module
from genie_rt.runtime.backends.exported.backend import ExportedBackend
from genie_rt.runtime.backends.exported.checked import CheckedGraph
from genie_rt.runtime.backends.exported.loaded_graphs import LoadedGraphs
from genie_rt.runtime.backends.exported.onnx_model import Model
from genie_rt.runtime.backends.exported.signature import Signature, Value
from genie_rt.runtime.backends.frame_forward import AttentionContext, forward_frame
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.manifest import WEIGHTS, FileRecord, graph_file
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.model.transformer import KeysValues
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.orders import position_tokens
from genie_rt.runtime.orders.halton import halton_order
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.stored_weights import StoredWeights
from genie_rt.runtime.world import World

GRAPHS = ("encode", "commit", "pass", "pass-at", "decode")

Tensors = Mapping[str, Tensor]


class TorchEngine:
    """Knows graphs by the names of their files, and the weights from the start.

    Attributes:
        calls: the graphs that ran, in order.
    """

    name = "torch"
    arithmetic = None

    def __init__(self, model: WorldModel, plans: Mapping[str, Plan]) -> None:
        self.device = torch.device("cpu")
        self.model, self.plans = model, plans
        self.calls: list[str] = []

    def load(self, graph: CheckedGraph, signature: Signature) -> TorchGraph:
        return TorchGraph(self, graph.path.name.split(".")[0], signature)


class UnreadGraphs(LoadedGraphs):
    """Those of a bundle without files; `TorchEngine` looks at their names alone."""

    def _read(self) -> None:
        pass

    def _checked(self, name: str) -> CheckedGraph:
        weights = StoredWeights(data=np.zeros(0, np.uint8), tensors={})
        model = Model(opset=23, name=name, nodes=(), initializers=(), inputs=(), outputs=())
        return CheckedGraph(path=Path(graph_file(name, self.precision)), model=model, weights=weights)


class TorchGraph:
    def __init__(self, engine: TorchEngine, name: str, signature: Signature) -> None:
        self.engine, self.name, self.signature = engine, name, signature
        self.config = engine.model.config

    def run(self, inputs: Tensors, outputs: Tensors) -> None:
        check_values(self.signature.inputs, inputs)
        assert inputs.keys() == self.signature.inputs.keys()
        check_values(self.signature.outputs, outputs)
        taken = [(t.data_ptr(), t.data_ptr() + t.nbytes) for t in (*inputs.values(), *outputs.values())]
        written = taken[len(inputs) :]
        for i, (start, end) in enumerate(written, len(inputs)):
            assert all(end <= low or high <= start for j, (low, high) in enumerate(taken) if j != i)
        self.engine.calls.append(self.name)
        compute = {"encode": self.encode, "decode": self.decode, "commit": self.commit, "pass": self.whole}
        compute |= {"pass-at": self.at}
        with torch.inference_mode():
            found = compute.get(self.name, self.frame)(inputs)
            for name, value in outputs.items():
                value.copy_(found[name])

    def encode(self, x: Tensors) -> dict[str, Tensor]:
        tokenizer = self.engine.model.tokenizer
        vectors, kept = tokenizer.encode_vectors(x["frame"][None], *past(x))
        tokens = nearest_code(vectors[:, 0], tokenizer.codebook)
        return {"tokens": tokens, "page": page(kept), "checksum": vectors.sum()}

    def decode(self, x: Tensors, prefix: str = "") -> dict[str, Tensor]:
        pictures, kept = self.engine.model.tokenizer.decode(x["tokens"][None], *past(x, prefix))
        return {"rgb": to_uint8(pictures[0]), "page": page(kept), "checksum": pictures.sum()}

    def commit(self, x: Tensors) -> dict[str, Tensor]:
        return self.whole(x | {"previous": x["tokens"], "u": torch.zeros(1), "temperature": torch.ones(1)})

    def whole(self, x: Tensors) -> dict[str, Tensor]:
        dynamics = self.engine.model.dynamics
        hidden, kept = dynamics.transformer(self._embed(x), *past(x))
        logits = dynamics.logits(hidden, x["previous"][None], self._table)[0]
        candidates, p = sample(logits, x["u"].expand(logits.shape[:2]), float(x["temperature"]))
        found = {"candidates": candidates, "probability": p, "logits": logits, "page": page(kept)}
        return found | {"checksum": logits.sum()}

    def at(self, x: Tensors) -> dict[str, Tensor]:
        dynamics, index = self.engine.model.dynamics, x["index"]
        around = [(x["around"][i], x["around"][i + 1]) for i in range(0, len(x["around"]), 2)]
        done = forward_frame(
            dynamics.transformer, self._embed(x)[0, 0, index], context_of(*past(x), around).at(index),
            spatial=around, index=index,
        )  # fmt: skip
        tokens = position_tokens(self.config)[x["index"]].view(1, -1)
        places = torch.arange(tokens.shape[1])[None]
        logits = dynamics.logits_at(done.hidden[None], places, x["previous"].gather(1, tokens), self._table)
        candidates, p = sample(logits, x["u"].gather(1, tokens), float(x["temperature"]))
        found = {
            "candidates": candidates,
            "probability": p,
            "around_out": page([(k[None, None], v[None, None]) for k, v in done.spatial]),
        }
        return found | {"checksum": logits.sum()}

    def frame(self, x: Tensors) -> dict[str, Tensor]:
        """The plan's passes spelled out once more, with noise that is given."""
        plan = self.engine.plans[self.name.removeprefix("frame-")]
        last = x["last_tokens"]
        commit = self.commit(x | {"tokens": last, "action": x["last_action"]})
        seen = self._pushed(x, commit["page"])
        tokens, passes, k = torch.full_like(last, UNDECIDED), plan.passes, 0
        while k < passes:
            inputs = {"tokens": tokens, "previous": last, "action": x["action"], "u": x["u"][k : k + 1]}
            found = self.whole({**seen, **inputs, "temperature": torch.tensor([plan.temperature])})
            p = found["probability"][0]
            if k == 0 and plan.order == "adaptive":
                passes = plan.passes_for(int((p < plan.threshold).sum()), p.numel())
            target = plan.replace(passes=passes).decided_after(k, p.numel())
            if plan.order == "halton":
                rank = torch.from_numpy(halton_order(*self.config.tokenizer.grid)).argsort()
            elif plan.order == "random":
                rank = x["order"].argsort()
            else:
                noise = plan.replace(passes=passes).noise_in(k)
                confidence = (p.log() + noise * x["gumbel"][k]).masked_fill(tokens[0] >= 0, torch.inf)
                rank = confidence.argsort(descending=True, stable=True).argsort()
            chosen = (rank < target) & (tokens < 0)
            tokens = torch.where(chosen, found["candidates"], tokens)
            k += 1
        shown = self.decode(x | {"tokens": tokens}, "picture_")
        found = {"tokens": tokens, "passes": torch.tensor([passes]), "rgb": shown["rgb"]}
        found |= {"page": commit["page"], "picture_page": shown["page"]}
        return found | {"checksum": commit["checksum"] + found["page"].sum() + shown["checksum"]}

    @property
    def _table(self) -> Tensor:
        return self.engine.model.token_table()

    def _embed(self, x: Tensors) -> Tensor:
        dynamics = self.engine.model.dynamics
        return dynamics.embed(x["tokens"][None], x["previous"][None], x["action"][None], self._table)

    def _pushed(self, x: Tensors, newest: Tensor) -> dict[str, Tensor]:
        """The past of the frame after one with the past `x` and the page `newest`."""
        room = self.config.dynamics.transformer.window - 1
        if not room:
            return {}
        pages = [newest, *(x[f"past_{age}"] for age in range(1, room))]
        named = {f"past_{age}": each for age, each in enumerate(pages, 1)}
        return {"num_past": (x["num_past"] + 1).clamp(max=room), **named}


def check_values(expected: Mapping[str, Value], found: Tensors) -> None:
    for name, tensor in found.items():
        value = expected[name]
        assert tensor.is_contiguous(), name
        assert tensor.dtype == getattr(torch, value.dtype), name
        assert tensor.ndim == len(value.shape), name
        for side, size in zip(value.shape, tensor.shape, strict=True):
            assert side == size or isinstance(side, str), name


def past(x: Tensors, prefix: str = "") -> tuple[Tensor, list[KeysValues] | None]:
    """Ages and history as `STTransformer.forward` takes them; pages beyond `num_past` are not touched."""
    count = int(x.get(f"{prefix}num_past", torch.zeros(1)))
    ages = torch.tensor([[[*range(1, count + 1), 0]]])
    if not count:
        return ages, None
    pages = torch.stack([x[f"{prefix}past_{age}"] for age in range(1, count + 1)])  # [Th, 2 L, P, H, Dh]
    return ages, [(pages[None, :, i], pages[None, :, i + 1]) for i in range(0, pages.shape[1], 2)]


def page(kept: list[KeysValues]) -> Tensor:
    return torch.stack([part[0, 0] for keys_values in kept for part in keys_values])


def with_graphs(bundle: Bundle, precision: str, *names: str, folder: Path | None = None) -> Bundle:
    """The bundle with records of graphs, as one that holds them.

    Args:
        folder: where they are; None, nowhere.
    """
    files = [WEIGHTS, *(graph_file(name, precision) for name in names)]
    records = dict.fromkeys(files, FileRecord(size=0, sha256="0" * 64))
    if folder is not None:
        for file in files:
            data = (folder / file).read_bytes()
            records[file] = FileRecord(size=len(data), sha256=hashlib.sha256(data).hexdigest())
    return replace(bundle, path=folder or bundle.path, files=records)


def make_exported_world(
    config: ModelConfig,
    seed: int = 0,
    *,
    plans: Mapping[str, Plan] | None = None,
    without: str = "",
    **options: Any,
) -> World:
    """`make_world` played by `TorchEngine` in float64, the same weights and digest.

    Args:
        plans: that there are frame graphs of.
        without: a graph that the bundle does not have.
    """
    bundle = make_world(config, seed).bundle
    bundle = replace(bundle, plans={**bundle.plans, **(plans or {})})
    names = [name for name in (*GRAPHS, *(f"frame-{name}" for name in plans or ())) if name != without]
    engine = TorchEngine(make_model(config, seed), bundle.plans)
    with patch.object(backend_module, "LoadedGraphs", UnreadGraphs):
        backend = ExportedBackend(with_graphs(bundle, "float64", *names), "float64", engine, **options)
    return World(bundle, backend, "float64")


def context_of(ages: Tensor, history: list[KeysValues] | None, spatial: list[KeysValues]) -> AttentionContext:
    """The past `[1, Th, P, H, Dh]` of one frame, with the ages `[1, 1, Th + 1]` of both."""
    order = torch.cat([ages[0, 0, -1:], ages[0, 0, :-1]])
    none = spatial[0][0][None][:0]
    keys_values = [(none, none)] * len(spatial) if history is None else [(k[0], v[0]) for k, v in history]
    return AttentionContext(keys_values=keys_values, ages=order)

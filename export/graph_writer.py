"""The graphs of a bundle that is being written: made anew, or taken over from the bundle that it was."""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.manifest import GRAPH_FORMATS, WEIGHTS, GraphManifest, Int8Manifest
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.untrusted_json import read_json

if TYPE_CHECKING:
    from genie_rt.export.calibrate import Calibration, Clip
    from genie_rt.export.source import Source
    from genie_rt.runtime.config import ModelConfig
    from genie_rt.runtime.plan import Plan

OPSETS = (20, 23)

CLIPS, JUDGED_CLIPS, CLIP_FRAMES = 24, 6, 16
"""Number of clips for calibration, number of clips to judge int8 by, and their length in frames."""

MAX_PLAN_NAME = 64 - len("frame-") - max(map(len, GRAPH_FORMATS.values()))
"""Characters of a plan's name that graphs can be named after: a bundle's files have 64 before ".onnx"."""

MAX_RECORD_BYTES = 64 * 2**20
EXPORTED = ("native", "onnx", "openvino", "tensorrt")
"""Back ends that compute what is exported: by them a bundle's precisions are judged."""

MOST_DB = 100.0
"""Largest PSNR difference of a precision from float32, up or down, that a bundle can record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGraphs:
    """Graphs to write.

    Attributes:
        precisions: of `manifest.GRAPH_FORMATS`. plans: by name, of the bundle.
        frame_plans: those of them that get a whole-frame graph.
        calibration: of "int8".
        psnr_change_db: see `GraphManifest`.
    """

    config: ModelConfig
    plans: Mapping[str, Plan]
    precisions: tuple[str, ...]
    frame_plans: tuple[str, ...] = ()
    opset: int = max(OPSETS)
    calibration: Calibration | None = None
    psnr_change_db: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.opset not in OPSETS:
            raise ConfigError(f"opset: expected one of {', '.join(map(str, OPSETS))}, found {self.opset}")
        for name in self.frame_plans:
            if name not in self.plans:
                raise ConfigError(f"plan: expected some of {', '.join(self.plans)}, found {name!r}")
            if len(name) > MAX_PLAN_NAME:
                raise ConfigError(
                    f"plan: expected a name of at most {MAX_PLAN_NAME} characters, since its graphs' files "
                    f"have it in theirs, found {name!r} of {len(name)}; give the plan a shorter one"
                )
            if self.plans[name].reuse != "none":
                raise ConfigError(
                    f"plan: expected plans without reuse, found {name!r}, which reuses "
                    f"{self.plans[name].reuse}; it plays pass by pass"
                )
        if ("int8" in self.precisions) != (self.calibration is not None):
            raise ConfigError("calibration: expected one where, and only where, int8 is written")

    @property
    def int8(self) -> Int8Manifest | None:
        """The limits that were calibrated, for the manifest; None where all linears stay in float."""
        limits = {} if self.calibration is None else self.calibration.limits
        return Int8Manifest(limits=dict(limits)) if limits else None

    def __call__(self, folder: Path) -> GraphManifest:
        from genie_rt.export.onnx.linears import Quantisation
        from genie_rt.export.onnx.write import write_graphs
        from genie_rt.runtime.linears import linear_names

        found, quantisation = self.calibration, None
        if found is not None:
            others = frozenset(linear_names(self.config)) - found.limits.keys()
            quantisation = Quantisation(amax=found.limits, kept_float=others)
        write_graphs(
            folder, self.config, self.plans, precisions=self.precisions, frame_plans=self.frame_plans,
            opset=self.opset, quantisation=quantisation,
        )  # fmt: skip
        return GraphManifest(
            opset=self.opset,
            precisions=self.precisions,
            frame_plans=self.frame_plans,
            bounds={} if found is None else {"int8": found.bound},
            psnr_change_db=dict(self.psnr_change_db),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptGraphs:
    """The graphs of an opened bundle, for one with the same weights and plans.

    Attributes:
        psnr_change_db: see `GraphManifest`; None keeps what is known.
    """

    bundle: Bundle
    graphs: GraphManifest
    plans: Mapping[str, Plan]
    psnr_change_db: Mapping[str, float] | None = None

    @property
    def int8(self) -> Int8Manifest | None:
        """The limits that int8 graphs hold."""
        return self.bundle.int8

    def __call__(self, folder: Path) -> GraphManifest:
        if not filecmp.cmp(folder / WEIGHTS, self.bundle.path / WEIGHTS, shallow=False):
            raise ConfigError(
                "dtype: expected that of the bundle, whose graphs hold it, found another; add --onnx"
            )
        for name in self.graphs.frame_plans:
            if self.plans.get(name) != self.bundle.plans[name]:
                raise ConfigError(
                    f"plans: expected {name!r} as it is in {self.bundle.name}, which has a graph of it, "
                    "found another; add --onnx"
                )
        for name in self.graphs.files:
            shutil.copyfile(self.bundle.path / name, folder / name)
        if self.psnr_change_db is None:
            return self.graphs
        return replace(self.graphs, psnr_change_db=dict(self.psnr_change_db))


def read_psnr_changes(path: Path) -> dict[str, float]:
    """Read the PSNR difference from float32 of each exported precision whose clip distance is acceptable.

    PSNR rewards blur, so a format whose clip distance is beyond its noise is left out, whatever its PSNR.

    Args:
        path: the record that `genie-rt bench quality --versus` wrote, held against float32.

    Raises:
        InputError: there is no such file, or it is no such record, or of nothing that is exported.
    """
    record = read_json(
        path, max_bytes=MAX_RECORD_BYTES, expected="the JSON record of `genie-rt bench quality --versus`"
    )
    rows = record["body"]["rows"].list(least=1)
    baseline = rows[0]["computation"]["dtype"]
    if baseline.text() != "float32":
        raise baseline.wrong('"float32", which the others are held against')
    changes: dict[str, float] = {}
    unreal: set[str] = set()
    for row in rows:
        how, cost = row["computation"], row.get("cost")
        if how["backend"].text() not in EXPORTED or cost is None:
            continue
        dtype = how["dtype"].text()
        change = max(abs(off.number(-MOST_DB, MOST_DB)) for off in cost["psnr_db"].list(least=1))
        changes[dtype] = max(changes.get(dtype, 0.0), change)
        if cost["distance"].number() > row["allowed_distance"].number():
            unreal.add(dtype)
    if not changes:
        raise record["body"]["rows"].wrong(f"figures of {', '.join(EXPORTED)}", "none")
    return {dtype: change for dtype, change in changes.items() if dtype not in unreal}


def calibration_of(
    source: Source, store: Path, *, on_linear: Callable[[], object] | None = None
) -> Calibration:
    """Calibrate a world for int8 on clips of a store's training split.

    Raises:
        BundleError: the store is broken.
        InputError: its frames or actions are not the world's, or it holds too few clips.
    """
    from genie_rt.export.calibrate import calibrate

    with torch.device("meta"):
        model = WorldModel(source.config)
    own = {name: weight.to(torch.float32, copy=True) for name, weight in source.weights.items()}
    model.load_state_dict(own, assign=True)
    clips = _clips(source, model.requires_grad_(False).eval(), store)
    judged = len(clips) * JUDGED_CLIPS // (CLIPS + JUDGED_CLIPS) or 1
    return calibrate(model, clips[judged:], clips[:judged], on_linear=on_linear)


def _clips(source: Source, model: WorldModel, store: Path) -> Sequence[Clip]:
    from genie_rt.export.calibrate import Clip
    from genie_rt.training.evaluation.clips import from_store
    from genie_rt.training.evaluation.latent import infer_actions
    from genie_rt.training.frozen import telling_lam

    tokenizer = source.config.tokenizer
    length = max(CLIP_FRAMES, 2 * source.config.dynamics.transformer.window)
    size = tokenizer.height, tokenizer.width
    found = from_store(store, num_clips=None, length=length, size=size, seed=0, split="train")
    found = found.first(CLIPS + JUDGED_CLIPS)
    if len(found.frames) < 2:
        raise InputError(
            f"{store}: expected at least 2 training clips of {length} frames to calibrate int8 with, found "
            f"{len(found.frames)}; record or import more"
        )
    if source.config.lam is None:
        codes = source.action_codes or range(len(source.action_names))
        found = found.renamed(source.action_names, codes)
    elif source.lam is not None:
        lam = telling_lam(source.config, source.lam)
        found = replace(found, actions=infer_actions(lam, model, found.frames, CLIPS))
    else:
        raise InputError(
            "--int8: expected a bundle that carries its latent action model, found none in it: export the run"
        )
    return [Clip.of(model, *clip) for clip in zip(found.frames, found.actions, strict=True)]

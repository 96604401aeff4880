"""`genie-rt export`. torch is imported when the command runs."""

from __future__ import annotations

import contextlib
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from genie_rt.errors import InputError
from genie_rt.parsing import shown
from genie_rt.runtime.flags import check_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genie_rt.export.graph_writer import KeptGraphs, NewGraphs
    from genie_rt.export.source import Source
    from genie_rt.runtime.bundle import Bundle
    from genie_rt.runtime.plan import Plan


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write a world as a bundle: one folder that play, bench and evaluate open.

    SOURCE is a training run, or a bundle that gets ONNX graphs, other plans or another precision; settings
    that are not given are kept.

    To put measured figures on the model card: export, run `genie-rt evaluate --json FILE`, then export again
    with --metrics FILE --overwrite.

    Examples:
        genie-rt export runs/dynamics --out my-world --prompt prompts/*.png
        genie-rt export demo --out my-demo --onnx --fp16
    """

    source: tyro.conf.Positional[Annotated[str | None, shown(default="none", metavar="[SOURCE]")]] = None
    """Run folder of the dynamics, one of its checkpoints, or a bundle's name or folder."""
    out: Path
    """Folder of the new bundle."""
    preset: Annotated[str | None, shown(default="none")] = None
    """Export a world with the sizes of this preset instead of SOURCE. Needs --random-weights."""
    random_weights: bool = False
    """Use random weights, for benchmarks. Needs --preset."""
    name: Annotated[str | None, shown(default="the source bundle's, or the folder's name")] = None
    """Name of the bundle."""
    prompt: Annotated[tuple[Path, ...], shown(default="the source bundle's", metavar="FILE ...")] = ()
    """Prompt images to start from, cropped and scaled to the model's size. See `genie-rt data prompts`."""
    dtype: Annotated[
        tyro.conf.DisallowNone[Literal["bf16", "fp32"] | None], shown(default="the source's, or bf16")
    ] = None
    """Precision of the stored weight matrices; everything else stays in fp32."""
    ema: bool = False
    """Export the averaged (EMA) weights; the run must have used --ema-decay."""
    passes: Annotated[int | None, shown(default="the source bundle's, or 4")] = None
    """MaskGIT passes per frame in the bundle's default plan."""
    temperature: Annotated[float | None, shown(default="the source bundle's, or 1")] = None
    """Sampling temperature in the default plan."""
    noise: Annotated[float | None, shown(default="the source bundle's, or 1")] = None
    """Noise on the confidence in the default plan."""
    plans: Annotated[Path | None, shown(default="none")] = None
    """JSON record of `genie-rt bench quality`; its recommended plans are added to the default plan."""
    metrics: Annotated[Path | None, shown(default="none")] = None
    """JSON file of `genie-rt evaluate --json`, whose figures go on the model card."""
    limit: Annotated[tuple[str, ...], shown(default="none", metavar="SENTENCE ...")] = ()
    """Extra sentences for the section "Limits" of the model card."""
    onnx: bool = False
    """Write ONNX graphs in float32, for the back ends onnx, openvino and tensorrt."""
    fp16: bool = False
    """Also write the graphs in float16."""
    int8: bool = False
    """Also write the graphs in int8, calibrated with --clips."""
    clips: Annotated[Path | None, shown(default="none")] = None
    """Clip store whose training split calibrates int8."""
    plan: Annotated[tuple[str, ...], shown(default="none", metavar="PLAN ...")] = ()
    """Plans for which to write a whole-frame graph: one engine call per frame, which is faster."""
    opset: Literal[20, 23] = 23
    """ONNX opset: 23 has attention and normalisation operators, 20 suits older engines."""
    precisions: Annotated[Path | None, shown(default="none")] = None
    """JSON record of `genie-rt bench quality --versus`, which decides what --dtype auto may pick."""
    overwrite: bool = False
    """Replace an existing bundle at --out."""

    def run(self) -> None:
        """Read the source, write the bundle and print a summary."""
        from genie_rt.export.bundle import check_target, write_bundle
        from genie_rt.export.run_card import read_record
        from genie_rt.export.source import random_source, read_source
        from genie_rt.runtime.images import fit_image, load_image

        self._check()
        check_target(self.out, overwrite=self.overwrite)
        check_folder("--out", self.out.parent)
        record = None if self.metrics is None else read_record(self.metrics)
        if self.source is not None:
            source = read_source(self.source, averaged=self.ema)
        else:
            assert self.preset is not None  # `_check` saw to it
            source = random_source(self.preset)
        if self.limit and source.card is not None and record is None:
            raise InputError("--limit: expected --metrics FILE too, which rewrites a bundle's model card")
        plans = self._plans(source)
        graphs = self._graphs(source, plans)
        size = source.config.tokenizer.height, source.config.tokenizer.width
        pictures = [fit_image(load_image(path), *size) for path in self.prompt] or list(source.prompts)
        is_bundle = source.card is not None and self.preset is None
        name = self.name or (source.name if is_bundle else self.out.resolve().name)
        bundle = write_bundle(
            self.out,
            name=name,
            preset=source.preset,
            config=source.config,
            weights=source.weights,
            action_names=source.action_names,
            default_action=source.default_action,
            plans=plans,
            prompts=pictures,
            provenance=source.provenance,
            model_card=source.model_card(name, record, self.limit),
            dtype=self.dtype or source.dtype or "bf16",
            graphs=graphs,
            action_codes=source.action_codes,
            lam=source.lam,
            int8=source.int8 if graphs is None or self.random_weights else graphs.int8,
            overwrite=self.overwrite,
        )
        self._tell(source, bundle)

    def _check(self) -> None:
        if (self.source is None) == (self.preset is None) or self.random_weights != (self.preset is not None):
            raise InputError(
                "expected a run, a bundle, or --preset NAME with --random-weights; found "
                f"{self.source!r}, --preset {self.preset}, --random-weights {self.random_weights}"
            )
        if self.int8 and self.clips is None:
            raise InputError(
                "--int8: expected --clips too, a clip store to calibrate with, as `genie-rt data` writes"
            )
        if self.clips is not None and not self.int8:
            raise InputError("--clips: expected --int8 too, which is what clips calibrate")
        if self.plan and not self._writes_graphs:
            raise InputError("--plan: expected --onnx too, which writes a graph of each plan")

    @property
    def _writes_graphs(self) -> bool:
        return self.onnx or self.fp16 or self.int8

    def _plans(self, source: Source) -> dict[str, Plan]:
        from genie_rt.export.plans import read_recommended
        from genie_rt.runtime.plan import Plan

        asked = {"passes": self.passes, "temperature": self.temperature, "noise": self.noise}
        changes = {key: value for key, value in asked.items() if value is not None}
        default = source.plans.get("default", Plan(passes=4, temperature=1.0, noise=1.0)).replace(**changes)
        recommended = {} if self.plans is None else read_recommended(self.plans)
        return {**source.plans, **recommended, "default": default}

    def _graphs(self, source: Source, plans: Mapping[str, Plan]) -> NewGraphs | KeptGraphs | None:
        from rich.console import Console
        from rich.progress import Progress

        from genie_rt.export.graph_writer import KeptGraphs, NewGraphs, calibration_of, read_psnr_changes
        from genie_rt.runtime.bundle import open_bundle
        from genie_rt.runtime.linears import linear_names
        from genie_rt.runtime.units import plural

        changes = None if self.precisions is None else read_psnr_changes(self.precisions)
        if not self._writes_graphs:
            if source.graphs is not None and self.source is not None:
                return KeptGraphs(
                    bundle=open_bundle(self.source), graphs=source.graphs, plans=plans, psnr_change_db=changes
                )
            if changes is not None:
                raise InputError("--precisions: expected a bundle with graphs, or --onnx to write some")
            return None
        graphs = NewGraphs(
            config=source.config,
            plans=plans,
            precisions=("float32", "float16") if self.fp16 else ("float32",),
            frame_plans=self.plan,
            opset=self.opset,
            psnr_change_db=changes or {},
        )
        if self.clips is None:
            return graphs
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(
                f"calibrating int8 with {self.clips}", total=len(linear_names(source.config))
            )
            calibration = calibration_of(source, self.clips, on_linear=lambda: progress.advance(task))
        print(
            f"{plural(len(calibration.limits), 'linear layer')} in int8, kept in floating point: "
            f"{', '.join(calibration.kept) or 'none'}"
        )
        return replace(graphs, precisions=(*graphs.precisions, "int8"), calibration=calibration)

    def _tell(self, source: Source, bundle: Bundle) -> None:
        from genie_rt.runtime.action_health import health_text
        from genie_rt.runtime.units import plural

        megabytes = sum(file.size for file in bundle.files.values()) / 1e6
        print(
            f"{bundle.path}: {source.num_parameters:,} parameters of {source.name}, {megabytes:.1f} MB, "
            f"{plural(len(bundle.prompts), 'prompt image')}"
        )
        if bundle.graphs is not None:
            print(
                f"ONNX graphs, opset {bundle.graphs.opset}, in {', '.join(bundle.graphs.precisions)}; "
                f"to check them against the reference: genie-rt verify {bundle.path}"
            )
            unknown = [name for name in bundle.graphs.precisions if name not in bundle.graphs.psnr_change_db]
            if unmeasured := [name for name in unknown if name != "float32"]:
                print(
                    f"the quality loss of {' and '.join(unmeasured)} is not measured, so --dtype auto does "
                    "not pick it; measure it with genie-rt bench quality --versus, then export with "
                    "--precisions"
                )
        if bundle.config.lam is not None:
            print(health_text(bundle.provenance))
        if not bundle.prompts:
            print(
                "the bundle has no prompt image: play it with --prompt FILE, or export it with --prompt FILE"
            )
        print(f"next: genie-rt play {shlex.quote(played(bundle))}")
        if bundle.config.lam is not None and not bundle.named_codes:
            print(f"its actions have no names yet: genie-rt actions {shlex.quote(played(bundle))}")


def played(bundle: Bundle) -> str:
    """The bundle as `genie-rt play` takes it: a path that no shipped bundle's name can be mistaken for."""
    folder = bundle.path
    with contextlib.suppress(ValueError):
        folder = folder.relative_to(Path.cwd())
        return f"./{folder}"
    return str(folder)

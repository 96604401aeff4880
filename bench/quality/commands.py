"""`genie-rt bench quality`. torch is imported when the command runs."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from genie_rt.errors import InputError
from genie_rt.runtime.flags import check_file, check_folder, set_threads

Order = Literal["maskgit", "random", "halton", "adaptive"]
Reuse = Literal["none", "passes", "frames"]


@dataclass(frozen=True, kw_only=True)
class QualityCommand:
    """Quality of decoding plans against their cost, on held-out clips: CSV, record, plot and table.

    With --versus it is the quality of number formats and back ends: the same plans, clips and chance, each
    held against the command's own back end and dtype. Fails where PSNR is further than 0.5 dB from that, or
    the clip distance larger than it by more than noise.

    Takes hours on a CPU. What is known of a plan is kept in OUT.work, so a stopped run goes on where it was,
    and a run with other plans adds to it. Few passes of all orders come first. With glibc the environment
    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=268435456 saves the time that goes
    into giving memory back to the system and taking it again.
    """

    bundle: tyro.conf.Positional[str] = "demo"
    """Name of a bundle that came with genie-rt, or the folder of any other."""
    data: Path | None = None
    """Clip store whose held-out split is the truth; the real game on held-out levels unless set."""
    out: Path = Path("out/quality.csv")
    """CSV to write; the record, the plot and the work folder lie beside it under the same name."""
    clips: int = 200
    """How many clips to measure on."""
    reference_clips: int = 400
    """How many other real clips the clip distance is measured against."""
    plans: tuple[Order, ...] = ("maskgit", "random", "halton", "adaptive")
    """Orders to measure."""
    passes: tuple[int, ...] = (1, 2, 4, 8, 16, 25)
    """Passes per frame to measure."""
    reuse: tuple[Reuse, ...] = ("none", "passes", "frames")
    """What plans may reuse: "passes" is for random and halton, "frames" for maskgit and adaptive."""
    temperature: float | None = None
    """Temperature of all plans; that of the bundle's default plan unless set."""
    noise: float | None = None
    """Confidence noise of all plans; that of the bundle's default plan unless set."""
    threshold: float | None = None
    """Threshold of the adaptive plans; that of the bundle's default plan unless set."""
    versus: tuple[str, ...] = ()
    """Other computations to compare with, BACKEND:DTYPE each, or a back end or a dtype alone."""
    plan: tuple[str, ...] = ("default",)
    """Plans of the bundle to compare them on, with --versus."""
    prompt_frames: int | None = None
    """Real frames before a rollout; half the dynamics' window unless set."""
    known_only: bool = False
    """Judge the plans whose clips were decoded before, and decode none."""
    times: Literal["missing", "again", "none"] = "missing"
    """Time a frame of each plan where that is not known yet, anew, or not at all."""
    iterations: int = 40
    """Frames that are timed, of each plan."""
    visuals: Literal["plain", "full"] | None = None
    """Look of the real game; what the bundle was trained on unless set."""
    lam: Path | None = None
    """Run folder of the latent action model, for a world that has latent actions."""
    seed: int = 0
    """Seed of the choice of clips, of the sampling and of the random actions."""
    batch: int = 16
    """Clips evaluated together."""
    threads: int | None = None
    """CPU threads to compute with; all unless set."""
    backend: str = "reference"
    """Back end that computes the frames; "reference" is the definition, "auto" the fastest."""
    dtype: str = "float32"
    """Number format that the back end computes in."""
    device: str | None = None
    """Device that the back end computes on; its own unless set."""
    emulate: bool = False
    """Compute what "cuda" computes on a CPU, by its operators' references: its roundings, not its speed."""

    def run(self) -> int:
        """Measure what is missing, then judge, write, draw and print."""
        from genie_rt.bench.quality.computation import Computation
        from genie_rt.bench.quality.setup import QualityBench
        from genie_rt.runtime.bundle import open_bundle

        self._check()
        set_threads(self.threads)
        graphs = open_bundle(self.bundle).graphs
        own = Computation.of(self.backend, self.dtype, self.device, graphs, emulate=self.emulate)
        others = [own.versus(word, self.device, graphs, emulate=self.emulate) for word in self.versus]
        if len({own, *others}) <= len(others):
            names = ", ".join(each.name for each in (own, *others))
            raise InputError(f"--versus: expected computations that differ, found {names}")
        if self.emulate and not any(each.emulated for each in (own, *others)):
            raise InputError(
                '--emulate: expected the back end "cuda", such as --versus cuda:int8, found none'
            )
        bench = QualityBench(self)
        if others:
            from genie_rt.bench.quality.formats import compare_computations

            return 0 if compare_computations(bench, [own, *others]) else 1
        from genie_rt.bench.quality.plans import compare_plans

        compare_plans(bench, own)
        return 0

    def _check(self) -> None:
        for name in ("clips", "reference_clips", "iterations", "batch"):
            if getattr(self, name) < 1:
                raise InputError(
                    f"--{name.replace('_', '-')}: expected at least 1, found {getattr(self, name)}"
                )
        if not 0 <= self.seed < 2**31:
            raise InputError(f"--seed: expected a number from 0 to 2**31 - 1, found {self.seed}")
        if self.prompt_frames is not None and self.prompt_frames < 1:
            raise InputError(f"--prompt-frames: expected at least 1, found {self.prompt_frames}")
        if self.out.suffix != ".csv":
            raise InputError(f"--out: expected a name that ends in .csv, found {self.out}")
        for ending in (".csv", ".json", ".png"):
            check_file("--out", self.out.with_suffix(ending))
        check_folder("--out", self.out.with_suffix(".work"))
        given = {
            field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default
        }
        idle = given & ({"plans", "passes", "reuse", "known_only"} if self.versus else {"plan"})
        if idle:
            flags = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(idle))
            where = "of plans, without --versus" if self.versus else "with --versus"
            raise InputError(f"{flags}: expected in a comparison {where} alone; leave one of them out")

    def words(self) -> str:
        """These settings as a command line."""
        words = ["genie-rt", "bench", "quality", self.bundle]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "bundle" or value == field.default:
                continue
            flag = f"--{field.name.replace('_', '-')}"
            given = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [flag, *map(str, given)]
        return shlex.join(words)

"""The settings of `genie-rt bench quality`."""

from __future__ import annotations

import dataclasses
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from genie_rt.errors import InputError
from genie_rt.parsing import shown
from genie_rt.runtime.flags import BundleName, check_file, check_folder

Reuse = Literal["none", "passes", "frames"]


@dataclass(frozen=True, kw_only=True)
class QualityOptions:
    """What to measure, on what, and where results go."""

    bundle: BundleName = "demo"
    """Name of a shipped bundle, or path of a bundle folder."""
    data: Annotated[Path | None, shown(default="record CoinRun's held-out levels")] = None
    """Clip store whose held-out split is the ground truth."""
    out: Path = Path("out/quality.csv")
    """CSV file to write. The record, the plot and the work folder get the same name."""
    clips: int = 200
    """Number of clips to measure on."""
    reference_clips: int = 400
    """Number of other real clips that the clip distance compares with."""
    plans: Annotated[tuple[str, ...], shown(metavar="ORDER ...")] = (
        "maskgit",
        "random",
        "halton",
        "adaptive",
    )
    """Decoding orders to measure: maskgit, random, halton, adaptive."""
    passes: Annotated[tuple[int, ...], shown(metavar="K ...")] = (1, 2, 4, 8, 16, 25)
    """Numbers of passes per frame to measure."""
    reuse: Annotated[tuple[Reuse, ...], shown(metavar="REUSE ...")] = ("none", "passes", "frames")
    """What plans may reuse: none; passes (orders random and halton); frames (order maskgit)."""
    temperature: Annotated[float | None, shown(default="that of the bundle's default plan")] = None
    """Sampling temperature of all plans."""
    noise: Annotated[float | None, shown(default="that of the bundle's default plan")] = None
    """Noise on the confidence, in all plans."""
    threshold: Annotated[float | None, shown(default="that of the bundle's default plan")] = None
    """Confidence threshold of the adaptive plans."""
    versus: Annotated[tuple[str, ...], shown(default="none", metavar="BACKEND:DTYPE ...")] = ()
    """Back ends and precisions to compare; BACKEND or DTYPE alone keeps the other one."""
    plan: Annotated[tuple[str, ...], shown(metavar="PLAN ...")] = ("default",)
    """With --versus: names of the bundle's plans to compare them on."""
    prompt_frames: Annotated[int | None, shown(default="half the model's window")] = None
    """Number of real frames before each rollout."""
    known_only: bool = False
    """Evaluate only plans whose clips are already decoded in the work folder."""
    times: Literal["missing", "again", "none"] = "missing"
    """Frame times to measure: those still missing, all of them again, or none."""
    iterations: int = 40
    """Number of timed frames per plan."""
    visuals: Annotated[Literal["plain", "full"] | None, shown(default="as in the training data")] = None
    """Visual style of CoinRun, without --data."""
    lam: Annotated[Path | None, shown(default="the bundle's own")] = None
    """Run folder of the latent action model that infers the true actions of a world with latent ones."""
    seed: int = 0
    """Random seed for the choice of clips, sampling and random actions."""
    batch: int = 16
    """Number of clips evaluated together."""
    threads: Annotated[int | None, shown(default="all cores")] = None
    """Number of CPU threads."""
    backend: str = "reference"
    """Back end to compute with: reference, cuda, onnx, openvino, tensorrt, tensorrt-rtx, or auto."""
    dtype: str = "float32"
    """Precision to compute in, such as float32 or bfloat16, or auto."""
    device: Annotated[str | None, shown(default="the back end's")] = None
    """Device to compute on, such as cpu or cuda."""
    emulate: bool = False
    """Emulate the cuda back end on a CPU with its reference operators: same rounding, not its speed."""

    def check(self) -> None:
        """Raise `InputError` for settings that do not fit together."""
        from genie_rt.runtime.orders import ORDERS

        for order in self.plans:
            if order not in ORDERS:
                raise InputError(f"--plans: expected some of {', '.join(ORDERS)}, found {order!r}")
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
        """Format these settings as a command line."""
        words = ["genie-rt", "bench", "quality", self.bundle]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name == "bundle" or value == field.default:
                continue
            flag = f"--{field.name.replace('_', '-')}"
            given = value if isinstance(value, tuple) else () if value is True else (value,)
            words += [flag, *map(str, given)]
        return shlex.join(words)

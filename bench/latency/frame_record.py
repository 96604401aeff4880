"""Record of kind "frame": frame latency, cold start and memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from genie_rt.bench.record import Subject
from genie_rt.bench.series import Series
from genie_rt.runtime.units import plural

STEP = "step"
IDLE_COMMIT = "step_idle_commit"
RECOMPUTED = "recomputed"
COMPARED = (STEP, IDLE_COMMIT, RECOMPUTED)
"""Names of the series that a record compares; its sweep's are `sweep_K`, those of other plans `plan_NAME`."""

COMPILED = "compiled"
"""Series of the same model under `torch.compile`, compared on request."""

VERSUS = "versus "
"""Others that are compared: `versus BACKEND DTYPE`."""

SWEEP = "sweep_"
PLAN = "plan_"

_DESCRIBED = {
    STEP: "commit in the step",
    IDLE_COMMIT: "commit in idle time",
    RECOMPUTED: "the paper's recipe",
    COMPILED: "torch.compile",
}


def described(name: str) -> str:
    """Describe a series to a user: "commit in idle time" rather than "step_idle_commit"."""
    if name.startswith(SWEEP):
        return plural(int(name.removeprefix(SWEEP)), "pass", "passes")
    if name.startswith(PLAN):
        return f"plan {name.removeprefix(PLAN)}"
    return _DESCRIBED.get(name, name.removeprefix(VERSUS))


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStart:
    """Time from the command to the second picture, in milliseconds; files may be in the system's cache.

    Attributes:
        import_ms: to import torch and genie-rt; next to nothing where the process had them.
        load_ms: to load the bundle: read, hash, check, convert; or to make random weights.
        warm_up_ms: to make the plan ready, `World.warm_up`; None in older records, where the parts that
            follow have it within them.
        reset_ms: to take in the first picture.
        first_step_ms: of the first frame.
    """

    import_ms: float
    load_ms: float
    warm_up_ms: float | None = None
    reset_ms: float
    first_step_ms: float

    @property
    def total_ms(self) -> float:
        parts = (self.import_ms, self.load_ms, self.warm_up_ms or 0.0, self.reset_ms, self.first_step_ms)
        return sum(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of one session whose window is full.

    Attributes:
        peak_rss_bytes: most that the process ever held resident up to then (`getrusage`), interpreter and
            libraries included; None where the system does not say.
        peak_device_bytes: most that torch ever held of the GPU's memory up to then, captured frames included;
            None where the frames are computed elsewhere.
        weight_bytes: of the weights as computed with.
        page_bytes: of the pages that the session holds.
        pool_bytes: of the pools that they come from, which grow by chunks.
    """

    peak_rss_bytes: int | None
    peak_device_bytes: int | None = None
    weight_bytes: int
    page_bytes: int
    pool_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBody:
    """The latency of a frame.

    Attributes:
        times_faster: median over rounds of the paper's recipe / session; None where the recipe did not run.
        times_faster_than_compiled: the same of the compiled baseline; None where it did not run.
        times_faster_than: the same of other back ends, by "BACKEND DTYPE".
    """

    KIND: ClassVar[str] = "frame"

    subject: Subject
    cold_start: ColdStart
    memory: Memory
    series: tuple[Series, ...]
    times_faster: float | None
    times_faster_than_compiled: float | None = None
    times_faster_than: dict[str, float] = field(default_factory=dict)

    def find(self, name: str) -> Series:
        return next(series for series in self.series if series.name == name)

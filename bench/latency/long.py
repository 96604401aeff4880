"""Long rollout benchmark: whether memory and latency stay flat, as a game that runs for days needs.

Steps commit the frame before in their first pass. Every so often the player looks at all futures, and goes
back a little, so that pages are shared, dropped and taken again. Memory and time are told per window of the
rollout, a hundredth of it each.

Machines get faster and slower within the minutes that this takes. So every tenth step a young session takes a
step too, always from the same moment: a step is as fast as ever if it takes as many times that one's time.
"""

from __future__ import annotations

import gc
import itertools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from genie_rt.bench.latency.workloads import first_picture, held_actions
from genie_rt.bench.noise_check import MAX_DRIFT, Counters, disturbances
from genie_rt.bench.record import Record, Subject
from genie_rt.errors import InputError
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.config import DynamicsConfig, ModelConfig, TokenizerConfig, TransformerConfig
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.pages import PagePool
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session, Snapshot
from genie_rt.runtime.world import World

WINDOWS = 100
LOOK_EVERY = 50
"""Steps between two looks at all futures; each is followed by going back to where the last one was."""

CONTROL_EVERY = 10
"""Steps between two of the young session's."""

MAX_GROWTH_BYTES = 2**20
"""Resident memory that the later half of a rollout may gain, and MAX_GROWTH_PER_STEP for each step of it.

What leaks, leaks at every step: the smallest Python object of a step, 56 bytes, is 2.8 MB over the later half
of 100,000 steps, a page far more. An allocator's own pages come and go within a megabyte.
"""

MAX_GROWTH_PER_STEP = 8

SMALL = TransformerConfig(num_layers=2, width=32, num_heads=2, head_width=16, mlp_width=64, window=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Figures of one part of a rollout.

    Attributes:
        end: steps that were done when it ended.
        p50_us: median of a step. control_p50_us: of the young session's in the same time.
        resident_bytes: memory of the process at its end, None where the system does not say.
        used_pages, held_pages: of all pools: that somebody holds, and that there is memory for.
    """

    end: int
    p50_us: float
    control_p50_us: float
    resident_bytes: int | None
    used_pages: int
    held_pages: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LongBody:
    """Figures of a long rollout.

    Attributes:
        steps: of the rollout.
        windows: in order.
        memory_growth_bytes: that a line through the resident memory of the later half gains over that half;
            None where the system does not say.
        first_p50_us, last_p50_us: median of the windows' medians, over the first and the last tenth.
        first_times_control, last_times_control: the same of each window's median by that of its control.
    """

    KIND: ClassVar[str] = "long"

    subject: Subject
    plan: Plan
    steps: int
    windows: tuple[Window, ...]
    memory_growth_bytes: int | None
    first_p50_us: float
    last_p50_us: float
    first_times_control: float
    last_times_control: float

    @property
    def allowed_growth_bytes(self) -> int:
        return MAX_GROWTH_BYTES + MAX_GROWTH_PER_STEP * (self.steps // 2)

    @property
    def is_memory_flat(self) -> bool:
        """Whether neither the process nor the pools grew in the second half."""
        later = self.windows[len(self.windows) // 2 :]
        pages = {(window.used_pages, window.held_pages) for window in later}
        grew = self.memory_growth_bytes is not None and self.memory_growth_bytes > self.allowed_growth_bytes
        return len(pages) == 1 and not grew

    @property
    def is_latency_flat(self) -> bool:
        """Whether a step takes as long at the end as at the beginning, relative to a fresh session."""
        return abs(self.last_times_control / self.first_times_control - 1) <= MAX_DRIFT


def play_long(
    world: World,
    plan: Plan,
    *,
    steps: int,
    device: str,
    command: str,
    on_window: Callable[[], object] | None = None,
) -> Record[LongBody]:
    """Play a long rollout.

    Args:
        steps: at least 2 * WINDOWS, so that every window has a median.
        device: of the world, for the record.
        on_window: called at the end of every window.

    Raises:
        InputError: too few steps.
    """
    if steps < 2 * WINDOWS:
        raise InputError(f"expected {2 * WINDOWS} steps or more, found {steps}")
    before = Counters.read()
    world.warm_up(plan, peek=len(world.action_names))
    session = world.session(plan=plan)
    session.reset(first_picture(world))
    pools = [pool for pool in vars(world.backend).values() if isinstance(pool, PagePool)]
    actions = held_actions(world)
    windows: list[Window] = []
    marked = session.snapshot()
    control, young = _young_session(world, plan)
    taken: list[int] = []
    control_taken: list[int] = []
    for step in range(1, steps + 1):
        action = next(actions)
        start = time.perf_counter_ns()
        session.step(action)
        taken.append(time.perf_counter_ns() - start)
        if step % CONTROL_EVERY == 0:
            control.restore(young)
            start = time.perf_counter_ns()
            control.step(action)
            control_taken.append(time.perf_counter_ns() - start)
        if step % LOOK_EVERY == 0:
            session.restore(marked)
            session.peek()
            session.step(action)
            marked = session.snapshot()
        if step * WINDOWS // steps > len(windows):
            # what is held differs from step to step as windows fill and marks move: told at the same state
            marked = session.snapshot()
            gc.collect()
            windows.append(
                Window(
                    end=step,
                    p50_us=statistics.median(taken) / 1e3,
                    control_p50_us=statistics.median(control_taken or taken) / 1e3,
                    resident_bytes=resident_bytes(),
                    used_pages=sum(pool.num_used for pool in pools),
                    held_pages=sum(pool.num_pages for pool in pools),
                )
            )
            taken.clear()
            control_taken.clear()
            if on_window is not None:
                on_window()
    body = summarise(Subject.of(world, backend=world.backend.name), session.plan, steps, windows)
    return Record.take(body, command=command, device=device, warnings=disturbances(before, Counters.read()))


def _young_session(world: World, plan: Plan) -> tuple[Session, Snapshot]:
    """Open a fresh session, and take a snapshot when its windows are full for the first time."""
    config = world.bundle.config
    session = world.session(plan=plan)
    session.reset(first_picture(world))
    window = max(config.dynamics.transformer.window, config.tokenizer.decoder.window)
    for action in itertools.islice(held_actions(world), window):
        session.step(action)
    return session, session.snapshot()


def summarise(subject: Subject, plan: Plan, steps: int, windows: Sequence[Window]) -> LongBody:
    """Summarise a rollout's windows, of which there are at least two."""
    later = windows[len(windows) // 2 :]
    resident = [window.resident_bytes for window in later if window.resident_bytes is not None]
    growth = round(slope(resident) * (len(resident) - 1)) if len(resident) == len(later) else None
    tenth = max(len(windows) // 10, 1)
    return LongBody(
        subject=subject,
        plan=plan,
        steps=steps,
        windows=tuple(windows),
        memory_growth_bytes=growth,
        first_p50_us=statistics.median(window.p50_us for window in windows[:tenth]),
        last_p50_us=statistics.median(window.p50_us for window in windows[-tenth:]),
        first_times_control=_times_control(windows[:tenth]),
        last_times_control=_times_control(windows[-tenth:]),
    )


def _times_control(windows: Sequence[Window]) -> float:
    return statistics.median(window.p50_us / window.control_p50_us for window in windows)


def slope(values: Iterable[float]) -> float:
    """Slope of the least-squares line through values at 0, 1, 2, ...; 0 for a single value."""
    values = list(values)
    return statistics.linear_regression(range(len(values)), values).slope if len(values) > 1 else 0.0


def resident_bytes() -> int | None:
    """Return the resident memory of this process in bytes; None where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def small_world() -> World:
    """Make a world of 16 tokens with random weights; memory and time do not depend on the weights."""
    config = ModelConfig(
        tokenizer=TokenizerConfig(
            height=16, width=16, patch=4, decoder_patch=4, codebook_size=64, codebook_dim=8,
            encoder=SMALL, decoder=SMALL,
        ),
        dynamics=DynamicsConfig(transformer=SMALL, num_actions=4, embedding_dim=16),
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WorldModel(config)
    bundle = Bundle(
        path=Path(), name="small", preset="custom", config=config, action_names=("a", "b", "c", "d"),
        default_action="a", plans={"default": Plan(passes=2)}, prompts=(), files={}, provenance={}, digest="",
    )  # fmt: skip
    return World(bundle, ReferenceBackend(model, torch.device("cpu"), torch.float32), "float32")

"""Terminal report of `evaluate`, and the record that it writes."""

import dataclasses
import datetime
import json
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console, RenderableType

from genie_rt import __version__
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.processor import processor_name
from genie_rt.runtime.units import plural
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.intervals import RESAMPLES
from genie_rt.training.evaluation.measure import Controllability, Evaluation, Settings, TokenizerFigures
from genie_rt.training.evaluation.tables import both, make_table, plus_minus

SCHEMA = "genie-rt/evaluation"
SCHEMA_VERSION = 2
"""2: figures have 95% intervals beside them, under the same name with `_interval`."""


def print_report(console: Console, evaluation: Evaluation, settings: Settings) -> None:
    """Print all figures, each with its baselines and its number of frames."""
    plan = settings.plan
    console.print(
        f"PSNR in dB: pooled over pixels / mean of per-frame dB, where a frame counts at most "
        f"{evaluation.max_db:g}.\n± is half of a 95% interval, by {RESAMPLES:,} resamples of the clips.\n"
        f"Plan of the rollouts: {plan.order}, "
        f"{plural(plan.passes, 'pass', 'passes')}, temperature {plan.temperature:g}, noise {plan.noise:g}; "
        f"prompt of {plural(settings.prompt_frames, 'real frame')}."
    )
    for table in (
        tokenizer_table(evaluation.tokenizer),
        _next_frame_table(evaluation, settings),
        _controllability_table(evaluation.controllability, settings),
        _rollout_table(evaluation),
        _look_table(evaluation),
    ):
        console.print()
        console.print(table)


def tokenizer_table(figures: TokenizerFigures) -> RenderableType:
    """Make the table of a tokenizer's figures."""
    table = make_table(
        "Tokenizer: real frames, encoded and decoded",
        ("", "tokenizer", "copy of frame before", "frames"),
        f"Changed pixels differ from the real frame before: {figures.changed_share:.1%} of all. "
        f"SSIM of whole frames {plus_minus(figures.ssim, figures.ssim_interval, 3)}. "
        "Encoded by the definition, decoded by the back end.",
    )
    for name, model, copy in (
        ("whole frame", figures.whole, figures.whole_copy),
        ("changed pixels", figures.changed, figures.changed_copy),
    ):
        table.add_row(name, both(model), both(copy), str(model.num_frames))
    return table


def _next_frame_table(evaluation: Evaluation, settings: Settings) -> RenderableType:
    first = evaluation.next_frame[0]
    table = make_table(
        f"Next frame, after {' and '.join(map(str, settings.seen))} real frames",
        ("", f"all {first.all.num_frames}", f"moving {first.moving.num_frames}"),
        f"Moving: mean absolute difference to the frame before above {evaluation.moving_threshold:g} of 255. "
        "The true frame, encoded and decoded, is what a perfect prediction would reach.",
    )
    for row in evaluation.next_frame:
        table.add_row(row.name, both(row.all), both(row.moving))
    return table


def _controllability_table(figures: Controllability, settings: Settings) -> RenderableType:
    table = make_table(
        f"Controllability: rollouts of {plural(figures.t, 'frame')} against the real frames",
        ("", "PSNR", "frames"),
        f"Random actions are uniform over {settings.num_actions}, drawn with seed {settings.seed}.",
    )
    for name, psnr in (("true actions", figures.true_actions), ("random actions", figures.random_actions)):
        table.add_row(name, both(psnr), str(psnr.num_frames))
    table.add_section()
    pooled = plus_minus(figures.delta_pooled_db, figures.delta_pooled_db_interval, sign="+")
    mean = plus_minus(figures.delta_mean_db, figures.delta_mean_db_interval, sign="+")
    table.add_row(f"Δ_{figures.t} PSNR", f"{pooled} / {mean}", str(figures.true_actions.num_frames))
    return table


def _rollout_table(evaluation: Evaluation) -> RenderableType:
    table = make_table(
        "Rollouts with the true actions against what really happened",
        ("t", "model", "copy", "frames"),
        "Copy: the last real frame of the prompt, for all t.",
    )
    for step in evaluation.rollout:
        table.add_row(str(step.t), both(step.model), both(step.copy), str(step.model.num_frames))
    return table


def _look_table(evaluation: Evaluation) -> RenderableType:
    table = make_table(
        "How these rollouts look",
        ("t", "SSIM", "SSIM of copy", "sharpness", "motion"),
        "Sharpness and motion are generated / real: the mean gradient of frame t, and its mean change since "
        "frame t - 1; below 1 is blur and freezing.",
    )
    for step in evaluation.rollout:
        table.add_row(
            str(step.t),
            plus_minus(step.model_ssim, step.model_ssim_interval, 3),
            plus_minus(step.copy_ssim, step.copy_ssim_interval, 3),
            plus_minus(step.sharpness, step.sharpness_interval, 2),
            plus_minus(step.motion, step.motion_interval, 2),
        )
    return table


def record(
    evaluation: Evaluation,
    settings: Settings,
    world: World,
    backend: str,
    origin: dict[str, Any],
    command: str,
    further: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything about a measurement as JSON values.

    Args:
        backend: name of the world's.
        further: figures of other sections by key, JSON values.
    """
    bundle = world.bundle
    return {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": command,
        "bundle": {"name": bundle.name, "preset": bundle.preset, "digest": bundle.digest},
        "device": device_name(world),
        "backend": backend,
        "dtype": world.dtype,
        "versions": _versions(),
        "clips": origin,
        "settings": dataclasses.asdict(settings) | {"next_frame_after": settings.seen},
        "figures": {**dataclasses.asdict(evaluation), **(further or {})},
    }


def write_record(path: Path, values: dict[str, Any]) -> None:
    """Write the record atomically.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def device_name(world: World) -> str:
    """Describe the device that a world computes on."""
    device = world.backend.device
    threads = "" if device.type == "cuda" else f", {plural(torch.get_num_threads(), 'thread')}"
    return processor_name(device) + threads


def _versions() -> dict[str, str]:
    found = {"genie-rt": __version__, "python": platform.python_version()}
    found |= {"torch": torch.__version__, "numpy": np.__version__}
    for name in ("torchmetrics", "procgen-mirror"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

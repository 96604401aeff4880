"""Terminal report of `evaluate`, and the record that it writes."""

import dataclasses
import datetime
import json
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console, RenderableType
from rich.table import Table

from genie_rt import __version__
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.processor import processor_name
from genie_rt.runtime.units import plural
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.measure import Controllability, Evaluation, Settings
from genie_rt.training.evaluation.metrics import Psnr

SCHEMA = "genie-rt/evaluation"
SCHEMA_VERSION = 1


def print_report(console: Console, evaluation: Evaluation, settings: Settings) -> None:
    """Print all figures, each with its baselines and its number of frames."""
    plan = settings.plan
    console.print(
        f"PSNR in dB: pooled over pixels / mean of per-frame dB, where a frame counts at most "
        f"{evaluation.max_db:g}.\nPlan of the rollouts: {plan.order}, "
        f"{plural(plan.passes, 'pass', 'passes')}, temperature {plan.temperature:g}, noise {plan.noise:g}; "
        f"prompt of {plural(settings.prompt_frames, 'real frame')}."
    )
    for table in (
        _tokenizer_table(evaluation),
        _next_frame_table(evaluation, settings),
        _controllability_table(evaluation.controllability, settings),
        _rollout_table(evaluation),
    ):
        console.print()
        console.print(table)


def _table(title: str, columns: Iterable[str], caption: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", caption=caption)
    table.caption_justify, table.caption_style = "left", ""
    first, *others = columns
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _both(psnr: Psnr) -> str:
    return f"{_db(psnr.pooled_db)} / {_db(psnr.mean_db)}"


def _tokenizer_table(evaluation: Evaluation) -> RenderableType:
    figures = evaluation.tokenizer
    table = _table(
        "Tokenizer: real frames, encoded and decoded",
        ("", "tokenizer", "copy of frame before", "frames"),
        f"Changed pixels differ from the real frame before: {figures.changed_share:.1%} of all. "
        f"SSIM of whole frames {figures.ssim:.3f}. Encoded by the definition, decoded by the back end.",
    )
    for name, model, copy in (
        ("whole frame", figures.whole, figures.whole_copy),
        ("changed pixels", figures.changed, figures.changed_copy),
    ):
        table.add_row(name, _both(model), _both(copy), str(model.num_frames))
    return table


def _next_frame_table(evaluation: Evaluation, settings: Settings) -> RenderableType:
    table = _table(
        f"Next frame, after {' and '.join(map(str, settings.seen))} real frames",
        ("", "all", "frames", "moving", "frames"),
        f"Moving: mean absolute difference to the frame before above {evaluation.moving_threshold:g} of 255. "
        "The true frame, encoded and decoded, is what a perfect prediction would reach.",
    )
    for row in evaluation.next_frame:
        counts = str(row.all.num_frames), str(row.moving.num_frames)
        table.add_row(row.name, _both(row.all), counts[0], _both(row.moving), counts[1])
    return table


def _controllability_table(figures: Controllability, settings: Settings) -> RenderableType:
    table = _table(
        f"Controllability: rollouts of {plural(figures.t, 'frame')} against the real frames",
        ("", "PSNR", "frames"),
        f"Random actions are uniform over {settings.num_actions}, drawn with seed {settings.seed}. "
        f"Standard error of the mean {figures.delta_mean_standard_error_db:.2f} dB.",
    )
    for name, psnr in (("true actions", figures.true_actions), ("random actions", figures.random_actions)):
        table.add_row(name, _both(psnr), str(psnr.num_frames))
    table.add_section()
    delta = f"{figures.delta_pooled_db:+.2f} / {figures.delta_mean_db:+.2f}"
    table.add_row(f"Δ_{figures.t} PSNR", delta, str(figures.true_actions.num_frames))
    return table


def _rollout_table(evaluation: Evaluation) -> RenderableType:
    table = _table(
        "Rollouts with the true actions against what really happened",
        ("t", "model", "copy", "SSIM", "copy", "sharp", "motion", "frames"),
        "Copy: the last real frame of the prompt, for all t. Sharp(ness) and motion are generated / real: "
        "the mean gradient of frame t, and its mean change since frame t - 1; below 1 is blur and freezing.",
    )
    for step in evaluation.rollout:
        similarities = (f"{step.model_ssim:.3f}", f"{step.copy_ssim:.3f}")
        ratios = ("-" if value is None else f"{value:.2f}" for value in (step.sharpness, step.motion))
        frames = str(step.model.num_frames)
        table.add_row(str(step.t), _both(step.model), _both(step.copy), *similarities, *ratios, frames)
    return table


def record(
    evaluation: Evaluation,
    settings: Settings,
    world: World,
    backend: str,
    origin: dict[str, Any],
    command: str,
) -> dict[str, Any]:
    """Everything about a measurement as JSON values. `backend` is the name of the world's."""
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
        "figures": dataclasses.asdict(evaluation),
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

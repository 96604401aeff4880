"""A trained world's model card, filled in from its provenance and from what `genie-rt evaluate` measured."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from genie_rt.export.model_card import (
    COINRUN_ART_SOURCE,
    COINRUN_ATTRIBUTIONS,
    LIMITS,
    Metric,
    render_model_card,
)
from genie_rt.export.provenance import check_provenance, recordings_of
from genie_rt.runtime.action_health import health_of
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.untrusted_json import read_json

MAX_METRICS_BYTES = 16 << 20
_MAX_JSON_IN_CARD = 4000
_CONDITIONS = ("max_db", "moving_threshold", "moved_pixels")
"""Figures of a record that say how it was measured, beside counts, which begin with `num_`."""
_INTERVAL = "_interval"
"""Ending of the key that holds a figure's 95% interval, `[low, high]`."""


def card_of_run(
    *,
    name: str,
    config: ModelConfig,
    num_parameters: int,
    action_names: Sequence[str],
    provenance: Mapping[str, Any],
    record: Mapping[str, Any] | None = None,
    limits: Sequence[str] = (),
) -> str:
    """Render the model card of a bundle.

    Args:
        provenance: from `provenance_of`.
        record: from `read_record`, if the world was measured.
        limits: what this world in particular cannot do, one sentence each.

    Raises:
        ConfigError: a metric is NaN or Inf.
        BundleError: the provenance is not one of a trained world.
    """
    check_provenance(provenance)
    data = provenance["data"]
    is_coinrun = any(recording.get("env") == "coinrun" for recording in recordings_of(data).values())
    training_run = _training_rows(provenance)
    if record is not None:
        training_run["Measured"] = _conditions(record)
    return render_model_card(
        name=name,
        config=config,
        num_parameters=num_parameters,
        action_names=action_names,
        data=_data_text(data),
        recipe=_recipe_rows(provenance),
        metrics={} if record is None else card_metrics(record.get("figures", record)),
        training_run=training_run,
        attributions=COINRUN_ATTRIBUTIONS if is_coinrun else (),
        attribution_source=COINRUN_ART_SOURCE if is_coinrun else "",
        limits=(*LIMITS, *limits),
    )


def read_record(path: Path) -> dict[str, Any]:
    """Read a record of `genie-rt evaluate --json`, or any JSON object of numbers, however nested.

    Raises:
        InputError: the file is missing, too long, or holds no JSON object, or its figures are none.
    """
    record = read_json(
        path, max_bytes=MAX_METRICS_BYTES, expected="the file that `genie-rt evaluate --json` wrote"
    )
    if (figures := record.get("figures")) is not None:
        figures.object()
    return record.object()


def card_metrics(figures: Mapping[str, Any]) -> dict[str, dict[str, Metric]]:
    """Nested figures as rows of a table: metric, then case, then number. Texts and nulls are left out.

    {"rollout": [{"t": 4, "model": {"mean_db": 21.0}}]} gives {"rollout, t = 4, model": {"mean dB": 21.0}}.
    With "mean_db_interval": [20.5, 21.7] beside it the number is (21.0, 0.6).
    """
    rows: dict[str, dict[str, Metric]] = {}

    def visit(place: tuple[str, ...], value: object, interval: object = None) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                if not _is_condition(str(key)) and not str(key).endswith(_INTERVAL):
                    name = str(key).replace("_db", " dB").replace("_", " ")
                    visit((*place, name), item, value.get(f"{key}{_INTERVAL}"))
        elif isinstance(value, list):
            for index, item in enumerate(value):
                title, rest = _entry(index, item)
                visit((*place, title), rest)
        elif _is_number(value):
            metric = (value, (interval[1] - interval[0]) / 2) if _is_interval(interval) else value
            rows.setdefault(", ".join(place[:-1]) or "all", {})[place[-1]] = metric

    visit((), figures)
    return rows


def _is_condition(key: str) -> bool:
    return key in _CONDITIONS or key.startswith("num_")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_interval(value: object) -> TypeGuard[list[float]]:
    return isinstance(value, list) and len(value) == 2 and all(_is_number(end) for end in value)


def _entry(index: int, item: object) -> tuple[str, object]:
    """Split a list's entry into its name and the rest."""
    if isinstance(item, Mapping) and isinstance(item.get("name"), str):
        return item["name"], {key: value for key, value in item.items() if key not in ("name", "passes")}
    if isinstance(item, Mapping) and "t" in item:
        return f"t = {item['t']}", {key: value for key, value in item.items() if key != "t"}
    return str(index), item


def _conditions(record: Mapping[str, Any]) -> str:
    """Describe how the metrics were measured, without the command, which may hold local paths."""
    figures, settings = record.get("figures"), record.get("settings")
    figures = figures if isinstance(figures, dict) else {}
    plan = settings.get("plan") if isinstance(settings, dict) else None
    clips = record.get("clips")
    origin = clips if isinstance(clips, dict) else {}
    store = origin.get("provenance")
    unseen = (store if isinstance(store, dict) else origin).get("heldout_levels")
    parts = (
        figures.get("num_clips") and f"{figures['num_clips']} held-out clips",
        isinstance(unseen, dict) and "of levels that look like no training level",
        isinstance(plan, dict) and f"rollouts of {plan.get('passes')} passes a frame",
        record.get("dtype"),
        record.get("device"),
        record.get("date"),
    )
    return ", ".join(str(part) for part in parts if part) or "conditions not recorded"


def _data_text(data: Mapping[str, Any]) -> str:
    frames, source = data.get("frames"), data.get("source")
    count = f"{frames:,}" if isinstance(frames, int) else "An unknown number of"
    provenance = data.get("provenance")
    recordings = recordings_of(data)
    if not recordings:
        text = f"{count} frames from `{source}`."
        origin = json.dumps(provenance, indent=2, ensure_ascii=False) if provenance else ""
        return f"{text}\n\n```json\n{origin}\n```" if 0 < len(origin) <= _MAX_JSON_IN_CARD else text
    version = provenance.get("procgen") if isinstance(provenance, dict) else None
    lines = [
        f"{count} frames of Procgen's game `{source}` ({version}), recorded by `genie-rt data coinrun`. "
        f"The art in them: {COINRUN_ART_SOURCE}.",
        "",
    ]
    for split, recording in recordings.items():
        first, num = recording.get("start_level"), recording.get("num_levels")
        levels = (
            f"{num:,} levels from {first:,}" if isinstance(first, int) and isinstance(num, int) else "levels"
        )
        lines.append(f"- {split}: {levels}, {recording.get('visuals')} visuals, seed {recording.get('seed')}")
    lines += _unseen_text(provenance)
    return "\n".join(lines)


def _unseen_text(provenance: object) -> list[str]:
    """Describe how the recording told held-out levels from training levels."""
    unseen = provenance.get("heldout_levels") if isinstance(provenance, dict) else None
    if not isinstance(unseen, dict):
        return [
            "",
            "Levels were held out by their numbers alone, so held-out ones may look like training levels.",
        ]
    return [
        "",
        f"Of the held-out levels {unseen.get('levels')} are used: {unseen.get('left_out_by_picture')} were "
        "left out because a training level looks the same, "
        f"{unseen.get('left_out_by_layout_alone')} because one has the same ground.",
    ]


def _recipe_rows(provenance: Mapping[str, Any]) -> dict[str, object]:
    recipe = provenance["recipe"]
    rows: dict[str, object] = {
        name.capitalize() if name != "lam" else "Latent action model": _stage_text(stage)
        for name, stage in provenance["stages"].items()
    }
    rows["Actions"] = recipe["actions"]
    rows["Context"] = recipe["context"]
    if (health := health_of(provenance)) is not None:
        rows["Latent actions on held-out clips"] = str(health)
        if (problem := health.problem()) is not None:
            rows["Warning"] = problem
    if recipe["corruption"] is not None:
        rows["Corruption"] = f"up to {recipe['corruption']:.0%} of the history's tokens"
    rows["Weights"] = "averaged over steps" if recipe["averaged_weights"] else "of the last step"
    return rows


def _stage_text(stage: Mapping[str, Any]) -> str:
    loop = stage.get("loop") or {}
    done, planned = stage.get("steps"), loop.get("steps")
    steps = f"{done}" if done == planned else f"the first {done} of {planned}"
    rate, final_rate = loop.get("learning_rate"), loop.get("final_learning_rate")
    return (
        f"{steps} steps of {loop.get('batch')} clips of {stage.get('clip')} frames; "
        f"{loop.get('optimizer')}, learning rate {rate} to {final_rate} ({loop.get('schedule')})"
    )


def _training_rows(provenance: Mapping[str, Any]) -> dict[str, object]:
    export = provenance["export"]
    rows: dict[str, object] = {}
    for name, stage in provenance["stages"].items():
        device = stage.get("device") or "device not recorded"
        rows[f"Time of the {name}"] = f"{_duration(stage.get('seconds'))}, {device}"
    versions = {**(provenance.get("versions") or {}), **export["versions"]}
    rows["Versions"] = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    rows["Commit of the export"] = export["commit"] or "not recorded"
    rows["Exported"] = export["date"]
    return rows


def _duration(seconds: object) -> str:
    if not isinstance(seconds, int | float) or not math.isfinite(seconds):
        return "time not recorded"
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"

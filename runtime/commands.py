"""`genie-rt info`."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from genie_rt.errors import InputError
from genie_rt.parsing import shown

if TYPE_CHECKING:
    from rich.table import Table

    from genie_rt.runtime.backends.cuda.budget import MemoryBudget
    from genie_rt.runtime.bundle import Bundle
    from genie_rt.runtime.config import ModelConfig
    from genie_rt.runtime.cost import ModelCost, PartCost

PASSES = (1, 2, 4, 8, 25)
"""Passes per frame whose operations are listed, besides those of a bundle's default plan."""

GPU_PRECISIONS = ("fp32", "bf16", "fp8", "int8")
"""In which memory on a GPU is listed; fp16 takes what bf16 takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InfoCommand:
    """Print the size of a world: parameters, FLOPs and memory, part by part.

    Computed from the configuration alone: no weights are loaded and nothing is measured.

    Examples:
        genie-rt info
        genie-rt info genie-10b --json
    """

    source: tyro.conf.Positional[Annotated[str, shown(metavar="[SOURCE]")]] = "demo"
    """Name of a shipped bundle, name of a preset, or path of a bundle folder, tried in this order."""

    json: bool = False
    """Print JSON instead of tables."""

    def run(self) -> None:
        from genie_rt.runtime.cost import model_cost

        config, bundle = _find(self.source)
        cost = model_cost(config)
        if self.json:
            print(json.dumps(_as_json(self.source, config, cost, bundle), indent=2))
        else:
            _print(self.source, config, cost, bundle)


def _find(source: str) -> tuple[ModelConfig, Bundle | None]:
    from genie_rt.runtime.bundle import open_bundle, shipped_bundles
    from genie_rt.runtime.presets import PRESETS, preset

    shipped = shipped_bundles()
    if source not in shipped and source in PRESETS:
        return preset(source), None
    if source in shipped or Path(source).exists():
        bundle = open_bundle(source)
        return bundle.config, bundle
    near = difflib.get_close_matches(source, {*shipped, *PRESETS}, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise InputError(
        f"{source!r}: expected a preset ({', '.join(PRESETS)}), a shipped bundle "
        f"({', '.join(shipped) or 'this install has none'}) or a bundle's folder, "
        f"found nothing of that name{hint}"
    )


def _passes(bundle: Bundle | None) -> list[int]:
    return sorted({*PASSES, bundle.plans["default"].passes}) if bundle else list(PASSES)


def _budgets(config: ModelConfig) -> list[MemoryBudget]:
    """Memory of one session on one GPU, in each of `GPU_PRECISIONS`."""
    from genie_rt.runtime.backends.cuda.budget import MemoryBudget
    from genie_rt.runtime.backends.cuda.precision import Precision

    return [MemoryBudget.of(config, Precision.of(name)) for name in GPU_PRECISIONS]


# --- JSON ------------------------------------------------------------------------------------------------


def _as_json(source: str, config: ModelConfig, cost: ModelCost, bundle: Bundle | None) -> dict[str, Any]:
    from genie_rt.runtime.config import to_dict

    values: dict[str, Any] = {
        "source": source,
        "kind": "bundle" if bundle else "preset",
        "parts": [_part_json(part, at_play=True) for part in cost.parts],
        "num_parameters": cost.num_parameters,
        "weight_bytes": {dtype: cost.weight_bytes(dtype) for dtype in ("fp32", "bf16")},
        "cache_bytes": {dtype: cost.cache_bytes(dtype) for dtype in ("fp32", "bf16")},
        "commit_flops": cost.commit_flops,
        "frame_flops": {str(k): cost.frame_flops(k) for k in _passes(bundle)},
        "recomputed_frame_flops": {str(k): cost.recomputed_frame_flops(k) for k in _passes(bundle)},
        "on_one_gpu": {budget.precision.name: _budget_json(budget) for budget in _budgets(config)},
        "config": to_dict(config),
    }
    if cost.lam is not None:
        values["parts"].append(_part_json(cost.lam, at_play=False))
    if bundle is not None:
        values["bundle"] = {
            "name": bundle.name,
            "digest": bundle.digest,
            "preset": bundle.preset,
            "action_names": list(bundle.action_names),
            "action_codes": list(bundle.action_codes),
            "default_action": bundle.default_action,
            "plans": {name: to_dict(plan) for name, plan in bundle.plans.items()},
            "prompts": [path.relative_to(bundle.path).as_posix() for path in bundle.prompts],
            "graphs": [] if bundle.graphs is None else list(bundle.graphs.precisions),
            "int8_limits": {} if bundle.int8 is None else dict(bundle.int8.limits),
            "file_bytes": {name: record.size for name, record in bundle.files.items()},
            "provenance": dict(bundle.provenance),
        }
    return values


def _part_json(part: PartCost, *, at_play: bool) -> dict[str, Any]:
    return {
        "name": part.name,
        "at_play": at_play,
        "num_parameters": part.num_parameters,
        "pass_flops": part.pass_flops,
        "weight_bytes": {dtype: part.weight_bytes(dtype) for dtype in ("fp32", "bf16")},
        "page_bytes": {dtype: part.page_bytes(dtype) for dtype in ("fp32", "bf16")},
        "num_pages": part.num_pages,
        "cache_bytes": {dtype: part.cache_bytes(dtype) for dtype in ("fp32", "bf16")},
    }


def _budget_json(budget: MemoryBudget) -> dict[str, int]:
    return {
        "weight_bytes": budget.weight_bytes,
        "page_bytes": budget.page_bytes,
        "work_bytes": budget.work_bytes,
        "total_bytes": budget.total_bytes,
    }


# --- tables ----------------------------------------------------------------------------------------------


def _print(source: str, config: ModelConfig, cost: ModelCost, bundle: Bundle | None) -> None:
    from rich.console import Console

    from genie_rt.runtime.action_health import health_text

    console = Console(highlight=False, markup=False)
    console.print(bundle.name if bundle else source, style="bold cyan", end="")
    console.print(" (bundle)" if bundle else " (preset)")
    console.print(_outline(config))
    if bundle is not None:
        console.print(_bundle_table(bundle))
        if bundle.config.lam is not None:
            console.print(health_text(bundle.provenance))
    console.print()
    console.print(_parts_table(cost))
    console.print()
    console.print(_cache_table(cost))
    console.print()
    console.print(_gpu_table(_budgets(config)))
    console.print()
    console.print(_frame_table(config, cost, _passes(bundle)))


def _outline(config: ModelConfig) -> str:
    from genie_rt.runtime.units import plural

    tokenizer, dynamics = config.tokenizer, config.dynamics
    height, width = tokenizer.output_size
    rows, columns = tokenizer.grid
    shown = "" if (height, width) == (tokenizer.height, tokenizer.width) else f" in, {width} x {height} out"
    window = plural(dynamics.transformer.window, "frame")
    merged = f" in {plural(config.num_positions, 'position')}" if dynamics.merge > 1 else ""
    return (
        f"{tokenizer.width} x {tokenizer.height} pixels{shown}; "
        f"{columns} x {rows} = {tokenizer.num_tokens} tokens{merged} of {tokenizer.codebook_size} codes;\n"
        f"{plural(dynamics.num_actions, 'action')}; a window of {window}"
    )


def _parts_table(cost: ModelCost) -> Table:
    from genie_rt.runtime.tables import figure_table
    from genie_rt.runtime.units import counted, scaled

    table = figure_table("part", "parameters", "FLOPs per pass", "weights fp32", "weights bf16")

    def row(name: str, part: PartCost | ModelCost, flops: int, style: str = "") -> None:
        table.add_row(
            name,
            counted(part.num_parameters),
            scaled(flops, "FLOP") if flops else "",
            scaled(part.weight_bytes("fp32"), "B"),
            scaled(part.weight_bytes("bf16"), "B"),
            style=style,
        )

    for part in cost.parts:
        row(part.name, part, part.pass_flops)
    table.add_section()
    row("whole bundle", cost, 0, style="bold")
    if cost.lam is not None:
        row(f"{cost.lam.name}\n  (training only)", cost.lam, cost.lam.pass_flops, style="dim")
    return table


def _cache_table(cost: ModelCost) -> Table:
    from genie_rt.runtime.tables import figure_table
    from genie_rt.runtime.units import scaled

    table = figure_table("cache", "page fp32", "page bf16", "pages", "session fp32", "session bf16")
    for part in cost.parts:
        if part.page_values:
            page = [scaled(part.page_bytes(dtype), "B") for dtype in ("fp32", "bf16")]
            session = [scaled(part.cache_bytes(dtype), "B") for dtype in ("fp32", "bf16")]
            pages = str(part.num_pages) if part.num_pages else "prompt only"
            table.add_row(part.name, *page, pages, *(session if part.num_pages else ("", "")))
    table.add_section()
    total = [scaled(cost.cache_bytes(dtype), "B") for dtype in ("fp32", "bf16")]
    table.add_row("one session", "", "", "", *total, style="bold")
    return table


def _gpu_table(budgets: list[MemoryBudget]) -> Table:
    """Tabulate what the back end "cuda" allocates for one session."""
    from genie_rt.runtime.tables import figure_table
    from genie_rt.runtime.units import scaled

    table = figure_table("on one GPU", "weights", "KV cache", "workspace", "total")
    for budget in budgets:
        sizes = (budget.weight_bytes, budget.page_bytes, budget.work_bytes, budget.total_bytes)
        table.add_row(budget.precision.name, *(scaled(size, "B") for size in sizes))
    return table


def _frame_table(config: ModelConfig, cost: ModelCost, passes: list[int]) -> Table:
    from genie_rt.runtime.tables import figure_table
    from genie_rt.runtime.units import scaled

    table = figure_table("FLOPs per frame", *(f"K={k}" for k in passes))
    cached = (scaled(cost.frame_flops(k), "") for k in passes)
    recomputed = (scaled(cost.recomputed_frame_flops(k), "") for k in passes)
    table.add_row("passes, commit and decoder", *(text.strip() for text in cached))
    window = config.dynamics.transformer.window
    table.add_row(
        f"paper's recipe ({window} frames per pass)", *(text.strip() for text in recomputed), style="dim"
    )
    return table


def _bundle_table(bundle: Bundle) -> Table:
    from rich.table import Table
    from rich.text import Text

    from genie_rt.runtime.units import plural, scaled

    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    actions = ", ".join(bundle.action_names)
    if bundle.named_codes:
        pairs = zip(bundle.action_names, bundle.named_codes, strict=True)
        actions = ", ".join(f"{name} = latent {code}" for name, code in pairs)
    rows = {
        "digest": bundle.digest,
        "preset": bundle.preset,
        "files": f"{len(bundle.files)}, {scaled(sum(file.size for file in bundle.files.values()), 'B')}",
        "actions": f"{actions} (no key pressed: {bundle.default_action})",
        "prompts": ", ".join(path.name for path in bundle.prompts) or "none",
        "graphs": "none" if bundle.graphs is None else ", ".join(bundle.graphs.precisions),
        "int8": "no limits"
        if bundle.int8 is None
        else f"limits of {plural(len(bundle.int8.limits), 'linear layer')}",
    }
    for name, plan in bundle.plans.items():
        rows[f"plan {name}"] = (
            f"{plan.order}, {plural(plan.passes, 'pass', 'passes')}, "
            f"temperature {plan.temperature:g}, noise {plan.noise:g}"
        )
    for key, value in list(bundle.provenance.items())[:16]:
        rows[key] = _brief(value)
    for key, value in rows.items():
        table.add_row(Text(_printable(key)), Text(_printable(value)))
    return table


def _brief(value: Any) -> str:
    """Format one value of the provenance, which may be any JSON value, in a line or two."""
    if isinstance(value, dict):
        value = ", ".join(f"{key} {_brief(item)}" for key, item in value.items())
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 160 else f"{text[:157]}..."


def _printable(text: str) -> str:
    """Replace control characters, which a terminal would obey, by "?"."""
    return "".join(c if c.isprintable() else "?" for c in text)

"""The README.md of a bundle: what the model is, where it came from, what it can do, who drew its pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from genie_rt.errors import ConfigError
from genie_rt.runtime.config import ModelConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Somebody's work that the model was trained on, and so shows."""

    work: str
    author: str
    licence: str
    source: str


COINRUN_ART_SOURCE = "https://github.com/openai/procgen/blob/master/ASSET_LICENSES.md"
"""Source of `COINRUN_ATTRIBUTIONS`. The wheels of Procgen ship the pictures without this file."""


def _art(work: str, author: str, licence: str, source: str) -> Attribution:
    return Attribution(work=work, author=author, licence=licence, source=source)


# CoinRun draws Kenney's sprites before Procgen's platform and space backgrounds (coinrun.cpp, resources.cpp).
# Procgen's list names works, not files, so everything stays in that is not plainly for another game (the
# frog, the food, water and top-down backgrounds).
COINRUN_ATTRIBUTIONS = (
    _art("Many Game Asset Packs", "kenney", "CC0", "https://www.kenney.nl/assets"),
    _art(
        "Mountain Background",
        "ansimuz",
        "CC-BY 4.0",
        "https://ansimuz.itch.io/mountain-dusk-parallax-background",
    ),
    _art("Forest Background", "ansimuz", "CC-BY 4.0", "https://ansimuz.itch.io/parallax-forest"),
    _art("2D Background Set", "Alucard", "CC-BY 3.0", "https://opengameart.org/content/2d-backgrounds-set"),
    _art(
        "Parallax 2D Backgrounds",
        "CraftPix.net 2D Game Assets",
        "OGA-BY 3.0",
        "https://opengameart.org/content/parallax-2d-backgrounds",
    ),
    _art(
        "Fantasy Cartoon Game Backgrounds",
        "CraftPix.net 2D Game Assets",
        "OGA-BY 3.0",
        "https://opengameart.org/content/fantasy-cartoon-game-backgrounds",
    ),
    _art(
        "Beach Backgrounds",
        "CraftPix.net 2D Game Assets",
        "OGA-BY 3.0",
        "https://opengameart.org/content/beach-2d-backgrounds",
    ),
    _art("Space Background", "ansimuz", "CC0", "https://opengameart.org/content/space-background-3"),
    _art("Sci-Fi Background", "ansimuz", "CC0", "https://ansimuz.itch.io/sideview-sci-fi"),
    _art("Background", "rubberduck", "CC0", "https://opengameart.org/content/background-from-glitch-assets"),
    _art("Space Backgrounds", "Rawdanitsu", "CC0", "https://opengameart.org/content/space-backgrounds-3"),
    _art("Snow Background", "ramses2099", "CC0", "https://opengameart.org/content/background-2"),
    _art("Battle Backgrounds", "Nidhoggn", "CC0", "https://opengameart.org/content/backgrounds-3"),
    _art(
        "Sunrise Background", "tgfcoder", "CC0", "https://opengameart.org/content/morning-sunrise-background"
    ),
)

Metric = float | tuple[float, float]
"""A number, or a number and half its 95% interval."""

LIMITS = (
    "It knows only what its data shows: pictures of another kind become pictures of this kind, or noise.",
    "It remembers only its window of frames: what has left the picture may come back different.",
    "Its own mistakes become its history, so long rollouts drift.",
    "It predicts pictures and is no simulator: what it shows is no evidence of what a real system would do.",
)


def renamed_card(card: str, old: str, new: str) -> str:
    """Return a card as `render_model_card` writes it with another bundle's name; what others wrote stays."""
    card = card.replace(f"\n# {old}\n", f"\n# {new}\n", 1)
    return card.replace(_load_line(old), _load_line(new), 1)


def _load_line(name: str) -> str:
    return f'world = genie_rt.World.load("{name}")  # or the path of this folder'


def render_model_card(
    *,
    name: str,
    config: ModelConfig,
    num_parameters: int,
    action_names: Sequence[str],
    data: str,
    recipe: Mapping[str, object],
    metrics: Mapping[str, Metric | Mapping[str, Metric]],
    training_run: Mapping[str, object],
    attributions: Sequence[Attribution] = (),
    attribution_source: str = "",
    limits: Sequence[str] = LIMITS,
) -> str:
    """Render the model card. Every number in it is an argument or follows from `config`.

    Args:
        name: of the bundle.
        config: sizes of the model.
        num_parameters: of everything that the bundle's weights hold.
        action_names: by action index.
        data: Markdown: which data, how made, how split.
        recipe: setting to value, such as {"context": "clean", "dynamics steps": 100_000}.
        metrics: what was measured, name to number; or name to {case: number}, such as
            {"PSNR (dB)": {"t = 8": ..., "t = 16": ...}}. A number may be a pair, with half its 95% interval.
            May be empty: then the card says so.
        training_run: device, wall time, versions, commit: what it took.
        attributions: works that the data shows.
        attribution_source: where that list was copied from.
        limits: one sentence each.

    Returns:
        Markdown that ends with a newline, with the front matter that model hubs read.

    Raises:
        ConfigError: a metric is NaN or Inf, which nobody can have measured.
    """
    height, width = config.tokenizer.height, config.tokenizer.width
    rows, columns = config.tokenizer.grid
    sections = (
        "---\nlicense: apache-2.0\nlibrary_name: genie-rt\ntags: [world-model, video-generation]\n---",
        f"# {name}",
        "An interactive world model of the Genie kind ([paper](https://arxiv.org/abs/2402.15391)): a picture "
        f"and an action in, the next picture out. Frames are {height} high and {width} wide, "
        f"{rows} x {columns} tokens of {config.tokenizer.codebook_size} codes; the dynamics attends over "
        f"{config.dynamics.transformer.window} frames. {num_parameters:,} parameters.",
        f"Actions: {', '.join(f'`{action}`' for action in action_names)}.",
        f"```python\nimport genie_rt\n\n{_load_line(name)}\n```",
        "## Data",
        data.strip(),
        "## Recipe",
        _table(("Setting", "Value"), recipe.items()),
        "## Metrics",
        _table(("Metric", "Case", "Value"), _metric_rows(metrics)) if metrics else "None were recorded.",
        "## Training run",
        _table(("", ""), training_run.items()),
        "## Intended use",
        "Research, teaching and demonstration of interactive world models and of the genie-rt runtime.",
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits),
        "## Licence",
        "The weights are licensed under the Apache License, Version 2.0.",
        *_attributions(attributions, attribution_source),
    )
    return "\n\n".join(sections) + "\n"


def _attributions(attributions: Sequence[Attribution], source: str) -> list[str]:
    if not attributions:
        return []
    rows = [(item.work, item.author, item.licence, item.source) for item in attributions]
    origin = f" The list is from {source}." if source else ""
    return [
        "## Attributions",
        "The prompts and whatever the model draws show the art of the people below, under their licences. "
        f"Who publishes such frames names them too.{origin}",
        _table(("Work", "Author", "Licence", "Source"), rows),
    ]


def _metric_rows(metrics: Mapping[str, Metric | Mapping[str, Metric]]) -> list[tuple[str, str, str]]:
    rows = []
    for name, value in metrics.items():
        cases = value if isinstance(value, Mapping) else {"": value}
        for case, metric in cases.items():
            numbers = metric if isinstance(metric, tuple) else (metric,)
            for number in numbers:
                if not math.isfinite(number):
                    raise ConfigError(f"metrics: {name} {case}: expected a measured number, found {number}")
            rows.append((name, case, " ± ".join((f"{numbers[0]:.4g}", *(f"{n:.2g}" for n in numbers[1:])))))
    return rows


def _table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    lines = [_row(header), _row(["---"] * len(header))]
    lines += [_row(row) for row in rows]
    return "\n".join(lines)


def _row(cells: Sequence[object]) -> str:
    """Format one row of a table. A bar or a line break within a cell would end it."""
    texts = (" ".join(str(cell).replace("|", "\\|").split()) for cell in cells)
    return f"| {' | '.join(texts)} |"

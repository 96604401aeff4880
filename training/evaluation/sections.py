"""Sections of an evaluation beyond its first tables: what each needs, its figures, its table."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType
from rich.text import Text

from genie_rt.runtime.world import World
from genie_rt.training.data.game import Visuals
from genie_rt.training.data.progress import progress_bar
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.codes import code_use_table, measure_code_use
from genie_rt.training.evaluation.drift import DriftSettings, drift_table, measure_drift
from genie_rt.training.evaluation.effects import MAX_STARTS, effects_table, measure_effects
from genie_rt.training.evaluation.fvd import I3d
from genie_rt.training.evaluation.measure import Generated, Settings
from genie_rt.training.evaluation.plays import measure_plays, plays_table
from genie_rt.training.evaluation.realism import measure_realism, realism_table
from genie_rt.training.evaluation.rollout import ModelRollouts
from genie_rt.training.evaluation.starts import GameStarts
from genie_rt.training.evaluation.strip import draw_row, write_png
from genie_rt.training.evaluation.true_branches import measure_true_branches, true_branches_table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Section:
    """One part of the report.

    Attributes:
        key: of its figures in the record.
        figures: a dataclass, or None where there was nothing to measure.
        table: for the terminal; where there was nothing to measure, a line that says why.
    """

    key: str
    figures: Any
    table: RenderableType

    def as_values(self) -> dict[str, Any]:
        """The figures as JSON values by the section's key."""
        return {} if self.figures is None else {self.key: dataclasses.asdict(self.figures)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """What is evaluated, and on what.

    Attributes:
        world: the world.
        rollouts: the same, run on many clips at once.
        clips: real ones, with the world's actions.
        settings: of the evaluation.
    """

    world: World
    rollouts: ModelRollouts
    clips: TrueClips
    settings: Settings


def realism_section(subject: Subject, made: Generated, i3d: I3d | None) -> Section:
    """Clip distance of the rollouts, and FVD where an I3D is given."""
    settings, frames = subject.settings, subject.clips.frames
    start = settings.prompt_frames
    figures = measure_realism(
        made.rollout,
        frames[:, start : start + settings.num_steps],
        frames[:, start - 1],
        window=settings.window,
        i3d=i3d,
    )
    if figures.clip_distance is None and figures.fvd is None:
        why = "Skipped: too few clips that differ for a clip distance; raise --clips."
        return Section(key="realism", figures=None, table=_nothing("Rollouts as a set", why))
    return Section(key="realism", figures=figures, table=realism_table(figures))


def effects_section(subject: Subject) -> Section:
    """Whether each action does the same from different clips."""
    settings, clips = subject.settings, subject.clips
    with _bar("holding each action", min(len(clips.frames), MAX_STARTS)) as advance:
        figures = measure_effects(
            subject.rollouts,
            clips,
            subject.world.codes,
            settings.plan,
            prompt_frames=settings.prompt_frames,
            seed=settings.seed,
            batch=settings.batch,
            advance=advance,
        )
    return Section(key="action_effects", figures=figures, table=effects_table(figures))


def code_use_section(subject: Subject) -> Section:
    """Use of each latent action."""
    figures = measure_code_use(subject.clips.actions, subject.world.bundle.code_names)
    return Section(key="code_use", figures=figures, table=code_use_table(figures))


def true_branches_section(
    subject: Subject, num_starts: int, visuals: Visuals, in_world: Callable[[TrueClips], TrueClips]
) -> Section:
    """The world beside the real game, from the same moments with the same actions.

    Args:
        num_starts: moments.
        visuals: the game's look.
        in_world: gives the game's prompts the world's actions.

    Raises:
        UnsupportedError: procgen is not installed.
    """
    settings, actions = subject.settings, subject.world.codes
    with (
        _starts(subject, num_starts, visuals) as starts,
        _bar("branching from the real game", num_starts) as advance,
    ):
        figures = measure_true_branches(
            subject.rollouts,
            starts,
            in_world(starts.prompts),
            actions,
            settings.plan,
            window=settings.window,
            seed=settings.seed,
            batch=settings.batch,
            advance=advance,
        )
    table = _unnamed("True branches") if figures is None else true_branches_table(figures)
    return Section(key="true_branches", figures=figures, table=table)


def plays_section(
    subject: Subject, num_starts: int, visuals: Visuals, in_world: Callable[[TrueClips], TrueClips]
) -> Section:
    """Whether keys do in the world what they do in the real game. Args, Raises: as of the other branches."""
    settings, actions = subject.settings, subject.world.codes
    with _starts(subject, num_starts, visuals) as starts, _bar("holding keys", num_starts) as advance:
        figures = measure_plays(
            subject.rollouts,
            starts,
            in_world(starts.prompts),
            actions,
            settings.plan,
            seed=settings.seed,
            batch=settings.batch,
            advance=advance,
        )
    table = _unnamed("Plays as the game does") if figures is None else plays_table(figures)
    return Section(key="plays_as_the_game", figures=figures, table=table)


def drift_section(subject: Subject, drift: DriftSettings, picture: Path | None) -> Section:
    """Long rollouts of random actions; draws the first session where a PNG file is named."""
    with _bar("drifting", drift.steps) as advance:
        figures, shown = measure_drift(subject.rollouts, subject.clips, subject.settings.plan, drift, advance)
    if picture is not None:
        labels = ["start", *(f"step {step.t:,}" for step in figures.steps)]
        write_png(picture, draw_row(shown, labels))
    return Section(key="drift", figures=figures, table=drift_table(figures))


def _starts(subject: Subject, num: int, visuals: Visuals) -> GameStarts:
    settings = subject.settings
    return GameStarts(num, prompt_frames=settings.prompt_frames, visuals=visuals, seed=settings.seed)


def _unnamed(title: str) -> Text:
    return _nothing(title, "Skipped: no action of this world has the name of one of the game's.")


def _nothing(title: str, why: str) -> Text:
    return Text.assemble((title, "bold"), "\n", why)


@contextmanager
def _bar(description: str, total: int) -> Iterator[Callable[[int], None]]:
    with progress_bar() as progress:
        task = progress.add_task(description, total=total)
        yield lambda count: progress.advance(task, count)

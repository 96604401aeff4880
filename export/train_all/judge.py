"""Is a trained world good, and what helps where it is not: figures on held-out clips against plain marks."""

from __future__ import annotations

from dataclasses import dataclass

from genie_rt.runtime.action_health import LEAST_DELTA_DB, ActionHealth
from genie_rt.training.evaluation.measure import Evaluation

GOOD, FAIR, BAD = "good", "fair", "poor"

GOOD_DELTA_DB = 3.0
"""Cost of shuffled codes from which on latent actions are good."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One line of the table.

    Attributes:
        what: was measured.
        figure: with its unit.
        mark: `GOOD`, `FAIR` or `BAD`.
        advice: what would help; empty where it is good.
    """

    what: str
    figure: str
    mark: str
    advice: str


def judge(evaluation: Evaluation, health: ActionHealth | None) -> list[Verdict]:
    """Judge a world.

    Args:
        evaluation: on held-out clips.
        health: of its latent action model; None where actions were logged, or nothing was measured.
    """
    verdicts = [_tokenizer(evaluation)]
    if health is not None:
        verdicts.append(_latent_actions(health))
    return [*verdicts, _next_frame(evaluation), _control(evaluation), _rollout(evaluation)]


def _verdict(what: str, figure: str, value: float, good: float, fair: float, advice: str) -> Verdict:
    mark = GOOD if value >= good else FAIR if value >= fair else BAD
    return Verdict(what=what, figure=figure, mark=mark, advice="" if mark == GOOD else advice)


def _db(value: float | None) -> float:
    return 0.0 if value is None else value


def _tokenizer(evaluation: Evaluation) -> Verdict:
    value = _db(evaluation.tokenizer.whole.pooled_db)
    return _verdict(
        "pictures through the tokenizer",
        f"{value:.1f} dB",
        value,
        30.0,
        26.0,
        "small things are lost: more --minutes, or fewer pixels (genie-rt data video --height --width)",
    )


def _latent_actions(health: ActionHealth) -> Verdict:
    figure = f"Δ {health.delta_db:.1f} dB, {health.num_used} of {len(health.shares)} codes used"
    advice = (
        "codes tell little: check that the clips move, raise --minutes, or change --fps of the data so "
        "that a step shows a move"
    )
    if health.has_twins and health.delta_db >= GOOD_DELTA_DB:
        fewer = "two codes do the same: play as it is, or train with a smaller --num-actions"
        return Verdict(what="latent actions", figure=figure, mark=FAIR, advice=fewer)
    if health.problem() is not None:
        return Verdict(what="latent actions", figure=figure, mark=BAD, advice=advice)
    return _verdict("latent actions", figure, health.delta_db, GOOD_DELTA_DB, LEAST_DELTA_DB, advice)


def _next_frame(evaluation: Evaluation) -> Verdict:
    rows = {row.name: row.all for row in evaluation.next_frame}
    best = max(_db(row.all.pooled_db) for row in evaluation.next_frame if row.passes is not None)
    copied = _db(rows["copy of last frame"].pooled_db)
    return _verdict(
        "next frame",
        f"{best:.1f} dB, copying gives {copied:.1f}",
        best - copied,
        1.0,
        0.0,
        "the dynamics needs more steps: raise --minutes",
    )


def _control(evaluation: Evaluation) -> Verdict:
    figures = evaluation.controllability
    return _verdict(
        f"actions count (Δ_{figures.t} PSNR)",
        f"{figures.delta_pooled_db:+.1f} dB",
        figures.delta_pooled_db,
        1.0,
        0.3,
        "actions change little: see latent actions above, then raise --minutes",
    )


def _rollout(evaluation: Evaluation) -> Verdict:
    ahead = [step for step in evaluation.rollout if _db(step.model.pooled_db) > _db(step.copy.pooled_db)]
    last = max((step.t for step in ahead), default=0)
    steps = [step.t for step in evaluation.rollout]
    return _verdict(
        "rollouts beat copying",
        f"up to step {last} of {steps[-1]}" if last else "at no step",
        last,
        steps[-2],
        steps[0],
        "the world falls apart after some steps: raise --minutes",
    )

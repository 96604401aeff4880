"""How good learned actions are, in figures that a collapsed action model cannot have.

A latent action model can look healthy and be dead: its loss falls, its codes are used evenly, and its decoder
draws the same picture for all of them. What tells is how much worse its prediction gets with another code.
The figures are measured on held-out clips while the model trains, stand in its checkpoints and in bundles,
and are shown wherever a world is built on it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEAST_DELTA_DB = 1.0
"""Decibels that shuffled codes have to cost."""

LEAST_SHARE = 0.01
"""A code counts as used from this share of the steps on."""

MOST_ALIKE = 0.95
"""Two codes are one from this cosine or likeness on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionHealth:
    """Figures of a latent action model on held-out steps; PSNR is pooled over all pixels.

    Attributes:
        true_db: PSNR of the next frame predicted with the code that the encoder gives.
        shuffled_db: with the code of another step.
        none_db: with no code: the vector of zeros.
        copy_db: of the last frame in place of a prediction.
        shares: how often each code is used.
        code_cosine: largest cosine between two codes.
        effect_likeness: how alike the changes of two codes are at most, `2 <a, b> / (<a, a> + <b, b>)`, each
            measured from the mean over all codes: 1 where two codes draw the same picture.
    """

    true_db: float
    shuffled_db: float
    none_db: float
    copy_db: float
    shares: tuple[float, ...]
    code_cosine: float
    effect_likeness: float

    @property
    def delta_db(self) -> float:
        """What shuffled codes cost, in dB."""
        return self.true_db - self.shuffled_db

    @property
    def perplexity(self) -> float:
        """Number of codes that would be as varied if all were used alike."""
        return math.exp(-sum(share * math.log(share) for share in self.shares if share > 0))

    @property
    def num_used(self) -> int:
        """Number of codes with at least `LEAST_SHARE` of the steps."""
        return sum(share >= LEAST_SHARE for share in self.shares)

    @property
    def has_twins(self) -> bool:
        """Whether two codes are one in all but name: alike as vectors, or in what they change."""
        return max(self.code_cosine, self.effect_likeness) > MOST_ALIKE

    def problem(self) -> str | None:
        """What is wrong with the codes, in a sentence; None where nothing is."""
        if not all(map(math.isfinite, self.as_figures().values())):
            return "a figure of the action model is not finite"
        if self.delta_db < LEAST_DELTA_DB:
            return (
                f"the decoder ignores the codes: with the code of another step the next frame is only "
                f"{self.delta_db:.2f} dB worse, expected {LEAST_DELTA_DB:g} dB or more"
            )
        if self.num_used < min(2, len(self.shares)):
            return f"one code stands for {max(self.shares):.0%} of all steps"
        if self.has_twins:
            return (
                f"two codes mean the same, which fewer codes would mend: the largest cosine of two codes is "
                f"{self.code_cosine:.3f}, the largest likeness of what two change is "
                f"{self.effect_likeness:.3f}, expected {MOST_ALIKE} or less"
            )
        return None

    def __str__(self) -> str:
        shares = " ".join(f"{share:.0%}" for share in self.shares)
        return (
            f"next frame {self.true_db:.2f} dB, shuffled codes {self.shuffled_db:.2f} "
            f"(Δ {self.delta_db:.2f}), none {self.none_db:.2f}, copy {self.copy_db:.2f}; "
            f"codes used {shares}; cosine of codes {self.code_cosine:.2f}, "
            f"likeness of effects {self.effect_likeness:.2f}"
        )

    def as_figures(self) -> dict[str, float]:
        """Flat numbers by name, as checkpoints and TensorBoard hold them."""
        return {
            "true_db": self.true_db,
            "shuffled_db": self.shuffled_db,
            "delta_db": self.delta_db,
            "none_db": self.none_db,
            "copy_db": self.copy_db,
            "code_cosine": self.code_cosine,
            "effect_likeness": self.effect_likeness,
            "perplexity": self.perplexity,
            **{f"share_{index}": share for index, share in enumerate(self.shares)},
        }

    @classmethod
    def from_figures(cls, figures: object) -> ActionHealth | None:
        """The inverse of `as_figures`; None where the figures are not there or no numbers."""
        if not isinstance(figures, Mapping):
            return None
        names = ("true_db", "shuffled_db", "none_db", "copy_db", "code_cosine", "effect_likeness")
        values = [_number(figures.get(name)) for name in names]
        count = sum(str(name).startswith("share_") for name in figures)
        shares = [_number(figures.get(f"share_{index}")) for index in range(count)]
        if not shares or None in values or None in shares:
            return None
        numbers = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        return cls(**numbers, shares=tuple(share for share in shares if share is not None))


def health_of(provenance: Mapping[str, Any]) -> ActionHealth | None:
    """The figures of a world's latent action model, as a bundle's provenance records them."""
    stages = provenance.get("stages")
    stage = stages.get("lam") if isinstance(stages, Mapping) else None
    return ActionHealth.from_figures(stage.get("figures")) if isinstance(stage, Mapping) else None


def health_text(provenance: Mapping[str, Any]) -> str:
    """What is known about a world's latent actions, in a line; in two where something is wrong with them."""
    health = health_of(provenance)
    if health is None:
        return "latent actions: nothing was measured, so it is not known whether they mean anything"
    problem = health.problem()
    return f"latent actions: {health}" + ("" if problem is None else f"\nwarning: {problem}")


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

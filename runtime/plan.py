"""How one frame is decoded: how many passes, how many tokens each decides, and how they are sampled."""

import dataclasses
import math
from dataclasses import dataclass

from genie_rt.errors import ConfigError
from genie_rt.runtime.config import from_dict

MAX_PASSES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A decoding plan is data: immutable, printable, stored in the bundle.

    Attributes:
        order: which tokens are decided first. "maskgit": the most confident (Bruce et al. 2024, section 2.2).
        passes: `K`, evaluations of the dynamics per frame.
        temperature: of the softmax that tokens are sampled from, > 0.
        noise: of the Gumbel noise on the confidence: its scale in pass `k` is `noise * (1 - (k + 1) / K)`,
            which falls to 0 in the last (Chang et al. 2022, arXiv 2202.04200).
    """

    order: str = "maskgit"
    passes: int = 25
    temperature: float = 1.0
    noise: float = 1.0

    def __post_init__(self) -> None:
        if self.order != "maskgit":
            raise ConfigError(f'Plan.order: expected "maskgit", found {self.order!r}')
        if (
            isinstance(self.passes, bool)
            or not isinstance(self.passes, int)
            or not 1 <= self.passes <= MAX_PASSES
        ):
            raise ConfigError(
                f"Plan.passes: expected a whole number from 1 to {MAX_PASSES}, found {self.passes!r}"
            )
        for name, lowest in (("temperature", 1e-6), ("noise", 0.0)):
            value = getattr(self, name)
            is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not is_number or not lowest <= value <= 1e6:
                raise ConfigError(f"Plan.{name}: expected a number from {lowest} to 1e6, found {value!r}")

    def replace(self, **changes: object) -> "Plan":
        """This plan with some fields changed, checked again.

        Raises:
            ConfigError: a plan has no such field, or the field no such value.
        """
        return from_dict(Plan, dataclasses.asdict(self) | changes)

    def decided_after(self, pass_index: int, num_tokens: int) -> int:
        """Tokens decided once pass `pass_index` (from 0) is done: the cosine schedule.

        After the last pass it is `num_tokens`; every pass that can decide at least one token.
        """
        if pass_index + 1 >= self.passes:
            return num_tokens
        masked = math.floor(num_tokens * math.cos(math.pi / 2 * (pass_index + 1) / self.passes))
        return min(num_tokens, max(num_tokens - masked, pass_index + 1))

    def noise_in(self, pass_index: int) -> float:
        """Scale of the confidence noise in pass `pass_index` (from 0)."""
        return self.noise * (1 - (pass_index + 1) / self.passes)

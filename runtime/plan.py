"""How one frame is decoded: how many passes, which tokens each decides, how, and what is reused."""

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from genie_rt.errors import ConfigError
from genie_rt.runtime.arguments import found, one_of, real_number, whole_number
from genie_rt.runtime.config import ModelConfig, check_keys
from genie_rt.runtime.orders import ORDERS, RankedOrder, StaticOrder

MAX_PASSES = 4096

REUSES: dict[str, tuple[str, ...]] = {
    reuse: tuple(name for name, order in ORDERS.items() if reuse in ("none", *order.reuses))
    for reuse in ("none", "passes", "frames")
}
"""What may be reused, and the orders that each goes with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A decoding plan is data: immutable, printable, stored in the bundle.

    Attributes:
        order: which tokens are decided first.
            "maskgit": the most confident (Bruce et al. 2024, section 2.2).
            "adaptive": as maskgit, with as many passes as the frame needs: of `passes` the share of its
            tokens that the first pass is not sure of. Where little moves these are few.
            "random": an order drawn anew for every frame.
            "halton": one order for all frames, spread evenly over the picture (Besnier et al. 2025,
            arXiv 2503.17076).
        passes: `K`, evaluations of the dynamics per frame; the most that "adaptive" takes, see `passes_for`.
        temperature: of the softmax that tokens are sampled from, > 0.
        noise: of the Gumbel noise on the confidence: its scale in pass `k` is `noise * (1 - (k + 1) / K)`,
            which falls to 0 in the last (Chang et al. 2022, arXiv 2202.04200). Read by "maskgit" and
            "adaptive".
        threshold: probability of the sampled token, in (0, 1], from which "adaptive" is sure of it.
        reuse: what spatial attention may keep. Anything but "none" is an approximation within the frame; its
            commit, and so all that later frames see of it, stays exact.
            "passes": from the second pass on only the positions that were just decided or are about to be are
            computed; needs an order that is known in advance, "random" or "halton".
            "frames": the first pass computes only the share `fresh` of the positions, those where most
            changed lately, and the others keep the keys and values of the first pass of the frame before;
            needs "maskgit" and two passes or more.
        fresh: share of the positions, in (0, 1], that the first pass computes under `reuse="frames"`.
    """

    order: str = "maskgit"
    passes: int = 25
    temperature: float = 1.0
    noise: float = 1.0
    threshold: float = 0.99
    reuse: str = "none"
    fresh: float = 0.75

    def __post_init__(self) -> None:
        for name, known in (("order", tuple(ORDERS)), ("reuse", tuple(REUSES))):
            value = getattr(self, name)
            text = one_of(value, known)
            if text is None:
                raise ConfigError(f"Plan.{name}: expected one of {', '.join(known)}, found {found(value)}")
            object.__setattr__(self, name, text)
        asked = f"Plan.passes: expected a whole number from 1 to {MAX_PASSES}"
        passes = whole_number(self.passes, 1, MAX_PASSES, asked, error=ConfigError)
        object.__setattr__(self, "passes", passes)
        for name, lowest, highest in (
            ("temperature", 1e-6, 1e6),
            ("noise", 0.0, 1e6),
            ("threshold", 1e-9, 1.0),
            ("fresh", 1e-9, 1.0),
        ):
            asked = f"Plan.{name}: expected a number from {lowest:g} to {highest:g}"
            object.__setattr__(self, name, real_number(getattr(self, name), lowest, highest, asked))
        self._check_reuse()

    def _check_reuse(self) -> None:
        if self.order not in REUSES[self.reuse]:
            needed = " or ".join(f'"{order}"' for order in REUSES[self.reuse])
            raise ConfigError(f'Plan.reuse: "{self.reuse}" needs the order {needed}, found {self.order!r}')
        if self.reuse == "frames" and self.passes < 2:
            raise ConfigError(f'Plan.reuse: "frames" needs 2 passes or more, found {self.passes}')

    @property
    def static_order(self) -> StaticOrder | None:
        """The order, where it is known before the frame is."""
        order = ORDERS[self.order]
        return order if isinstance(order, StaticOrder) else None

    @property
    def ranking(self) -> str:
        """What an order ranks by that is not known in advance; "likely" where nothing is ranked."""
        order = ORDERS[self.order]
        return order.ranking if isinstance(order, RankedOrder) else RankedOrder.ranking

    @property
    def adapts(self) -> bool:
        """Whether frames may take fewer passes than `passes`."""
        return ORDERS[self.order].adapts

    def replace(self, **changes: Any) -> "Plan":
        """This plan with some fields changed, checked again.

        Raises:
            ConfigError: a plan has no such field, or the field no such value.
        """
        check_keys(changes, tuple(field.name for field in dataclasses.fields(Plan)), "Plan")
        return dataclasses.replace(self, **changes)

    def check(self, config: ModelConfig) -> "Plan":
        """This plan, if frames of such a model can be decoded with it.

        Raises:
            ConfigError: there are more passes than tokens (or positions, where whole ones are decided).
        """
        most = self.most_passes(config)
        if self.passes > most:
            unit = "positions" if self.reuse == "passes" else "tokens"
            raise ConfigError(
                f"Plan.passes: expected at most {most}, the {unit} of a frame: every pass decides one or "
                f"more; found {self.passes}"
            )
        return self

    def most_passes(self, config: ModelConfig) -> int:
        """Passes that frames of such a model can be decoded in: each decides a token or a position."""
        num_units = config.num_positions if self.reuse == "passes" else config.tokenizer.num_tokens
        return min(MAX_PASSES, num_units)

    def passes_for(self, num_unsure: int, num_tokens: int) -> int:
        """Passes that an "adaptive" frame takes whose first pass left so many tokens below `threshold`.

        From then on, and in what the first pass decides, it is a "maskgit" frame of so many passes.
        """
        return max(1, -(-self.passes * num_unsure // num_tokens))

    def decided_after(self, pass_index: int, num_tokens: int) -> int:
        """Tokens decided once pass `pass_index` (from 0) is done: the cosine schedule.

        After the last pass it is `num_tokens`; every pass that can decide at least one token. Under
        `reuse="passes"` positions take the place of tokens.
        """
        if pass_index + 1 >= self.passes:
            return num_tokens
        masked = math.floor(num_tokens * math.cos(math.pi / 2 * (pass_index + 1) / self.passes))
        return min(num_tokens, max(num_tokens - masked, pass_index + 1))

    def noise_in(self, pass_index: int) -> float:
        """Scale of the confidence noise in pass `pass_index` of the schedule (from 0)."""
        return self.noise * (1 - (pass_index + 1) / self.passes)

"""The decode loop: the passes that decide one frame's tokens, for every back end and every plan.

A back end offers four primitives, `Passes`: the commit of the last frame, a full pass, a pass at some
positions, and sampling. The loop says which comes when. It asks the device for nothing, so `cuda` captures
it; `reference` runs it eagerly, and the back ends with exported graphs run a graph in each primitive.

Axes: `R` rows, `N` tokens, `P` positions, `S` tokens of a position (`merge^2`), `Q` positions of a pass, `K`
passes, `n` tokens that are sampled.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from genie_rt.errors import UnsupportedError
from genie_rt.kernels.maskgit_sample.reference import most_confident, sample
from genie_rt.kernels.philox.reference import uniforms_of_passes
from genie_rt.runtime.backends.frame_reuse import fresh_positions, num_fresh
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.orders.base import counting, position_tokens
from genie_rt.runtime.plan import Plan

Seen = TypeVar("Seen")
"""What a pass gives and sampling takes: hidden states, or samples where one graph does both."""


class Passes(Protocol[Seen]):
    """The primitives by which a back end decodes the next frame of `R` rows."""

    def masked(self) -> Tensor:
        """Tokens `[R, N]` int64, all `UNDECIDED`."""
        ...

    def commit(self) -> None:
        """Computes the page of the rows' last frames. Called before the first pass, where it is due."""
        ...

    def full(self, k: int, tokens: Tensor) -> Seen:
        """Pass `k` at all positions, over tokens `[R, N]`."""
        ...

    def at(self, k: int, tokens: Tensor, index: Tensor) -> Seen:
        """Pass `k` at the positions `[R or 1, Q]` int64; the others keep their spatial keys and values."""
        ...

    def sample(self, k: int, seen: Seen, tokens: Tensor, among: Tensor | None, *, ranked: bool) -> Tensor:
        """Samples the tokens of a pass, and decides some of them.

        Args:
            tokens: `[R, N]` int64, before the pass.
            among: `[R or 1, n]` int64, which tokens may be decided; None, all. After a pass at some positions
                they are those of the last positions, position by position.
            ranked: whether the most confident are decided, as many as the plan says; else all of `among`.

        Returns:
            `[R, N]` int64, the tokens after the pass.
        """
        ...

    def recall(self) -> Tensor:
        """Takes up the spatial keys and values that the rows carry; see `frame_reuse`.

        Returns:
            `[R, P]` float32, how much changed lately.
        """
        ...

    def carry(self) -> None:
        """Keeps the spatial keys and values as they are now, for the rows' next frames."""
        ...


class DecodeLoop(Generic[Seen]):
    """Decodes the next frame of `R` rows of one kind.

    Args:
        passes: of the back end.
        seeds, frames: `[R]` int64, the bits of each session's seed and the index of its new frame.
        pending: whether the last frames are still to be committed.
        recalls: whether the rows carry what `reuse="frames"` can take up.

    Attributes:
        tokens: `[R, N]` int64, as they are after the passes so far.
    """

    tokens: Tensor

    def __init__(
        self,
        passes: Passes[Seen],
        plan: Plan,
        config: ModelConfig,
        seeds: Tensor,
        frames: Tensor,
        *,
        pending: bool = False,
        recalls: bool = False,
    ) -> None:
        self.passes, self.plan, self.config = passes, plan, config
        self.pending, self.recalls = pending, recalls and plan.reuse == "frames"
        self._keys = seeds, frames
        self._order: Tensor | None = None  # of a static plan: [R or 1, N]
        slots = config.dynamics.merge**2
        self._slots, self._num_tokens = slots, config.tokenizer.num_tokens
        self._unit = slots if plan.reuse == "passes" else 1  # tokens that are decided together

    def first(self) -> None:
        """The commit, where it is due, and the first pass."""
        passes, plan = self.passes, self.plan
        if (order := plan.static_order) is not None:
            by_position = plan.reuse == "passes"
            self._order = order.tokens(self.config, *self._keys, by_position=by_position)
        self.tokens = passes.masked()
        if self.pending:
            passes.commit()
        if self.recalls:
            index = fresh_positions(passes.recall(), plan.fresh)
            seen = passes.at(0, self.tokens, index)
            among = position_tokens(self.config, index.device)[index].flatten(1)
            self.tokens = passes.sample(0, seen, self.tokens, among, ranked=True)
        else:
            self._full(0)
        if plan.reuse == "frames":
            passes.carry()

    def later(self, k: int) -> None:
        """Pass `k`, from 1 on."""
        if self.plan.reuse != "passes" or self._order is None:
            return self._full(k)
        before, now = self._decided_in(k - 1), self._decided_in(k)
        both = self._order[:, before.start : now.stop : self._slots]  # just decided, and about to be
        index = _position_of(self.config, both.device)[both]
        seen = self.passes.at(k, self.tokens, index)
        decided = self._order[:, now.start : now.stop]
        self.tokens = self.passes.sample(k, seen, self.tokens, decided, ranked=False)

    def tokens_computed(self, num_passes: int) -> int:
        """Tokens that so many passes compute, of one row."""
        if self.plan.reuse == "passes":
            later = (self._decided_in(k).stop - self._decided_in(k - 1).start for k in range(1, num_passes))
            return self._num_tokens + sum(later)
        spared = self.config.num_positions - num_fresh(self.config.num_positions, self.plan.fresh)
        return num_passes * self._num_tokens - (spared * self._slots if self.recalls else 0)

    def _full(self, k: int) -> None:
        seen = self.passes.full(k, self.tokens)
        among = None
        if self._order is not None:
            now = self._decided_in(k)
            among = self._order[:, now.start : now.stop]
        self.tokens = self.passes.sample(k, seen, self.tokens, among, ranked=among is None)

    def _decided_in(self, k: int) -> range:
        """Places in the static order that pass `k` decides."""
        num_units = self._num_tokens // self._unit
        start = self.plan.decided_after(k - 1, num_units) if k else 0
        return range(start * self._unit, self.plan.decided_after(k, num_units) * self._unit)


class EagerLoop(DecodeLoop[Seen]):
    """A loop over `EagerPasses`, run at once."""

    passes: EagerPasses[Seen]

    @property
    def num_passes(self) -> int:
        """Passes of the row that takes the most; known once the first is done."""
        return max(self.passes.schedule.passes)

    def run(self) -> Tensor:
        """All passes that the frames need. Returns the tokens, `[R, N]` int64."""
        self.first()
        for k in range(1, self.num_passes):
            self.later(k)
        return self.tokens


class EagerPasses(Passes[Seen]):
    """Passes whose samples are chosen from at once, reading values where the plan adapts.

    Args:
        noise_u: `[K, R, N]` float32, uniforms of the confidence noise.

    Attributes:
        schedule: from its first pass on a frame that adapts has its own.
    """

    def __init__(self, plan: Plan, noise_u: Tensor) -> None:
        self.plan, self.noise_u = plan, noise_u
        num_rows, num_tokens = noise_u.shape[1:]
        self.schedule = Schedule.of(plan, num_rows, num_tokens, noise_u.device)

    @abstractmethod
    def draw(self, k: int, seen: Seen, among: Tensor | None) -> tuple[Tensor, Tensor]:
        """Samples and the probability of each, `[R, n]`; `among` as `sample` takes it."""

    def commit(self) -> None:
        """Nothing: the rows were committed before."""

    def masked(self) -> Tensor:
        return _undecided(*self.noise_u.shape[1:], self.noise_u.device)

    def sample(self, k: int, seen: Seen, tokens: Tensor, among: Tensor | None, *, ranked: bool) -> Tensor:
        candidates, p = self.draw(k, seen, among)
        if not ranked and among is not None:
            return tokens.scatter(1, among.expand(len(tokens), -1), candidates)
        if k == 0 and self.plan.adapts:
            self.schedule = Schedule.after_first_pass(self.plan, p)
        noise_u, there = self.noise_u[k], tokens
        if among is not None:
            noise_u, there = noise_u.gather(1, among), tokens.gather(1, among)
        chosen = self.schedule.select(k, p, there != UNDECIDED, noise_u)
        there = torch.where(chosen, candidates, there)
        return there if among is None else tokens.scatter(1, among, there)


class ProbedPasses(EagerPasses[Tensor]):
    """Full passes whose logits come from elsewhere, such as `Backend.probe`: for evaluation and baselines.

    Args:
        seeds, frames: as `DecodeLoop` takes them.
        logits: from tokens `[R, N]`, as they are before a pass, and its index to scores `[R, N, V]`.
    """

    def __init__(
        self,
        plan: Plan,
        config: ModelConfig,
        seeds: Tensor,
        frames: Tensor,
        logits: Callable[[Tensor, int], Tensor],
    ) -> None:
        self.u, noise_u = uniforms_of_frames(seeds, frames, plan.passes, config.tokenizer.num_tokens)
        super().__init__(plan, noise_u)
        self._logits = logits

    def full(self, k: int, tokens: Tensor) -> Tensor:
        return self._logits(tokens, k)

    def at(self, k: int, tokens: Tensor, index: Tensor) -> Tensor:
        raise UnsupportedError(f"expected a plan that reuses nothing, found {self.plan}")

    def draw(self, k: int, seen: Tensor, among: Tensor | None) -> tuple[Tensor, Tensor]:
        candidates, p = sample(seen, self.u[k], self.plan.temperature)
        if among is None:
            return candidates, p
        among = among.expand(len(candidates), -1)
        return candidates.gather(1, among), p.gather(1, among)

    def recall(self) -> Tensor:
        raise UnsupportedError(f"expected a plan that reuses nothing, found {self.plan}")

    def carry(self) -> None:
        """Nothing: no frame goes on from this one."""


def uniforms_of_frames(
    seeds: Tensor, frames: Tensor, num_passes: int, num_tokens: int
) -> tuple[Tensor, Tensor]:
    """The uniforms of tokens and of confidence noise in the passes of frames: `[K, R, N]` float32 each."""
    numbers = counting(max(num_passes, num_tokens), seeds.device)
    u, noise_u = uniforms_of_passes(seeds, frames, numbers[:num_passes], numbers[:num_tokens])
    return u.transpose(0, 1), noise_u.transpose(0, 1)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Schedule:
    """How many tokens each pass decides, where the most confident ones go first.

    Attributes:
        passes: that each row takes; `K` is the most of them.
        targets: `[R, K]` int64, tokens decided after each pass.
        noise: `[R, K]` float64, its scale on the confidence in each.
        ranking: what confidence is.
    """

    passes: Sequence[int]
    targets: Tensor
    noise: Tensor
    ranking: str

    @classmethod
    @lru_cache(maxsize=256)  # a frame of a static order reads no more of it than its passes
    def of(cls, plan: Plan, num_rows: int, num_tokens: int, device: torch.device) -> Schedule:
        """The schedule of a plan, for all rows alike."""
        return cls._of_each(plan, [plan.passes] * num_rows, num_tokens, device)

    @classmethod
    def after_first_pass(cls, plan: Plan, p: Tensor) -> Schedule:
        """Each row's schedule where the plan adapts, from the probabilities `[R, N]` of its first samples.

        Asks the device how sure they are, once a frame.
        """
        num_tokens = p.shape[1]
        passes = [plan.passes_for(count, num_tokens) for count in (p < plan.threshold).sum(1).tolist()]
        return cls._of_each(plan, passes, num_tokens, p.device)

    @classmethod
    def _of_each(cls, plan: Plan, passes: list[int], num_tokens: int, device: torch.device) -> Schedule:
        rows = [_schedule(plan, own, num_tokens, max(passes), device) for own in passes]
        targets, noise = (torch.stack(columns) for columns in zip(*rows, strict=True))
        return cls(passes=passes, targets=targets, noise=noise, ranking=plan.ranking)

    def select(self, k: int, p: Tensor, decided: Tensor, noise_u: Tensor) -> Tensor:
        """What pass `k`, of all tokens or a part, decides, `[R, n]` bool: see `most_confident`."""
        if all(k + 1 >= count for count in self.passes):
            return ~decided  # all that are left, whatever their confidence: an engine's may be 0
        keep = self.targets[:, k] - decided.sum(1)
        noise = self.noise[:, k].to(p.dtype)
        return most_confident(p, decided, noise_u, keep=keep, noise=noise, ranking=self.ranking)


@lru_cache(maxsize=4096)
def _schedule(
    plan: Plan, passes: int, num_tokens: int, length: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Tokens decided after each of so many passes, int64, and the noise in each, float64.

    Both `[length]`, for rows that stand beside longer ones.
    """
    plan = plan.replace(passes=passes)
    targets = [plan.decided_after(k, num_tokens) for k in range(length)]
    noise = [plan.noise_in(k) for k in range(passes)] + [0.0] * (length - passes)
    return torch.tensor(targets, device=device), torch.tensor(noise, dtype=torch.float64, device=device)


@lru_cache(maxsize=64)
def _position_of(config: ModelConfig, device: torch.device) -> Tensor:
    """`[N]` int64, the position of each token."""
    members = position_tokens(config)
    return (members.flatten().argsort() // members.shape[1]).to(device)


@lru_cache(maxsize=64)
def _undecided(num_rows: int, num_tokens: int, device: torch.device) -> Tensor:
    """Masked tokens. Not to be written to."""
    return torch.full((num_rows, num_tokens), UNDECIDED, dtype=torch.int64, device=device)

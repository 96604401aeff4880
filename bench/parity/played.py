"""Whether a back end plays what its passes compute: whole frames, as a session makes them.

`Backend.frame` may run other code than `probe`, `commit` and `show`: a graph of the whole frame, passes over
some positions only. So frames are played too, of the compared plan and of others. Each starts from the
yardstick's tokens, on the pages that the candidate's own frames of that plan left behind. It is held to this:

- its tokens are of the codebook, and it took as many passes as the plan has; "adaptive", 1 to that many;
- its picture is that of its own tokens, whatever these are: the yardstick decodes the same ones;
- its tokens are the yardstick's. A frame where any differs is followed: the yardstick evaluates the passes on
  the frame's own tokens, and the `u` of each has to be within the bound of a single pass from the token's
  interval. Which pass decided a token is known where the order is. Otherwise confidence tells, and where
  rounding might have ranked it differently, those tokens are judged that were chosen in any case, and the
  frame is followed no further. With reuse a frame is followed through its first whole pass alone: the later
  ones see what no probe does;
- for what could not be followed, and where the bound says little: of a plan's tokens no more than
  `may_differ` are other ones than the yardstick's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genie_rt.bench.parity.bounds import Bound, may_differ
from genie_rt.bench.parity.tally import Tally, cumulative, finite
from genie_rt.errors import DeviceError
from genie_rt.kernels.maskgit_sample.reference import LIKELY, gumbel
from genie_rt.runtime.backends.decode_loop import EagerLoop, ProbedPasses
from genie_rt.runtime.backends.protocol import Backend, FrameStats, Probe
from genie_rt.runtime.backends.row import Row, random_keys
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.plan import REUSES, Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """How the frames of one plan compare.

    Attributes:
        name: of the plan.
        tokens: of all frames. mismatches: those that are not the yardstick's.
        judged: tokens that are the yardstick's or were followed.
        max_distance: of `u` from the interval of a token that was followed, 0 where none differs.
        psnr_db: of the pictures, pooled; None where they are equal.
    """

    name: str
    plan: Plan
    frames: int
    tokens: int
    mismatches: int
    judged: int
    max_distance: float | None
    psnr_db: float | None

    @property
    def share(self) -> float:
        """Share of the tokens that differ."""
        return self.mismatches / max(self.tokens, 1)


def other_plans(plans: Mapping[str, Plan], plan: Plan, config: ModelConfig) -> dict[str, Plan]:
    """What can be played besides `plan`: a bundle's plans, and each kind of reuse by a name of its own."""
    found = {name: other for name, other in plans.items() if other != plan}
    for reuse, orders in REUSES.items():
        if reuse == "none" or any(other.reuse == reuse for other in found.values()):
            continue
        order = plan.order if plan.order in orders else orders[-1]
        reusing = plan.replace(order=order, reuse=reuse, passes=max(plan.passes, 2))
        most = reusing.most_passes(config)
        if most > 1:  # or no pass is left that could reuse anything
            found[f"reuse of {reuse}"] = reusing.replace(passes=min(reusing.passes, most))
    return found


class PlayedPlan:
    """Plays one plan on a candidate, teacher-forced.

    Args:
        plan: with its reuse.
        yardstick, candidate: of the same model.
        bound: what the candidate may be off by.
    """

    def __init__(
        self, name: str, plan: Plan, yardstick: Backend, candidate: Backend, config: ModelConfig, bound: Bound
    ) -> None:
        self.name, self.plan, self.config, self.bound = name, plan, config, bound
        self.ours, self.theirs = yardstick, candidate
        self._followed = Tally(plan.temperature)
        self._frames = self._mismatches = self._equal = 0
        self._rows: tuple[Row, Row] | None = None  # the last frame's, None before the first

    def play(
        self,
        before: Sequence[Row],
        after: Sequence[Row],
        committed: Row,
        action: int,
        logit_std: float,
        tokens: Tensor | None = None,
    ) -> None:
        """Plays and judges the frame that an action leads to.

        Args:
            before, after: the yardstick's and the candidate's row with the yardstick's tokens of the last
                frame and of this one, pending.
            committed: the yardstick's row of `before`.
            logit_std: of the yardstick's logits.
            tokens: `[N]`, what the yardstick decides; asked for unless given.

        Raises:
            DeviceError: tokens or passes are no such thing.
        """
        mine, theirs = self._rows or before
        carried = mine.carried
        if tokens is None:
            start = mine if self.plan.reuse == "frames" else committed
            (new,), _, _ = self.ours.frame([start], [action], self.plan, decode=False)
            tokens, carried = new.tokens, new.carried
        (played,), picture, (stats,) = self.theirs.frame([theirs], [action], self.plan)
        found = played.tokens.cpu()
        self._check(found, stats)
        (shown,), expected = self.ours.show([mine], [action], found[None])
        assert picture is not None  # it was asked for
        self._followed.add_picture(expected, picture)
        self._frames += 1
        self._mismatches += int((found != tokens).sum())
        if torch.equal(found, tokens):
            self._equal += found.numel()
        elif not (self.plan.reuse == "frames" and mine.carried):
            self._follow(committed, action, found, logit_std)
        self._rows = (
            replace(after[0], decoder=shown.decoder, carried=carried),
            replace(after[1], dynamics=played.dynamics, decoder=played.decoder, carried=played.carried),
        )

    def _check(self, tokens: Tensor, stats: FrameStats) -> None:
        size = self.config.tokenizer.codebook_size
        outside = int(((tokens < 0) | (tokens >= size)).sum())
        if outside:
            raise DeviceError(
                f"playing {self.name!r}: expected tokens from 0 to {size - 1}, found {outside} others"
            )
        least = 1 if self.plan.adapts else self.plan.passes
        if not least <= stats.passes <= self.plan.passes:
            raise DeviceError(
                f"playing {self.name!r}: expected {least} to {self.plan.passes} passes, found {stats.passes}"
            )

    def _follow(self, row: Row, action: int, tokens: Tensor, logit_std: float) -> None:
        """Compares a frame's tokens `[N]` with the distributions that they were sampled from."""
        size = self.config.tokenizer.codebook_size
        near = self.bound.cdf(self.plan.temperature, logit_std, size)
        off = 2 * self.bound.logit * logit_std / self.plan.temperature  # of the logarithm of a probability
        keys = random_keys([row], row.tokens.device)
        passes = _Followed(
            self.plan, self.config, *keys, self.ours, row, action,
            tokens=tokens, tally=self._followed, near=near, off=off,
        )  # fmt: skip
        loop = EagerLoop(passes, self.plan, self.config, *keys)
        loop.first()
        for k in range(1, loop.num_passes):
            if not passes.is_clear or self.plan.reuse != "none":
                break
            loop.later(k)

    @property
    def result(self) -> Played:
        distances = self._followed.distances
        return Played(
            name=self.name,
            plan=self.plan,
            frames=self._frames,
            tokens=self._frames * self.config.tokenizer.num_tokens,
            mismatches=self._mismatches,
            judged=self._equal + self._followed.tokens,
            max_distance=finite(distances),
            psnr_db=self._followed.psnr_db,
        )

    def failure(self, dtype: str, logit_std: float, share: float) -> str | None:
        """What is beyond its bound, if anything is.

        Args:
            share: of the tokens that differ pass by pass.
        """
        found = self.result
        bound = self.bound.cdf(self.plan.temperature, logit_std, self.config.tokenizer.codebook_size)
        beyond = int((~(self._followed.distances <= bound)).sum())
        where = f"playing {self.name!r}"
        if dtype == "float64" and found.mismatches:
            return f"{where}: {found.mismatches} tokens differ, in float64 none may"
        if beyond:
            return f"{where}: {beyond} mismatches are further than {bound:.2g} from a boundary"
        if not found.share <= may_differ(share):
            return f"{where}: {found.share:.0%} of the tokens differ, at most {may_differ(share):.0%} may"
        if found.psnr_db is not None and not found.psnr_db >= self.bound.psnr_db:
            return (
                f"{where}: the pictures agree to {found.psnr_db:.0f} dB with those of their own tokens, at "
                f"least {self.bound.psnr_db:.0f} dB is asked"
            )
        return None


class _Followed(ProbedPasses):
    """The yardstick's passes on the tokens of a frame that another back end played.

    Args:
        row: the yardstick's, committed.
        tokens: `[N]`, what was played.
        tally: of the comparison.
        near, off: as `surely_chosen` takes them.

    Attributes:
        is_clear: whether it is known what the passes so far decided.
    """

    def __init__(
        self,
        plan: Plan,
        config: ModelConfig,
        seeds: Tensor,
        frames: Tensor,
        yardstick: Backend,
        row: Row,
        action: int,
        *,
        tokens: Tensor,
        tally: Tally,
        near: float,
        off: float,
    ) -> None:
        def logits(tokens: Tensor, k: int) -> Tensor:
            self.probe = yardstick.probe([row], [action], tokens, plan, k)
            return self.probe.logits

        super().__init__(plan, config, seeds, frames, logits)
        self.played, self.tally, self.near, self.off = tokens, tally, near, off
        self.is_clear = True

    def sample(self, k: int, seen: Tensor, tokens: Tensor, among: Tensor | None, *, ranked: bool) -> Tensor:
        after = super().sample(k, seen, tokens, among, ranked=ranked)
        u, candidates = self.u[k], self.probe.candidates
        noise = None if not ranked else float(self.schedule.noise[0, k]) * gumbel(self.noise_u[k])
        chosen, self.is_clear = surely_chosen(
            self.plan, k, tokens, after, self.probe, u, noise, near=self.near, off=self.off
        )
        cdf = cumulative(seen, self.plan.temperature)
        self.tally.add_tokens(
            cdf[chosen][None], candidates[chosen][None], self.played[None][chosen][None], u[chosen][None]
        )
        return torch.where(after == UNDECIDED, UNDECIDED, self.played)


def surely_chosen(
    plan: Plan,
    k: int,
    before: Tensor,
    after: Tensor,
    probe: Probe,
    u: Tensor,
    noise: Tensor | None,
    *,
    near: float,
    off: float,
) -> tuple[Tensor, bool]:
    """Which tokens a pass decides, whatever is rounded, and whether no other one can be.

    Args:
        k: index of the pass.
        before, after: `[1, N]`, the tokens.
        probe: of the pass.
        u: `[1, N]`, its uniforms.
        noise: `[1, N]`, what is added to the logarithm of the probabilities; None where the order is known.
        near: from a boundary of the distribution this far `u` may be on its other side.
        off: how much the logarithm of a probability may be.

    Returns:
        `[1, N]` bool, and whether it is all that the pass decides.
    """
    is_open = before == UNDECIDED
    chosen = is_open & (after != UNDECIDED)
    if noise is None:
        return chosen, True
    if plan.ranking != LIKELY:  # what rounding does to another score is not known
        return torch.zeros_like(chosen), False
    cdf = cumulative(probe.logits, plan.temperature)
    place = probe.candidates[..., None]
    upper = cdf.gather(-1, place)[..., 0]
    lower = torch.where(place > 0, cdf.gather(-1, (place - 1).clamp(min=0)), 0.0)[..., 0]
    is_unsure = (u - lower < near) | (upper - u < near)  # another token, of any probability
    p = (upper - lower).log()
    least, most = (p - off).masked_fill(is_unsure, -torch.inf), (p + off).masked_fill(is_unsure, 0.0)
    if plan.adapts and k == 0:
        counts = [int((x.exp() < plan.threshold).sum()) for x in (least, most)]
        if len({plan.passes_for(count, p.shape[1]) for count in counts}) > 1:
            return torch.zeros_like(chosen), False
    least, most = ((x + noise).masked_fill(~is_open, -torch.inf)[0] for x in (least, most))
    keep, rest = int(chosen.sum()), is_open[0]
    rivals = ((most[None] >= least[:, None]) & rest).sum(1) - 1  # itself is none
    ahead = ((least[None] > most[:, None]) & rest).sum(1)
    is_in, is_out = rest & (rivals < keep), ahead >= keep
    return is_in[None], bool((is_in | is_out | ~rest).all())

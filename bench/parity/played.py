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
from genie_rt.bench.parity.decisions import FrameDecision
from genie_rt.bench.parity.tally import Tally, cumulative, finite
from genie_rt.errors import DeviceError
from genie_rt.kernels.maskgit_sample.reference import gumbel
from genie_rt.runtime.backends.protocol import Backend, FrameStats, Probe
from genie_rt.runtime.backends.row import Row
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
        """Of the tokens that differ."""
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


class Player:
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
        spatial = mine.spatial
        if tokens is None:
            start = mine if self.plan.reuse == "frames" else committed
            (new,), _, _ = self.ours.frame([start], [action], self.plan, decode=False)
            tokens, spatial = new.tokens, new.spatial
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
        elif not (self.plan.reuse == "frames" and mine.spatial):
            self._follow(committed, action, found, logit_std)
        self._rows = (
            replace(after[0], decoder=shown.decoder, spatial=spatial),
            replace(after[1], dynamics=played.dynamics, decoder=played.decoder, spatial=played.spatial),
        )

    def _check(self, tokens: Tensor, stats: FrameStats) -> None:
        size = self.config.tokenizer.codebook_size
        outside = int(((tokens < 0) | (tokens >= size)).sum())
        if outside:
            raise DeviceError(
                f"playing {self.name!r}: expected tokens from 0 to {size - 1}, found {outside} others"
            )
        least = 1 if self.plan.order == "adaptive" else self.plan.passes
        if not least <= stats.passes <= self.plan.passes:
            raise DeviceError(
                f"playing {self.name!r}: expected {least} to {self.plan.passes} passes, found {stats.passes}"
            )

    def _follow(self, row: Row, action: int, tokens: Tensor, logit_std: float) -> None:
        """Compares a frame's tokens `[N]` with the distributions that they were sampled from."""
        size = self.config.tokenizer.codebook_size
        near = self.bound.cdf(self.plan.temperature, logit_std, size)
        off = 2 * self.bound.logit * logit_std / self.plan.temperature  # of the logarithm of a probability
        frame = FrameDecision.start(
            self.plan, self.config, seed=row.seed, frame_index=row.frame_index + 1, device=row.tokens.device
        )
        is_clear = True
        while is_clear and not frame.is_done:
            probe = self.ours.probe([row], [action], frame.tokens, frame.plan, frame.pass_index)
            after = frame.decide(probe.logits)
            chosen, is_clear = surely_chosen(frame, after, probe, near=near, off=off)
            cdf, (u, _) = cumulative(probe.logits, self.plan.temperature), frame.uniforms()
            self._followed.add_tokens(
                cdf[chosen][None], probe.candidates[chosen][None], tokens[None][chosen][None], u[chosen][None]
            )
            is_clear &= self.plan.reuse == "none"
            frame = replace(after, tokens=torch.where(after.tokens == UNDECIDED, UNDECIDED, tokens))

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


def surely_chosen(
    frame: FrameDecision, after: FrameDecision, probe: Probe, *, near: float, off: float
) -> tuple[Tensor, bool]:
    """Which tokens a pass decides, whatever is rounded, and whether no other one can be.

    Args:
        frame, after: before the pass and behind it. probe: of it.
        near: from a boundary of the distribution this far `u` may be on its other side.
        off: how much the logarithm of a probability may be.

    Returns:
        `[1, N]` bool, and whether it is all that the pass decides.
    """
    is_open = frame.tokens == UNDECIDED
    chosen = is_open & (after.tokens != UNDECIDED)
    if frame.plan.is_static:
        return chosen, True
    u, noise_u = frame.uniforms()
    cdf = cumulative(probe.logits, frame.plan.temperature)
    place = probe.candidates[..., None]
    upper = cdf.gather(-1, place)[..., 0]
    lower = torch.where(place > 0, cdf.gather(-1, (place - 1).clamp(min=0)), 0.0)[..., 0]
    is_unsure = (u - lower < near) | (upper - u < near)  # another token, of any probability
    p = (upper - lower).log()
    least, most = (p - off).masked_fill(is_unsure, -torch.inf), (p + off).masked_fill(is_unsure, 0.0)
    if frame.plan.order == "adaptive":
        counts = [int((x.exp() < frame.plan.threshold).sum()) for x in (least, most)]
        if len({frame.plan.passes_for(count, p.shape[1]) for count in counts}) > 1:
            return torch.zeros_like(chosen), False
    noise = after.plan.noise_in(frame.pass_index) * gumbel(noise_u)
    least, most = ((x + noise).masked_fill(~is_open, -torch.inf)[0] for x in (least, most))
    keep, rest = int(chosen.sum()), is_open[0]
    rivals = ((most[None] >= least[:, None]) & rest).sum(1) - 1  # itself is none
    ahead = ((least[None] > most[:, None]) & rest).sum(1)
    is_in, is_out = rest & (rivals < keep), ahead >= keep
    return is_in[None], bool((is_in | is_out | ~rest).all())

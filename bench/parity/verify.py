"""Whether other back ends and number formats compute the model: each against the yardstick, teacher-forced.

The yardstick is the `reference` back end in float64 on the CPU. It plays a scripted sequence of actions, and
in every pass of every frame a candidate is given the yardstick's tokens, so both see the same input and an
error cannot hide behind a rollout that went elsewhere. Compared are

- the logits, and the tokens that both sample from them with the same uniform `u`;
- the commit: the next frame attends to the pages that the candidate made of the yardstick's tokens. The idle
  commit is behind every pass, the fused one behind a frame of a single pass, whose tokens are compared too;
- the pictures of the yardstick's tokens;
- frames that the candidate plays whole, as a session does: see `played.py`. Those of the plan throughout,
  and at the end `OTHER_FRAMES` of each other plan of the bundle and of each kind of reuse.

A token may differ where `u` lies next to a boundary of the cumulative distribution: inverse-CDF sampling
flips it there for any rounding. So a mismatch is judged by how far `u` is, in the yardstick's distribution,
from the interval of the candidate's token. The distributions are compared themselves too, at every boundary,
wherever `u` fell. What may be off by how much, and why: `bounds.py`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genie_rt.bench.latency.workloads import first_picture, held_actions
from genie_rt.bench.parity.bounds import VACUOUS, Bound, bound_of
from genie_rt.bench.parity.played import Played, PlayedPlan, other_plans
from genie_rt.bench.parity.tally import Tally, cumulative, finite
from genie_rt.bench.record import Subject
from genie_rt.bench.timer import Candidate, measure, paired_ratio
from genie_rt.errors import DeviceError, InputError, UnsupportedError
from genie_rt.runtime.backends.decode_loop import EagerLoop, ProbedPasses
from genie_rt.runtime.backends.protocol import Backend, Probe
from genie_rt.runtime.backends.registry import BACKENDS
from genie_rt.runtime.backends.row import Row, blank_row, random_keys
from genie_rt.runtime.backends.select import NOTHING, Choice, Holdings, serves
from genie_rt.runtime.model.dynamics import NULL_ACTION
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

TIMED_WARM_UP_S = 0.3

OTHER_FRAMES = 2
"""Frames to play of each plan but the compared one: only a second one can reuse anything of the first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to compute a world, as `World.load` takes it."""

    backend: str
    dtype: str
    device: str


YARDSTICK = Variant(backend="reference", dtype="float64", device="cpu")


def variants(device: str, holdings: Holdings = NOTHING) -> list[Variant]:
    """Every back end and number format that can run on a device, but the yardstick.

    Args:
        holdings: of the bundle; what needs graphs or limits that it has not is left out.
    """
    kind = device.partition(":")[0]
    found = [
        Variant(backend=spec.name, dtype=dtype, device=device)
        for spec in BACKENDS.values()
        for dtype in spec.dtypes
        if kind in spec.devices and serves(spec, dtype, holdings)
    ]
    return [variant for variant in found if variant != YARDSTICK]


def runnable(asked: Sequence[Variant]) -> tuple[list[Variant], list[str]]:
    """Those that this machine can compute, and why it cannot compute the others.

    Raises:
        UnsupportedError: it can compute none.
    """
    here: list[Variant] = []
    reasons: list[str] = []
    for variant in asked:
        try:
            Choice.of(variant.backend, variant.dtype, variant.device)
        except UnsupportedError as error:
            if variant is asked[-1] and not here:
                raise
            reasons.append(f"{variant.backend} {variant.dtype} is left out: {error}")
        else:
            here.append(variant)
    return here, reasons


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How one candidate compares with the yardstick.

    Attributes:
        passes, tokens: compared; every pass samples all `N` tokens.
        mismatches: tokens that differ.
        bound: largest distance of `u` that a mismatch may have, and largest error of the cumulative
            distribution, at the plan's temperature and for logits of this size; see `bounds.py`.
        max_distance: of `u` from the interval of a mismatched token, 0 where none differs; None where one is
            none of the codebook at all.
        max_cdf_error: of the cumulative distribution, over all boundaries of all tokens.
        within: share of the tokens that are equal or whose distance is within the bound.
        max_logit_error, mean_logit_error: absolute. logit_std: of the yardstick's logits, to compare with.
        psnr_db: of the pictures, pooled; None where they are equal.
        prompt_agreement: share of the prompt's tokens that the candidate's encoder finds too.
        free_frames: frames of a free rollout that are the yardstick's token for token, from the first on.
            Reported, and no part of the verdict.
        yardstick_ms, ms: median of a frame, both interleaved; times_faster: median ratio; None where unasked.
        failure: what stopped the comparison or is beyond its bound, None where nothing is.
        played: frames that the candidate played whole, the compared plan's first. Records from before there
            was such a thing have none.
    """

    variant: Variant
    passes: int
    tokens: int
    mismatches: int
    bound: float
    max_distance: float | None
    max_cdf_error: float
    within: float
    max_logit_error: float
    mean_logit_error: float
    logit_std: float
    psnr_db: float | None
    prompt_agreement: float
    free_frames: int
    yardstick_ms: float | None
    ms: float | None
    times_faster: float | None
    failure: str | None
    played: tuple[Played, ...] = ()

    @property
    def passed(self) -> bool:
        return self.failure is None


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyBody:
    """All candidates of one machine.

    Attributes:
        subject: the yardstick.
        plan: that frames were decoded with. frames: of each rollout, after the prompt.
    """

    KIND: ClassVar[str] = "verify"

    subject: Subject
    plan: Plan
    frames: int
    rows: tuple[Parity, ...]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    def remarks(self) -> list[str]:
        """Where the comparison says less than it seems to."""
        return [
            f"{row.variant.dtype} at temperature {self.plan.temperature:g} may move a distribution by "
            f"{row.bound:.2f}, so its tokens say little; its logits do, and so does --temperature 1"
            for row in self.rows
            if row.bound > VACUOUS
        ]


def compare(
    yardstick: World,
    candidate: World,
    variant: Variant,
    *,
    plan: Plan,
    frames: int,
    seed: int = 0,
    iterations: int = 0,
    on_frame: Callable[[], object] | None = None,
) -> Parity:
    """Compares one candidate with the yardstick.

    Args:
        yardstick, candidate: the same bundle; the first as `YARDSTICK`, the second as `variant`.
        plan: what it says about reuse is left out: passes are whole ones.
        frames: after the prompt, 1 or more.
        iterations: frames of each to time, 0 for none.
        on_frame: called after every frame.

    Raises:
        InputError: there is nothing to compare.
    """
    if frames < 1 or iterations < 0:
        raise InputError(
            f"expected 1 or more frames and 0 or more iterations, found {frames} and {iterations}"
        )
    plan = plan.replace(reuse="none").check(yardstick.bundle.config)
    limits = bound_of(candidate.bundle, variant.backend, variant.dtype)
    tally = Tally(plan.temperature)
    pair = _Pair(yardstick, candidate, plan, seed, tally, limits)
    failure = None
    try:
        pair.start()
        for action in itertools.islice(held_actions(yardstick), frames):
            pair.step(action, with_others=pair.frame_index >= frames - OTHER_FRAMES)
            if on_frame is not None:
                on_frame()
    except DeviceError as error:
        failure = f"frame {pair.frame_index}: {error}"
    speed = _time(yardstick, candidate, plan, iterations) if iterations and failure is None else None
    codebook_size = yardstick.bundle.config.tokenizer.codebook_size
    bound = limits.cdf(plan.temperature, tally.logit_std, codebook_size)
    distances = tally.distances
    return Parity(
        variant=variant,
        passes=tally.passes,
        tokens=tally.tokens,
        mismatches=tally.mismatches,
        bound=bound,
        max_distance=finite(distances),
        max_cdf_error=tally.max_cdf_error,
        within=1 - int((~(distances <= bound)).sum()) / max(tally.tokens, 1),
        max_logit_error=tally.max_logit_error,
        mean_logit_error=tally.mean_logit_error,
        logit_std=tally.logit_std,
        psnr_db=tally.psnr_db,
        prompt_agreement=pair.prompt_agreement,
        free_frames=pair.free_frames,
        yardstick_ms=speed[0] if speed else None,
        ms=speed[1] if speed else None,
        times_faster=speed[2] if speed else None,
        failure=failure or _judge(tally, bound, variant.dtype, limits) or pair.judge_played(variant.dtype),
        played=tuple(player.result for player in pair.players),
    )


def _judge(tally: Tally, bound: float, dtype: str, limits: Bound) -> str | None:
    """What is beyond its bound, if anything is."""
    distances = tally.distances
    beyond = int((~(distances <= bound)).sum())  # a NaN on either side is beyond
    if dtype == "float64" and len(distances):
        return f"{len(distances)} tokens differ, in float64 none may"
    if beyond:
        return f"{beyond} mismatches are further than {bound:.2g} from a boundary"
    if not tally.max_cdf_error <= bound:
        return (
            f"a cumulative distribution is off by {tally.max_cdf_error:.2g}, at most {bound:.2g} is allowed"
        )
    if not tally.max_logit_error <= limits.logit * tally.logit_std:
        allowed = limits.logit * tally.logit_std
        return f"a logit is off by {tally.max_logit_error:.2g}, at most {allowed:.2g} is allowed"
    if tally.psnr_db is not None and not tally.psnr_db >= limits.psnr_db:
        return f"the pictures agree to {tally.psnr_db:.0f} dB, at least {limits.psnr_db:.0f} dB is asked"
    return None


class _Pair:
    """Two worlds in lockstep: the yardstick, and a candidate that is given its tokens.

    Attributes:
        frame_index: of the frame that is being compared.
        players: of the plan and, after it, of all others.
    """

    def __init__(
        self, yardstick: World, candidate: World, plan: Plan, seed: int, tally: Tally, limits: Bound
    ) -> None:
        self.worlds = (yardstick, candidate)
        self.ours, self.theirs = yardstick.backend, candidate.backend
        self.config = yardstick.bundle.config
        self.plan, self.seed, self.tally = plan, seed, tally
        self.frame_index = 0
        self.free_frames = 0
        self.prompt_agreement = 0.0
        self._free: Row | None = None  # the candidate's own rollout, as long as it is the yardstick's
        self._rows: list[Row] = []
        names = [name for name, known in candidate.bundle.plans.items() if known == plan]
        plans = {names[0] if names else "as asked": plan}
        plans |= other_plans(candidate.bundle.plans, plan, self.config)
        self.players = [
            PlayedPlan(name, played, self.ours, self.theirs, self.config, limits)
            for name, played in plans.items()
        ]

    def start(self) -> None:
        """Takes in the prompt; both go on from the yardstick's tokens of it."""
        prompt = torch.from_numpy(first_picture(self.worlds[0]))[None]
        rows = [backend.prefill(self.seed, prompt, [NULL_ACTION])[0] for backend in (self.ours, self.theirs)]
        tokens = rows[0].tokens
        self.prompt_agreement = float((rows[1].tokens.cpu() == tokens).double().mean())
        self._free = rows[1]
        blank = [blank_row(self.config, self.seed, row.tokens.device) for row in rows]
        self._show(blank, NULL_ACTION, tokens[None])

    def step(self, action: int, *, with_others: bool) -> None:
        """Compares the frame that an action leads to, `with_others`: in all plans."""
        self.frame_index += 1
        before = self._rows
        ours, theirs = before
        once = self.plan.replace(passes=1)
        fused = self.theirs.frame([theirs], [action], once, decode=False)[0][0].tokens[None]
        (ours,), (theirs,) = self.ours.commit([ours]), self.theirs.commit([theirs])

        def logits(tokens: Tensor, k: int) -> Tensor:
            probe = _probe(self.ours, ours, action, tokens, self.plan, k)
            self.tally.add_pass(probe, _probe(self.theirs, theirs, action, tokens, self.plan, k), passes.u[k])
            if k == 0:
                cdf = cumulative(probe.logits, self.plan.temperature)
                self.tally.add_tokens(cdf, probe.candidates, fused, passes.u[k])
            return probe.logits

        seeds, frames = random_keys([ours], torch.device("cpu"))
        passes = ProbedPasses(self.plan, self.config, seeds, frames, logits)
        tokens = EagerLoop(passes, self.plan, self.config, seeds, frames).run()
        self._show([ours, theirs], action, tokens)
        for player in self.players if with_others else self.players[:1]:
            known = tokens[0] if player is self.players[0] else None
            player.play(before, self._rows, ours, action, self.tally.logit_std, known)
        self._play_freely(action, tokens[0])

    def judge_played(self, dtype: str) -> str | None:
        """What is beyond its bound in the frames that were played, if anything is."""
        share = self.tally.mismatches / max(self.tally.tokens, 1)
        failures = (player.failure(dtype, self.tally.logit_std, share) for player in self.players)
        return next(filter(None, failures), None)

    def _show(self, rows: Sequence[Row], action: int, tokens: Tensor) -> None:
        """Makes given tokens the last frame of both, and compares the pictures."""
        self._rows, pictures = [], []
        for backend, row in zip((self.ours, self.theirs), rows, strict=True):
            (shown,), picture = backend.show([row], [action], tokens.to(row.tokens.device))
            self._rows.append(shown)
            pictures.append(picture)
        self.tally.add_picture(*pictures)

    def _play_freely(self, action: int, tokens: Tensor) -> None:
        """One more frame of the candidate's own rollout, unless it has left the yardstick's already."""
        if self._free is None:
            return
        (row,), _, _ = self.theirs.frame([self._free], [action], self.plan)
        same = torch.equal(row.tokens.cpu(), tokens)
        self._free = row if same else None
        self.free_frames += same


def _probe(backend: Backend, row: Row, action: int, tokens: Tensor, plan: Plan, k: int) -> Probe:
    return backend.probe([row], [action], tokens.to(row.tokens.device), plan, k)


def _time(yardstick: World, candidate: World, plan: Plan, iterations: int) -> tuple[float, float, float]:
    """Median milliseconds of a frame of both, and how many times faster the candidate is."""

    def player(name: str, world: World) -> Candidate:
        session, actions = world.session(plan=plan), held_actions(world)
        session.reset(first_picture(world))
        for action in itertools.islice(actions, _full_window(world)):
            session.step(action)
        return Candidate(name=name, run=lambda: session.step(next(actions)))

    times = measure(
        [player("yardstick", yardstick), player("candidate", candidate)],
        iterations=iterations,
        warm_up_s=TIMED_WARM_UP_S,
    )
    ours, theirs = times["yardstick"], times["candidate"]
    return ours.percentile_ms(50), theirs.percentile_ms(50), paired_ratio(ours, theirs)


def _full_window(world: World) -> int:
    """Frames until the windows of a session are full."""
    config = world.bundle.config
    return max(config.dynamics.transformer.window, config.tokenizer.decoder.window)

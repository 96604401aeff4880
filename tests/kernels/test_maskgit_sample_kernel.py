"""A decision of a pass by the kernels is the reference's, but for draws that lie on a boundary.

Two roundings may part them: of the distribution function, next to which a uniform may lie, and of the
confidences, of which two may be next to each other. Every difference has to be one of these, and each has a
bound here. Everything else is exact.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from makers import decision_order, make_config
from torch import Tensor

from genie_rt.kernels.launch import Config, config, next_power_of_2
from genie_rt.kernels.maskgit_sample import kernel
from genie_rt.kernels.maskgit_sample.cases import Inputs, cases, make_inputs
from genie_rt.kernels.maskgit_sample.kernel import AUTOTUNE_SPACE, SELECT_SPACE, gumbel, maskgit_sample
from genie_rt.kernels.maskgit_sample.reference import decide, sample
from genie_rt.kernels.philox.reference import uniforms
from genie_rt.runtime.backends.decode_loop import Schedule
from genie_rt.runtime.plan import Plan

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of NaN in the interpreter

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16]  # the interpreter gets bf16 wrong
if DEVICE == "cuda":
    DTYPES.append(torch.bfloat16)

UNIT = 2.0**-24  # of a rounding to fp32
CDF_BOUND = 16 * UNIT
"""Largest distance of a uniform from the share of the CDF that its token has: a dozen roundings in the sums,
`e^x` to 4 units and its argument to 3 units of the mean distance from the best logit, of either sign."""
CONFIDENCE_BOUND = 16 * UNIT
"""Largest error of a confidence, times `2 + |log p| + scale (1 + |gumbel|)`: as above, and two logarithms."""
GUMBEL_BOUND = 6 * UNIT
"""Largest error of the noise, times `1 + |gumbel|`: 3 units were found over all uniforms there are."""


def fat(logits: Tensor) -> dict[str, Config]:
    """Few programs in the interpreter, whose time follows their number; what was tuned on a device."""
    if DEVICE == "cuda":
        return {}
    elements = logits.shape[:2].numel() * next_power_of_2(max(logits.shape[2], 8))
    elements = min(next_power_of_2(elements), 1 << 20)  # Triton's largest block
    block = min(next_power_of_2(max(logits.shape[1], 1)), 1024)
    return {"config": config(ELEMENTS=elements), "select_config": config(BLOCK_I=block, BLOCK_J=block)}


def run(inputs: Inputs, **changes: Any) -> tuple[Tensor, Tensor | None]:
    """Tokens and passes after the kernels' decision."""
    given = inputs.fresh(**{**fat(inputs.logits), **changes})
    maskgit_sample(**given)
    return given["tokens"].cpu(), None if given["passes"] is None else given["passes"].cpu()


def expect(inputs: Inputs) -> tuple[Tensor, Tensor | None]:
    """The same from the reference in fp64."""
    given = inputs.fresh(logits=inputs.logits.double())
    decide(**given)
    return given["tokens"].cpu(), None if given["passes"] is None else given["passes"].cpu()


def gap(p: Tensor, u: Tensor, token: Tensor) -> Tensor:
    """How far uniforms lie outside their tokens' shares of the distribution function; 0 within. fp64."""
    cdf = p.cumsum(-1) / p.sum(-1, keepdim=True)
    end = cdf.gather(-1, token[..., None])[..., 0]
    start = end - p.gather(-1, token[..., None])[..., 0]
    return torch.maximum(start - u, u - end).clamp(min=0)


def assert_same(found: Tensor, expected: Tensor, inputs: Inputs, scale: Tensor | None) -> None:
    """Asserts that tokens `[B, N]` differ in draws on a boundary only. `scale` `[B]` is the noise's."""
    if torch.equal(found, expected):
        return
    num_rows, num_tokens = found.shape
    places = torch.arange(num_tokens)[None] if inputs.places is None else inputs.places.cpu().long()
    places = places.expand(num_rows, -1)
    u, noise_u = (
        x.gather(1, places).double()
        for x in uniforms(inputs.seeds.cpu(), inputs.frames.cpu(), inputs.pass_index, num_tokens)
    )
    before = inputs.tokens.cpu().gather(1, places)
    after = found.gather(1, places)
    chosen = (before < 0) & (after >= 0)
    p = (inputs.logits.cpu().double() / inputs.temperature).softmax(-1)
    assert torch.equal(after[before >= 0], before[before >= 0])
    assert torch.equal((found >= 0).sum(1), (expected >= 0).sum(1))
    assert gap(p, u, after.clamp(min=0))[chosen].max() <= CDF_BOUND
    if scale is None:
        assert bool((after >= 0).all())
        return
    drawn = torch.where(chosen, after, sample(p.log(), u, 1.0)[0])
    log_p = p.gather(-1, drawn[..., None])[..., 0].log()
    noise = -(-(noise_u + 2.0**-25).log()).log()
    confidence = log_p + scale[:, None] * noise
    bound = CONFIDENCE_BOUND * (2 + log_p.abs() + scale[:, None] * (1 + noise.abs()))
    worst = torch.where(chosen, confidence + bound, torch.inf).amin(1)
    best = torch.where(chosen | (before >= 0), -torch.inf, confidence - bound).amax(1)
    assert (worst >= best).all()


@triton.jit
def gumbel_kernel(u, out, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, gumbel(tl.load(u + i)))


def test_noise_is_exact_to_its_bound_at_both_ends_and_between() -> None:
    ends = torch.arange(1 << 14)
    k = torch.cat([ends, (1 << 24) - 1 - ends, (1 << 23) - (1 << 13) + ends, ends * 1021])
    u = (k.double() * UNIT).float()
    out = torch.full_like(u, torch.nan, device=DEVICE)
    gumbel_kernel[(16,)](u.to(DEVICE), out, BLOCK=len(k) // 16)  # few programs here, no large ones on a GPU
    missing = 1 - u.double() - UNIT / 2  # exact
    expected = -(-torch.where(u < 0.5, (u.double() + UNIT / 2).log(), torch.log1p(-missing))).log()
    error = (out.cpu().double() - expected).abs() / (1 + expected.abs())
    assert error.max() <= GUMBEL_BOUND
    assert float(out.max()) > 17.3 and float(out.min()) < -2.8  # the ends were among them


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("num_codes", "num_tokens", "temperature"),
    [(1, 5, 1.0), (7, 600, 0.7), (1000, 500, 1.0), (1024, 900, 40.0), (16384, 60, 2.0)],
)
def test_every_token_is_its_uniforms_inverse(
    dtype: torch.dtype, num_codes: int, num_tokens: int, temperature: float
) -> None:
    inputs = make_inputs(
        dtype, DEVICE, num_rows=1, num_tokens=num_tokens, num_codes=num_codes, temperature=temperature
    )
    scratch = torch.full((4, 1, num_tokens), -7, dtype=torch.int32, device=DEVICE)
    run(inputs, scratch=scratch)
    token = scratch[0].cpu().long()
    assert token.min() >= 0 and token.max() < num_codes
    p = (inputs.logits.cpu().double() / temperature).softmax(-1)
    u, noise_u = uniforms(inputs.seeds.cpu(), inputs.frames.cpu(), 0, num_tokens)
    assert gap(p, u.double(), token).max() <= CDF_BOUND
    own = p.gather(-1, token[..., None])[..., 0]
    p, log_p, gumbel_noise = scratch[1:].cpu().view(torch.float32).double()
    for found in (p.log(), log_p):
        assert ((found - own.log()).abs() <= CONFIDENCE_BOUND * (2 + own.log().abs())).all()
    noise = -(-(noise_u.double() + UNIT / 2).log()).log()
    assert ((gumbel_noise - noise).abs() <= GUMBEL_BOUND * (1 + noise.abs())).all()


def test_a_gap_is_seen() -> None:
    """The check itself: the neighbours of a right token are wrong by more than the bound."""
    p = torch.full((1, 4), 0.25, dtype=torch.float64)
    u = torch.tensor([0.3], dtype=torch.float64)
    gaps = [float(gap(p, u, torch.tensor([token]))) for token in range(4)]
    assert gaps == pytest.approx([0.05, 0, 0.2, 0.45])


def test_a_token_that_cannot_come_never_does() -> None:
    inputs = make_inputs(torch.float32, DEVICE, num_rows=1, num_tokens=2000, num_codes=37)
    possible = torch.rand(1, 2000, 37, generator=torch.Generator().manual_seed(3)) < 0.1
    possible[..., 5] = True
    inputs.logits.masked_fill_(~possible.to(DEVICE), -torch.inf)
    found, _ = run(inputs, targets=None, noise=None)
    assert possible[0, torch.arange(2000), found[0]].all()


@pytest.mark.parametrize(("temperature", "spread"), [(1e-6, 1), (1e6, 1), (1.0, 1e4)])
def test_extreme_temperatures_and_logits(temperature: float, spread: float) -> None:
    inputs = make_inputs(torch.float32, DEVICE, num_tokens=100, num_codes=50, temperature=temperature)
    inputs.logits.mul_(spread)
    found, _ = run(inputs, targets=None, noise=None)
    expected = inputs.fresh(logits=inputs.logits.double(), targets=None, noise=None)
    decide(**expected)
    assert_same(found, expected["tokens"].cpu(), inputs, None)


# Whole frames, pass by pass, against the runtime's formulas.

CONFIG = make_config(grid=(4, 7))
NUM_TOKENS, NUM_CODES = 28, 40
SEEDS, FRAMES = torch.tensor([-3, 1 << 45]), torch.tensor([0, 2**32 - 1])


def make_logits(k: int, count: int = NUM_TOKENS) -> Tensor:
    """Half of the tokens are sure of themselves."""
    generator = torch.Generator().manual_seed(100 + k)
    spread = torch.where(torch.rand(2, count, 1, generator=generator) < 0.5, 20.0, 1.0)
    return spread * torch.randn(2, count, NUM_CODES, generator=generator)


def make_tables(plan: Plan) -> tuple[Tensor, Tensor]:
    """Targets and noise of the plan, or of all that "adaptive" may choose from."""
    shorter = range(1 if plan.order == "adaptive" else plan.passes, plan.passes + 1)
    plans = [plan.replace(passes=passes) for passes in shorter]
    targets = [[own.decided_after(k, NUM_TOKENS) for k in range(plan.passes)] for own in plans]
    noise = [[own.noise_in(k) if k < own.passes else 0.0 for k in range(plan.passes)] for own in plans]
    return torch.tensor(targets, dtype=torch.int32), torch.tensor(noise)


def frame_of(plan: Plan) -> Iterator[tuple[Inputs, Tensor, Tensor | None, Tensor | None]]:
    """Pass by pass what goes in, the tokens and passes that the runtime makes of it, and the noise."""
    tokens = torch.full((2, NUM_TOKENS), -1)
    schedule = Schedule.of(plan, 2, NUM_TOKENS, tokens.device)
    targets, noise = (None, None) if plan.static_order is not None else make_tables(plan)
    adapts, fresh = plan.order == "adaptive", plan.reuse == "frames"
    passes = torch.full((2,), 9, dtype=torch.int32) if adapts else None
    order = decision_order(plan, CONFIG, SEEDS, FRAMES) if plan.static_order is not None else None
    done = 0
    for k in range(plan.passes):
        index = torch.arange(NUM_TOKENS).expand(2, -1)
        places = None
        if order is not None:
            places = order[:, done : (done := plan.decided_after(k, NUM_TOKENS))]
        elif fresh and k == 0:
            places = torch.rand(2, NUM_TOKENS, generator=torch.Generator().manual_seed(5)).argsort(1)[:, :20]
        index = index if places is None else places.expand(2, -1)
        logits = make_logits(k, index.shape[1])
        u, noise_u = (x.gather(1, index) for x in uniforms(SEEDS, FRAMES, k, NUM_TOKENS))
        candidates, p = sample(logits.double(), u, plan.temperature)
        before = tokens.gather(1, index)
        if adapts and k == 0:
            schedule = Schedule.after_first_pass(plan, p)
        scale = None
        if order is not None:
            chosen = before < 0
        elif k < max(schedule.passes):
            chosen, scale = schedule.select(k, p, before >= 0, noise_u), schedule.noise[:, k]
        else:  # the CUDA back end runs on, and nothing may change
            chosen, scale = torch.zeros_like(before, dtype=torch.bool), torch.zeros(2)
        inputs = Inputs(
            logits=logits.to(DEVICE), tokens=tokens.to(DEVICE), seeds=SEEDS.to(DEVICE),
            frames=FRAMES.to(DEVICE), pass_index=k, temperature=plan.temperature,
            places=None if places is None else places.to(DEVICE),
            targets=None if targets is None else targets.to(DEVICE),
            noise=None if noise is None else noise.to(DEVICE),
            passes=None if passes is None else passes.to(DEVICE),
            threshold=plan.threshold if adapts and k == 0 else None,
        )  # fmt: skip
        tokens = tokens.scatter(1, index, torch.where(chosen, candidates, before))
        passes = torch.tensor(schedule.passes, dtype=torch.int32) if adapts else None
        yield inputs, tokens, passes, scale
    assert (tokens >= 0).all()


PLANS = {
    "maskgit": Plan(order="maskgit", passes=4, temperature=1.3),
    "maskgit without noise": Plan(order="maskgit", passes=3, noise=0.0),
    "frames": Plan(order="maskgit", passes=3, reuse="frames", noise=2.0),
    "adaptive": Plan(order="adaptive", passes=5, threshold=0.7),
    "random": Plan(order="random", passes=3),
    "halton": Plan(order="halton", passes=3, temperature=0.5),
}


@pytest.mark.parametrize("name", PLANS)
def test_a_frame_is_the_runtimes(name: str) -> None:
    """Teacher-forced: every pass starts from the runtime's tokens."""
    for inputs, tokens, passes, scale in frame_of(PLANS[name]):
        found, found_passes = run(inputs)
        assert_same(found, tokens, inputs, scale)
        assert passes is None or torch.equal(found_passes, passes)


@pytest.mark.parametrize("name", PLANS)
def test_a_frame_of_the_reference_is_the_runtimes(name: str) -> None:
    for inputs, tokens, passes, _ in frame_of(PLANS[name]):
        found, found_passes = expect(inputs)
        assert torch.equal(found, tokens)
        assert passes is None or torch.equal(found_passes, passes)


def test_adaptive_rows_take_different_numbers_of_passes() -> None:
    """Else the frames above would show nothing of it."""
    _, _, passes, _ = next(frame_of(PLANS["adaptive"]))
    assert passes is not None and 1 < int(passes.min()) < 5


@pytest.mark.parametrize("num_decided", [0, 20])
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_rows_are_decided_as_few_are(
    dtype: torch.dtype, num_decided: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where bytes count logits of decided tokens are not read. Nowhere do they matter."""
    inputs = make_inputs(dtype, DEVICE, num_rows=3, num_tokens=37, num_decided=num_decided, pass_index=14)
    inputs.logits[inputs.tokens >= 0] = torch.nan
    expected = make_inputs(dtype, DEVICE, num_rows=3, num_tokens=37, num_decided=num_decided, pass_index=14)
    few, _ = run(inputs)
    monkeypatch.setattr(kernel, "ONE_WAVE", 0)
    many, _ = run(inputs)
    assert torch.equal(few, many)
    assert_same(few, expect(expected)[0], expected, inputs.noise[:, 14].cpu().expand(3))


def test_a_row_does_not_depend_on_its_batch() -> None:
    inputs = make_inputs(torch.float32, DEVICE, num_rows=3, adaptive=True, threshold=0.5)
    together, passes = run(inputs)
    for row in (2, 0):
        one = {name: getattr(inputs, name)[row : row + 1] for name in ("logits", "seeds", "frames")}
        alone = inputs.fresh(**one, **fat(inputs.logits))
        alone |= {"tokens": alone["tokens"][row : row + 1], "passes": alone["passes"][row : row + 1]}
        maskgit_sample(**alone)
        assert torch.equal(alone["tokens"].cpu(), together[row : row + 1])
        assert torch.equal(alone["passes"].cpu(), passes[row : row + 1])


@pytest.mark.parametrize("num_places", [1, 10])
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_places_may_be_rows_of_a_longer_order(num_places: int, dtype: torch.dtype) -> None:
    inputs = make_inputs(torch.float32, DEVICE, num_places=num_places, ranked=False)
    order = torch.full((2, 48), -99, dtype=dtype, device=DEVICE)
    order[:, 5 : 5 + num_places] = inputs.places
    found, _ = run(inputs, places=order[:, 5 : 5 + num_places])
    assert_same(found, expect(inputs)[0], inputs, None)
    shared = inputs.fresh(places=inputs.places[:1])
    decide(**shared)
    for places in (inputs.places[:1], inputs.places[:1].expand(2, -1)):
        assert torch.equal(run(inputs, places=places)[0], shared["tokens"].cpu())


def test_what_is_decided_already_keeps_its_value() -> None:
    for changes in ({"ranked": False}, {"pass_index": 24}):  # with an order; in the last pass
        inputs = make_inputs(torch.float32, DEVICE, num_decided=30, **changes)
        found, _ = run(inputs)
        before = inputs.tokens.cpu()
        assert (found >= 0).all() and torch.equal(found[before >= 0], before[before >= 0])


def test_a_tie_goes_to_the_lower_place() -> None:
    """Among all tokens, whichever program or block they are in."""
    inputs = make_inputs(torch.float32, DEVICE, num_rows=1, num_tokens=200, num_codes=4)
    inputs.logits.zero_()
    inputs.noise.zero_()
    inputs.targets.fill_(70)
    found, _ = run(inputs, select_config=SELECT_SPACE[0])
    assert ((found >= 0).cpu() == (torch.arange(200) < 70)).all()


def test_nan_logits_harm_their_row_only() -> None:
    inputs = make_inputs(torch.float32, DEVICE)
    expected, _ = run(inputs)
    inputs.logits[0] = torch.nan
    inputs.logits[0, ::2] = torch.inf
    found, _ = run(inputs)
    assert torch.equal(found[1], expected[1])
    assert found[0].min() >= -1 and found[0].max() < 64
    assert torch.equal((found >= 0).sum(1), (expected >= 0).sum(1))


def guarded(x: Tensor) -> tuple[Tensor, Tensor]:
    """A copy amid 64 cells of NaN (or -99) before and after, and all of it."""
    fill = torch.nan if x.is_floating_point() else -99
    whole = torch.full((x.numel() + 128,), fill, dtype=x.dtype, device=x.device)
    inner = whole[64 : 64 + x.numel()].view_as(x)
    return inner.copy_(x), whole


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("adaptive", [False, True])
def test_nothing_outside_is_read_or_written(dtype: torch.dtype, adaptive: bool) -> None:
    threshold = 0.5 if adaptive else None
    inputs = make_inputs(dtype, DEVICE, num_tokens=37, num_codes=35, adaptive=adaptive, threshold=threshold)
    expected, _ = expect(inputs)
    given = inputs.fresh(
        scratch=torch.zeros(4, 2, 37, dtype=torch.int32, device=DEVICE), **fat(inputs.logits[:1, :9])
    )
    wholes = {}
    for name, value in given.items():
        if isinstance(value, Tensor):
            given[name], wholes[name] = guarded(value)
    maskgit_sample(**given)
    scale = None if adaptive else inputs.noise[:, 0].cpu().expand(2)
    assert_same(given["tokens"].cpu(), expected, inputs, scale)
    for name in ("tokens", "scratch", "passes"):
        if name in wholes:
            margins = torch.cat([wholes[name][:64], wholes[name][-64:]])
            assert (margins == -99).all()


@pytest.mark.parametrize("ranked", [False, True])
def test_places_that_do_not_exist_are_passed_over(ranked: bool) -> None:
    inputs = make_inputs(torch.float32, DEVICE, num_places=8, ranked=ranked, pass_index=24)
    expected = expect(inputs)[0]
    hole = inputs.places[:, 2:5].long().cpu()
    inputs.places[:, 2:5] = torch.tensor([-1, 48, 2**31 - 1], dtype=torch.int32)
    given = inputs.fresh(**fat(inputs.logits))
    given["tokens"], whole = guarded(given["tokens"])
    maskgit_sample(**given)
    assert (whole[:64] == -99).all() and (whole[-64:] == -99).all()
    assert torch.equal(given["tokens"].cpu(), expected.scatter(1, hole, -1))


@pytest.mark.parametrize("passes", [-7, 0, 26, 2**31 - 1])
def test_numbers_of_passes_that_no_schedule_has_take_the_nearest(passes: int) -> None:
    inputs = make_inputs(torch.float32, DEVICE, adaptive=True)
    inputs.passes.fill_(min(max(passes, 1), 25))
    expected, _ = run(inputs)
    inputs.passes.fill_(passes)
    assert torch.equal(run(inputs)[0], expected)


@pytest.mark.parametrize("index", range(max(len(AUTOTUNE_SPACE), len(SELECT_SPACE))))
def test_every_configuration_decides_the_same(index: int) -> None:
    inputs = make_inputs(torch.float16, DEVICE, num_rows=1, num_tokens=70, num_codes=100)
    found, _ = run(
        inputs,
        config=AUTOTUNE_SPACE[index % len(AUTOTUNE_SPACE)],
        select_config=SELECT_SPACE[index % len(SELECT_SPACE)],
    )
    assert_same(found, expect(inputs)[0], inputs, inputs.noise[:, 0].cpu())


def test_a_decision_into_another_tensor_leaves_the_tokens() -> None:
    inputs = make_inputs(torch.float32, DEVICE, num_decided=10, pass_index=8)
    given = inputs.fresh(**fat(inputs.logits))
    out = inputs.tokens.clone()
    assert maskgit_sample(**given, out=out) is out
    assert torch.equal(given["tokens"], inputs.tokens)
    assert torch.equal(out.cpu(), run(inputs)[0])


def test_nothing_to_decide_is_no_error() -> None:
    for sizes in ({"num_places": 0, "ranked": False}, {"num_rows": 0}):
        inputs = make_inputs(torch.float32, DEVICE, **sizes)
        assert torch.equal(run(inputs)[0], inputs.tokens.cpu())


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="runs the presets' sizes, and so needs a CUDA device")
@pytest.mark.parametrize("dtype", DTYPES)
def test_cases_are_right(dtype: torch.dtype) -> None:
    for case in cases(dtype, torch.device(DEVICE)):
        for found, expected in zip(case.run(), case.reference(), strict=True):
            assert torch.equal(found, expected), case.name


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE != "cuda", reason="CUDA graphs need a CUDA device")
def test_a_graph_decides_the_next_frame_from_new_tensors() -> None:
    inputs = make_inputs(torch.float32, DEVICE, num_tokens=256, num_codes=1024)
    given = inputs.fresh(scratch=torch.empty(4, 2, 256, dtype=torch.int32, device=DEVICE))
    maskgit_sample(**given)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        maskgit_sample(**given)
    other = make_inputs(torch.float32, DEVICE, num_tokens=256, num_codes=1024, seed=1)
    for name in ("logits", "tokens", "seeds", "frames"):
        given[name].copy_(getattr(other, name))
    graph.replay()
    assert_same(given["tokens"].cpu(), expect(other)[0], other, other.noise[:, 0].cpu().expand(2))

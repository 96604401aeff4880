"""One MaskGIT decision: samples follow the softmax, and the surest of them are kept."""

import math
from typing import Any

import pytest
import torch
from makers import make_tensor
from torch import Tensor

from genie_rt.kernels.maskgit_sample.reference import maskgit_sample
from genie_rt.kernels.philox.reference import uniforms

B, N, V = 2, 9, 12
UNDECIDED = -1


def sample(logits: Tensor, u: Tensor, noise_u: Tensor | None = None, **changes: Any) -> tuple[Tensor, Tensor]:
    """Decides everything at temperature 1 without noise, where nothing else is asked for."""
    given = {
        "tokens": torch.full(u.shape, UNDECIDED),
        "decided": torch.zeros(u.shape, dtype=torch.bool),
        "keep": u.shape[1],
        "temperature": 1.0,
        "noise": 0.0,
    } | changes
    noise_u = torch.full_like(u, 0.5) if noise_u is None else noise_u
    return maskgit_sample(logits, u=u, noise_u=noise_u, **given)


def make_u(batch: int = B, num_tokens: int = N, seed: int = 0) -> tuple[Tensor, Tensor]:
    seeds = torch.arange(batch) + 1000 * seed
    return uniforms(seeds, torch.zeros(batch, dtype=torch.int64), 0, num_tokens)


def plain(
    logits: Tensor, tokens: Tensor, decided: Tensor, u: Tensor, noise_u: Tensor, *, keep: int,
    temperature: float, noise: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The docstring's formulas on Python's floats, one token at a time."""
    tokens, decided = tokens.clone(), decided.clone()
    for b in range(logits.shape[0]):
        candidates = []
        for i in range(logits.shape[1]):
            scores = [score / temperature for score in logits[b, i].tolist()]
            top = max(scores)
            weights = [math.exp(score - top) for score in scores]
            cdf, candidate = 0.0, len(scores) - 1
            for index, weight in enumerate(weights):
                cdf += weight / sum(weights)
                if cdf > float(u[b, i]):
                    candidate = index
                    break
            gumbel = -math.log(-math.log(float(noise_u[b, i]) + 2.0**-25))
            confidence = math.log(weights[candidate] / sum(weights)) + noise * gumbel
            if not decided[b, i]:
                candidates.append((-confidence, i, candidate))
        for _, i, candidate in sorted(candidates)[:keep]:
            tokens[b, i], decided[b, i] = candidate, True
    return tokens, decided


@pytest.mark.parametrize(
    ("keep", "temperature", "noise"),
    [(N, 1.0, 0.0), (4, 1.0, 0.0), (4, 0.3, 1.0), (1, 5.0, 0.1), (0, 1.0, 1.0), (N + 5, 2.0, 1.0)],
)
@pytest.mark.parametrize("seed", range(5))
def test_decision_is_its_formula(keep: int, temperature: float, noise: float, seed: int) -> None:
    logits = 2 * make_tensor(B, N, V, seed=seed)
    u, noise_u = make_u(seed=seed)
    decided = make_tensor(B, N, seed=seed + 50) > 0.5
    tokens = torch.where(decided, torch.arange(N).expand(B, N) % V, UNDECIDED)
    given = {"keep": keep, "temperature": temperature, "noise": noise}
    found = maskgit_sample(logits, tokens, decided, u, noise_u, **given)
    expected = plain(logits, tokens, decided, u, noise_u, **given)
    assert torch.equal(found[0], expected[0]) and torch.equal(found[1], expected[1])


def test_samples_follow_the_softmax() -> None:
    logits = 1.5 * make_tensor(1, 1, V)
    u, _ = make_u(16, 5000)
    for temperature in (0.5, 1.0, 2.0):
        tokens, _ = sample(logits.expand(16, 5000, V), u, temperature=temperature)
        expected = (logits[0, 0] / temperature).softmax(-1) * tokens.numel()
        found = torch.bincount(tokens.flatten(), minlength=V)
        assert ((found - expected).square() / expected).sum() < 31.3  # chi-square, 11 degrees: p = 0.001


def test_a_cold_temperature_takes_the_best_and_a_hot_one_takes_any() -> None:
    logits = make_tensor(4, 200, V)
    u, _ = make_u(4, 200)
    cold, _ = sample(logits, u, temperature=1e-6)
    assert torch.equal(cold, logits.argmax(-1))
    hot, _ = sample(logits, u, temperature=1e6)
    assert (hot - (u * V).long()).abs().max() <= 1  # the uniform distribution's own inverse, but for rounding
    assert ((hot - (u * V).long()) != 0).float().mean() < 0.01


def test_u_of_zero_gives_the_first_token_that_can_come() -> None:
    logits = torch.zeros(1, 2, V)
    logits[0, 1, :3] = -1e4  # their probability underflows to nothing
    assert sample(logits, torch.zeros(1, 2))[0].tolist() == [[0, 3]]


def test_u_on_a_boundary_gives_the_token_above_it() -> None:
    logits = torch.zeros(1, 4, 4)  # the distribution function is 0.25, 0.5, 0.75, 1 exactly
    u = torch.tensor([[0.25, 0.5, 0.75 - 2.0**-24, 0.75]])
    assert sample(logits, u)[0].tolist() == [[1, 2, 2, 3]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_u_close_to_one_gives_a_token_where_the_probabilities_sum_to_less(dtype: torch.dtype) -> None:
    logits = make_tensor(50, 20, 1024, dtype=dtype)
    u = torch.full((50, 20), 1 - 2.0**-24)
    total = logits.float().log_softmax(-1).exp().cumsum(-1)[..., -1]
    assert (total <= u).any()  # else the test sees nothing
    tokens, decided = sample(logits, u)
    assert decided.all()
    assert tokens.max() <= 1023 and tokens.min() >= 1000


@pytest.mark.parametrize("keep", [0, 1, 4, 8, 9, 100])
def test_as_many_are_decided_as_asked_for(keep: int) -> None:
    u, noise_u = make_u()
    _, decided = sample(make_tensor(B, N, V), u, noise_u, keep=keep, noise=1.0)
    assert decided.sum(1).tolist() == [min(keep, N)] * B


def test_the_surest_are_kept() -> None:
    logits = torch.zeros(1, N, V)
    strength = torch.tensor([3.0, 1, 4, 1.5, 9, 2, 6, 5, 3.5])
    logits[0, :, 7] = strength
    cdf_before_7 = logits.softmax(-1).cumsum(-1)[..., 6]
    tokens, decided = sample(logits, cdf_before_7 + 1e-3, keep=4)
    assert decided[0].nonzero().flatten().tolist() == [2, 4, 6, 7]
    assert tokens[0, decided[0]].tolist() == [7] * 4
    assert (tokens[0, ~decided[0]] == UNDECIDED).all()


def test_a_tie_goes_to_the_lower_position() -> None:
    logits = torch.zeros(1, 200, V)
    _, decided = sample(logits, make_u(1, 200)[0], keep=70)
    assert decided[0].tolist() == [True] * 70 + [False] * 130


def test_decided_tokens_keep_their_value_and_count_for_nothing() -> None:
    decided = torch.zeros(1, N, dtype=torch.bool)
    decided[0, [0, 4]] = True
    tokens = torch.where(decided, 5, UNDECIDED)
    logits = make_tensor(1, N, V)
    logits[0, [0, 4], 1] = 50  # certain, and of another opinion
    new_tokens, new_decided = sample(logits, make_u(1)[0], tokens=tokens, decided=decided, keep=3)
    assert new_tokens[0, [0, 4]].tolist() == [5, 5]
    assert int(new_decided.sum()) == 5 and new_decided[0, [0, 4]].all()
    assert (new_tokens[0, ~new_decided[0]] == UNDECIDED).all()


def test_everything_decided_stays_as_it_is() -> None:
    tokens = torch.arange(N).expand(B, N) % V
    decided = torch.ones(B, N, dtype=torch.bool)
    found = sample(make_tensor(B, N, V), make_u()[0], tokens=tokens, decided=decided, keep=3)
    assert torch.equal(found[0], tokens) and found[1].all()


def test_inputs_are_not_written_to() -> None:
    u, noise_u = make_u()
    given = [
        make_tensor(B, N, V),
        torch.full((B, N), UNDECIDED),
        torch.zeros(B, N, dtype=torch.bool),
        u,
        noise_u,
    ]
    before = [x.clone() for x in given]
    maskgit_sample(*given, keep=4, temperature=1.0, noise=1.0)
    assert all(torch.equal(x, y) for x, y in zip(given, before, strict=True))


def test_noise_changes_what_is_kept_and_not_what_is_sampled() -> None:
    logits, (u, noise_u) = make_tensor(B, N, V), make_u()
    quiet = sample(logits, u, noise_u, keep=4)
    loud = sample(logits, u, noise_u, keep=4, noise=100.0)
    assert not torch.equal(quiet[1], loud[1])
    both = quiet[1] & loud[1]
    assert torch.equal(quiet[0][both], loud[0][both])
    surest = noise_u.argsort(-1, descending=True)[:, :4].sort(-1).values  # noise drowns the logits
    assert torch.equal(loud[1].nonzero()[:, 1].view(B, 4), surest)


def test_noise_ranks_right_at_both_ends_of_its_uniform() -> None:
    logits, noise_u = torch.zeros(1, 3, V), torch.tensor([[0.0, 0.5, 1 - 2.0**-24]])
    _, decided = sample(logits, torch.full((1, 3), 0.5), noise_u, keep=1, noise=1.0)
    assert decided.tolist() == [[False, False, True]]
    _, decided = sample(logits, torch.full((1, 3), 0.5), noise_u, keep=2, noise=1.0)
    assert decided.tolist() == [[False, True, True]]


def test_gumbel_noise_draws_without_replacement() -> None:
    """With a noise of 1 the first position to be kept follows the confidences' softmax (Gumbel-max trick)."""
    logits = torch.zeros(1, 3, 2).double()
    logits[0, :, 1] = torch.tensor([0.0, 1.0, 3.0])
    rows = 20000
    u = torch.full((rows, 3), 1 - 2.0**-24)  # everybody samples token 1
    _, noise_u = make_u(rows, 3)
    _, decided = sample(logits.expand(rows, 3, 2), u, noise_u, keep=1, noise=1.0)
    expected = logits[0].softmax(-1)[:, 1]
    expected = expected / expected.sum() * rows
    found = decided.sum(0)
    assert ((found - expected).square() / expected).sum() < 13.8  # chi-square, 2 degrees: p = 0.001


def test_a_row_does_not_depend_on_its_batch() -> None:
    logits, (u, noise_u) = make_tensor(4, N, V), make_u(4)
    together = sample(logits, u, noise_u, keep=4, noise=1.0)
    for row in range(4):
        alone = sample(logits[[row]], u[[row]], noise_u[[row]], keep=4, noise=1.0)
        assert torch.equal(alone[0], together[0][[row]]) and torch.equal(alone[1], together[1][[row]])


def test_bf16_logits_are_summed_in_fp32() -> None:
    logits, (u, noise_u) = make_tensor(B, N, 1024, dtype=torch.bfloat16), make_u()
    narrow, wide = (sample(x, u, noise_u, keep=4)[0] for x in (logits, logits.float()))
    assert torch.equal(narrow, wide)

"""The objectives train what is served: the same function, the same codes, and losses that fall."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from makers import make_config, make_pictures, make_tensor, randomise
from torch import Tensor, nn

from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.kernels.vq_lookup.reference import lookup_code, nearest_code
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.config import ConvLamConfig, LamConfig, ModelConfig
from genie_rt.runtime.model.dynamics import NULL_ACTION, UNDECIDED
from genie_rt.runtime.model.lam import build_lam
from genie_rt.runtime.model.st_lam import STLam
from genie_rt.runtime.model.tokenizer import Tokenizer
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan
from genie_rt.training.dynamics import DynamicsObjective, _Random, two_stream_ages
from genie_rt.training.lam import LamObjective, code_vectors
from genie_rt.training.quantiser import CosineQuantiser
from genie_rt.training.tokenizer import TokenizerObjective, psnr_db, target_frames

T = 10  # more than twice the window of 4
CONFIG = make_config(with_lam=True)
CPU = torch.device("cpu")


def make_clips(batch: int = 2, config: ModelConfig = CONFIG) -> tuple[Tensor, Tensor]:
    """Frames `[B, T, H, W, 3]` uint8 and actions `[B, T]`."""
    frames = torch.stack([torch.from_numpy(make_pictures(config, T, seed)) for seed in range(batch)])
    actions = torch.randint(3, (batch, T), generator=torch.Generator().manual_seed(1))
    return frames, actions


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_dynamics(config: ModelConfig = CONFIG, **changes: Any) -> DynamicsObjective:
    tokenizer = Tokenizer(config.tokenizer)
    objective = DynamicsObjective(config, tokenizer, **changes)
    randomise(objective, 0)
    tokenizer.requires_grad_(False)
    return objective.double()


class Capture:
    """What the objective asked its model in one call: masked tokens, history, actions; and the logits."""

    def __init__(self, objective: DynamicsObjective, seed: int = 0, **clips: Any) -> None:
        frames, actions = make_clips(**clips)
        ask, score = objective._hidden, objective.model.logits

        def hidden(inputs: Tensor, seen: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
            self.inputs, self.seen, self.actions = inputs, seen, actions
            return ask(inputs, seen, actions)

        def logits(*arguments: Tensor) -> Tensor:
            self.logits = score(*arguments)
            return self.logits

        objective._hidden, objective.model.logits = hidden, logits  # type: ignore[method-assign]
        try:
            self.losses = objective(frames, actions, generator(seed))
        finally:
            del objective._hidden, objective.model.logits
        self.tokens, self.led_by = objective._tokens_and_actions(frames, actions)


# Train as you serve.


@pytest.mark.parametrize("merge", [1, 2])
@pytest.mark.parametrize("corruption", [0.0, 0.6])
def test_the_clean_stream_is_what_the_runtime_caches(merge: int, corruption: float) -> None:
    """Logits of every masked frame equal those of a session that committed the frames before it."""
    config = make_config(grid=(4, 6), merge=merge)
    objective = make_dynamics(config, corruption=corruption)
    with torch.no_grad():
        asked = Capture(objective, config=config)
    assert (asked.inputs == UNDECIDED).float().mean() > 0.5 and (asked.inputs != UNDECIDED).any()
    assert (asked.actions[:, 1:] == NULL_ACTION).any()  # dropped ones take part
    assert torch.equal(asked.seen, asked.tokens) == (corruption == 0)

    model = WorldModel(config)
    model.tokenizer.load_state_dict(objective.tokenizer.state_dict())
    model.dynamics.load_state_dict(objective.model.state_dict())
    backend = ReferenceBackend(model, CPU, torch.float64)
    rows = [
        Row(seed=0, frame_index=0, tokens=tokens[0], action=NULL_ACTION, pending=True,
            dynamics=(), decoder=())
        for tokens in asked.seen
    ]  # fmt: skip
    with torch.no_grad():
        for t in range(1, T):
            rows = backend.commit(rows)
            found = backend.probe(rows, asked.actions[:, t].tolist(), asked.inputs[:, t - 1], Plan(), 0)
            assert (found.logits - asked.logits[:, t - 1]).abs().max() < 1e-9, f"frame {t}"
            rows = [
                replace(row, tokens=asked.seen[i, t], action=int(asked.actions[i, t]), pending=True)
                for i, row in enumerate(rows)
            ]


def test_a_masked_frame_does_not_see_other_masked_frames() -> None:
    objective = make_dynamics()
    asked = Capture(objective)
    before, _ = objective._hidden(asked.inputs, asked.seen, asked.actions)
    other = asked.inputs.clone()
    other[:, 3] = torch.where(other[:, 3] == UNDECIDED, 0, UNDECIDED)
    after, _ = objective._hidden(other, asked.seen, asked.actions)
    changed = (before != after).flatten(2).any(-1).all(0)
    assert changed.tolist() == [t == 3 for t in range(T - 1)]


@pytest.mark.parametrize("context", ["clean", "masked"])
def test_no_frame_sees_its_own_tokens_or_those_to_come(context: str) -> None:
    objective = make_dynamics(context=context)
    asked = Capture(objective)
    before, _ = objective._hidden(asked.inputs, asked.seen, asked.actions)
    assert before.shape == (2, T - 1, CONFIG.num_positions, 16)
    other = asked.seen.clone()
    other[:, 5:] = (other[:, 5:] + 1) % CONFIG.tokenizer.codebook_size  # frame 5 is masked frame 4
    after, _ = objective._hidden(asked.inputs, other, asked.actions)
    assert torch.equal(before[:, :5], after[:, :5])
    assert not torch.equal(before[:, 5], after[:, 5])


def test_masked_context_sees_masks_in_the_past_as_the_paper_does() -> None:
    objective = make_dynamics(context="masked")
    asked = Capture(objective)
    before, _ = objective._hidden(asked.inputs, asked.seen, asked.actions)
    other = asked.inputs.clone()
    other[:, 3] = torch.where(other[:, 3] == UNDECIDED, 0, UNDECIDED)
    after, _ = objective._hidden(other, asked.seen, asked.actions)
    changed = (before != after).flatten(2).any(-1).all(0)
    assert changed.tolist() == [t >= 3 for t in range(T - 1)]


def test_two_streams_see_clean_frames_of_the_band_and_themselves() -> None:
    count, window = 4, 3
    ages = two_stream_ages(count, window)[0].tolist()
    for i in range(count):
        for j in range(count):
            seen = 0 <= i - j < window
            assert ages[i][j] == (i - j if seen else -1)  # clean to clean
            assert ages[i][count + j] == -1  # clean to masked
            age = i + 1 - j  # masked frame i + 1 to clean frame j
            assert ages[count + i][j] == (age if 1 <= age < window else -1)
            assert ages[count + i][count + j] == (0 if i == j else -1)


def test_the_loss_is_the_cross_entropy_of_the_masked_tokens() -> None:
    asked = Capture(make_dynamics())
    masked = asked.inputs == UNDECIDED
    target = asked.tokens[:, 1:]
    score = asked.logits.log_softmax(-1).gather(-1, target[..., None])[..., 0]
    torch.testing.assert_close(asked.losses["loss"], -score[masked].mean())
    hit = (asked.logits.argmax(-1) == target)[masked].double().mean()
    assert float(asked.losses["accuracy"]) == pytest.approx(float(hit))


def test_masks_corruption_and_dropout_come_in_the_shares_stated() -> None:
    objective = make_dynamics(corruption=0.4)
    calls = [Capture(objective, seed, batch=4) for seed in range(20)]
    masked = torch.stack([call.inputs == UNDECIDED for call in calls]).double().mean(-1)  # per frame
    assert 0.45 < (masked == 1).double().mean() < 0.65  # half of the frames, and a few by chance
    assert masked.min() > 0.1 and abs(float(masked.mean()) - 0.875) < 0.03
    wrong = torch.stack([(call.seen != call.tokens).double().mean() for call in calls]).mean()
    assert abs(float(wrong) - 0.2 * 23 / 24) < 0.04  # the mean of U(0, 0.4), less lucky guesses
    actions = torch.stack([call.actions for call in calls])
    assert (actions[:, :, 0] == NULL_ACTION).all()
    assert abs(float((actions[:, :, 1:] == NULL_ACTION).double().mean()) - 0.1) < 0.03
    kept = actions != NULL_ACTION
    assert torch.equal(actions[kept], torch.stack([call.led_by for call in calls])[kept])


def test_latent_actions_replace_those_of_the_data() -> None:
    assert CONFIG.lam is not None
    for inputs in ("pixels", "tokens"):
        lam = STLam(replace(CONFIG.lam, inputs=inputs), CONFIG.tokenizer)
        objective = make_dynamics(lam=lam)
        frames, actions = make_clips()
        _, led_by = objective._tokens_and_actions(frames, actions)
        codes = code_vectors(objective.tokenizer, frames) if inputs == "tokens" else None
        assert torch.equal(led_by[:, 1:], lam.actions(frames, codes))
        assert (led_by[:, 0] == NULL_ACTION).all()


def test_what_dynamics_stand_on_stays_frozen() -> None:
    objective = make_dynamics().train()
    assert objective.model.training and not objective.tokenizer.training
    objective(*make_clips(), generator())["loss"].backward()
    assert all(p.grad is None for p in objective.tokenizer.parameters())
    untrained = [name for name, p in objective.model.named_parameters() if not (p.grad != 0).any()]
    assert untrained == []


@pytest.mark.parametrize("context", ["clean", "masked"])
def test_chance_comes_from_the_generator_alone(context: str) -> None:
    objective = make_dynamics(context=context)
    state = torch.get_rng_state()
    losses = []
    for global_seed, seed in ((0, 5), (1, 5), (0, 6)):
        torch.manual_seed(global_seed)
        before = torch.get_rng_state()
        losses.append(float(objective(*make_clips(), generator(seed))["loss"].detach()))
        assert torch.equal(torch.get_rng_state(), before)
    torch.set_rng_state(state)
    assert losses[0] == losses[1] != losses[2]


# Codes.


def test_the_quantisers_codes_are_those_of_our_lookup() -> None:
    torch.manual_seed(0)
    codebook = nn.Parameter(torch.randn(24, 4))
    quantiser = CosineQuantiser(codebook)
    assert not codebook.requires_grad
    for seed in range(3):
        quantiser(make_tensor(2, 40, 4, seed=seed, dtype=torch.float32))
    quantiser.eval()
    vectors = make_tensor(2, 40, 4, seed=9, dtype=torch.float32)
    quantised, indices, _ = quantiser(vectors)
    learned = quantiser.codebook()
    assert torch.equal(indices, nearest_code(vectors, learned))
    torch.testing.assert_close(quantised, lookup_code(indices, learned))
    torch.testing.assert_close(learned.norm(dim=-1), torch.ones(24))


@pytest.mark.parametrize("kind", ["tokenizer", "lam"])
def test_exported_weights_give_the_codes_that_were_trained(kind: str) -> None:
    torch.manual_seed(0)
    frames, actions = make_clips()
    if kind == "tokenizer":
        objective: Any = TokenizerObjective(CONFIG)
        objective(frames, actions, generator())
        objective.eval()
        vectors, _ = objective.model.encode_vectors(frames, causal_ages(T, 4))
        served: Any = Tokenizer(CONFIG.tokenizer)
        served.load_state_dict(objective.weights())
        found = served.encode(frames, causal_ages(T, 4))[0]
    else:
        objective = LamObjective(CONFIG, None)
        objective(frames, actions, generator())
        objective.eval()
        vectors = objective.model.action_vectors(objective.model.inputs_of(frames))
        assert CONFIG.lam is not None
        served = STLam(CONFIG.lam, CONFIG.tokenizer)
        served.load_state_dict(objective.weights())
        found = served.actions(frames)
    assert torch.equal(found, objective.quantiser(vectors)[1])


def test_a_lam_on_tokens_trains_on_the_tokenizers_vectors() -> None:
    torch.manual_seed(0)
    assert CONFIG.lam is not None
    tokenizer = Tokenizer(CONFIG.tokenizer).requires_grad_(False)
    objective = LamObjective(replace(CONFIG, lam=replace(CONFIG.lam, inputs="tokens")), tokenizer)
    losses = objective(*make_clips(), generator())
    losses["loss"].backward()
    assert objective.model.encoder_in.weight.grad.abs().sum() > 0


def test_psnr_is_that_of_pictures_in_minus_one_to_one() -> None:
    frames = torch.zeros(1, 1, 2, 2, 3, dtype=torch.uint8)
    error = (target_frames(frames, (2, 2)) - target_frames(frames + 1, (2, 2))).square().mean()
    assert float(psnr_db(error)) == pytest.approx(48.13, abs=0.01)  # one step of 255: 20 log10(255)


def test_targets_follow_the_size_of_the_decoder() -> None:
    frames, _ = make_clips()
    assert target_frames(frames, (12, 20)).shape == (2, T, 12, 20, 3)
    assert torch.equal(target_frames(frames, (6, 10)), frames / 127.5 - 1)


# Learning.


def train(objective: nn.Module, steps: int, rate: float = 3e-3) -> list[float]:
    clips = make_clips()
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], lr=rate)
    losses = []
    for step in range(steps):
        loss = objective.train()(*clips, generator(step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize(
    ("kind", "share"), [("tokenizer", 0.7), ("lam", 0.9), ("clean", 0.8), ("masked", 0.85)]
)
def test_a_few_steps_on_a_tiny_problem_lower_the_loss(kind: str, share: float) -> None:
    torch.manual_seed(0)
    objective: nn.Module
    if kind == "tokenizer":
        objective = TokenizerObjective(CONFIG)
    elif kind == "lam":
        objective = LamObjective(CONFIG, None)
    else:
        tokenizer = Tokenizer(CONFIG.tokenizer).requires_grad_(False)
        objective = DynamicsObjective(CONFIG, tokenizer, context=kind)
    losses = train(objective, 40)
    assert sum(losses[-5:]) < share * sum(losses[:5])


def test_own_frames_take_the_place_of_past_ones_in_a_share_of_the_clips() -> None:
    whole = Capture(make_dynamics(corruption=0.0), batch=4)
    mixed = Capture(make_dynamics(corruption=0.0, own_context=0.5), batch=4)
    assert torch.equal(mixed.tokens, whole.tokens)  # the targets stay real
    differs = (mixed.seen != mixed.tokens).any(-1)  # [B, T]
    assert not differs[:, 0].any() and not differs[2:].any()
    assert differs[:2].any()


def test_a_share_that_is_no_whole_number_of_clips_holds_on_average() -> None:
    """One clip a step, as for each of several processes: half of the steps, not all."""
    objective = make_dynamics(corruption=0.0, own_context=0.5)
    steps = [Capture(objective, seed, batch=1) for seed in range(100)]
    mixed = sum(bool((step.seen != step.tokens).any()) for step in steps)
    assert 30 <= mixed <= 60  # half of them, less the clips none of whose frames was drawn


def test_own_frames_are_what_the_model_samples() -> None:
    """With a table that makes one token certain, the model's own frames are that token everywhere."""
    objective = make_dynamics(own_context=1.0)
    score = objective.model.logits

    def certain(hidden: Tensor, previous: Tensor, table: Tensor) -> Tensor:
        logits = score(hidden, previous, table)
        return torch.full_like(logits, -1e9).index_fill_(-1, torch.tensor([5]), 0.0)

    objective.model.logits = certain  # type: ignore[method-assign]
    frames, actions = make_clips()
    tokens, actions = objective._tokens_and_actions(frames, actions)

    seen = objective._with_own_frames(tokens, actions, _Random(generator(), CPU))
    changed = (seen != tokens).any(-1)
    assert changed.any()
    assert (seen[changed] == 5).all()


@pytest.mark.parametrize("inputs", ["logged", "tokens", "conv"])
def test_tokens_and_actions_are_those_that_are_served_whatever_precision_trains(inputs: str) -> None:
    """Under bf16 autocast too: there half of a trained tokenizer's tokens were others than in play."""
    config, lam = CONFIG, None
    if inputs == "conv":
        config = replace(CONFIG, lam=ConvLamConfig(num_actions=3, bottleneck="vq", width=8))
    elif inputs == "tokens":
        assert isinstance(CONFIG.lam, LamConfig)
        config = replace(CONFIG, lam=replace(CONFIG.lam, inputs="tokens"))
    if inputs != "logged":
        lam = build_lam(config).eval()
    objective = DynamicsObjective(config, Tokenizer(config.tokenizer), lam)
    randomise(objective, 0)
    frames, actions = make_clips(batch=4, config=config)
    plain = objective._tokens_and_actions(frames, actions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = objective._tokens_and_actions(frames, actions)
        rounded, _ = objective.tokenizer.encode(frames, causal_ages(T, CONFIG.tokenizer.encoder.window))
    assert all(torch.equal(a, b) for a, b in zip(plain, mixed, strict=True))
    assert not torch.equal(rounded, plain[0])  # else the case shows nothing

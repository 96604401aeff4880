"""The measurement on models whose quality is known: perfect, frozen, deaf to actions."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest
from makers import make_config, make_pictures, make_world

from genie_rt.errors import InputError
from genie_rt.runtime.plan import Plan
from genie_rt.training.evaluation.clips import TrueClips
from genie_rt.training.evaluation.measure import MOVING, Settings, evaluate, generate
from genie_rt.training.evaluation.metrics import MAX_DB
from genie_rt.training.evaluation.rollout import ModelRollouts, Prompted

SETTINGS = Settings(window=2, num_actions=3, plan=Plan(passes=2), passes=(1, 2), prompt_frames=2, batch=4)
MASK = (1 << 32) - 1


def make_clips(num: int = 6, *, static: bool = False, seed: int = 0) -> TrueClips:
    """Noise that scrolls by one, two or three columns as the actions say."""
    random = np.random.default_rng(seed)
    length = SETTINGS.clip_length
    actions = random.integers(0, 3, (num, length))
    ground = random.integers(0, 256, (num, 16, 16, 3), dtype=np.uint8)
    shifts = np.zeros_like(actions) if static else np.cumsum(actions + 1, axis=1)
    frames = np.stack([[np.roll(g, s, axis=1) for s in row] for g, row in zip(ground, shifts, strict=True)])
    actions[:, 0] = -1
    return TrueClips(frames=frames, actions=actions, action_names=("a", "b", "c"), origin={})


class Oracle:
    """Knows the clips and what each action does. A row is (clip, frame)."""

    def __init__(
        self, clips: TrueClips, *, frozen: bool = False, blur: bool = False, deaf: bool = False
    ) -> None:
        self.truth = clips.frames
        self.frozen, self.blur, self.deaf = frozen, blur, deaf

    def start(self, frames, actions, seeds: Sequence[int]):
        return [(seed & MASK, frames[i, -1]) for i, seed in enumerate(seeds)], frames[:, -1].copy()

    def prompt(self, frames, actions, seen: Sequence[int], seeds: Sequence[int]) -> Prompted:
        rows = {
            count: [(seed & MASK, frames[i, count - 1]) for i, seed in enumerate(seeds)] for count in seen
        }
        return Prompted(frames=frames.copy(), rows=rows)

    def play(self, rows, actions, plan: Plan):
        shown = np.empty((*actions.shape, *self.truth.shape[2:]), np.uint8)
        for i, (_, frame) in enumerate(rows):
            for step, action in enumerate(actions[i]):
                shift = 0 if self.frozen else 2 if self.deaf else action + 1
                frame = np.roll(frame, shift, axis=1)
                shown[i, step] = frame
        if self.blur:
            shown = ((shown.astype(int) + np.roll(shown, 1, axis=3)) // 2).astype(np.uint8)
        return shown


def test_a_perfect_model_reaches_the_cap_everywhere() -> None:
    clips = make_clips()
    figures = evaluate(Oracle(clips), clips, SETTINGS)
    assert figures.tokenizer.whole.pooled_db == figures.tokenizer.changed.mean_db == MAX_DB
    assert figures.tokenizer.ssim == pytest.approx(1.0)
    copy, *predicted = figures.next_frame
    assert [row.passes for row in figures.next_frame] == [None, 1, 2, None]
    for row in predicted:
        assert row.all.pooled_db == row.all.mean_db == row.moving.pooled_db == MAX_DB
        assert row.all.num_frames == 12
    assert copy.all.pooled_db < 15
    assert [step.t for step in figures.rollout] == [1, 2, 4, 8]
    for step in figures.rollout:
        assert step.model.pooled_db == step.model.mean_db == MAX_DB
        assert step.copy.pooled_db < 15
        assert step.sharpness == step.motion == 1.0
        assert step.model.num_frames == step.copy.num_frames == 6
    control = figures.controllability
    assert control.true_actions.pooled_db == MAX_DB
    assert control.delta_pooled_db > 30 and control.delta_mean_db > 20


def test_a_frozen_model_has_no_motion_and_scores_as_copying() -> None:
    clips = make_clips()
    figures = evaluate(Oracle(clips, frozen=True), clips, SETTINGS)
    for step in figures.rollout:
        assert step.motion == 0.0 and step.sharpness == pytest.approx(1.0, abs=0.1)
        assert step.model == step.copy
    assert figures.controllability.delta_pooled_db == figures.controllability.delta_mean_db == 0.0


def test_a_model_that_blurs_shows_in_the_sharpness() -> None:
    clips = make_clips()
    assert all(step.sharpness < 0.9 for step in evaluate(Oracle(clips, blur=True), clips, SETTINGS).rollout)


def test_a_model_that_is_deaf_to_actions_has_no_delta() -> None:
    clips = make_clips()
    control = evaluate(Oracle(clips, deaf=True), clips, SETTINGS).controllability
    assert control.delta_pooled_db == control.delta_mean_db == 0.0
    assert control.delta_pooled_db_interval == control.delta_mean_db_interval == (0.0, 0.0)


def test_copying_is_exact_where_nothing_moves() -> None:
    clips = make_clips(static=True)
    figures = evaluate(Oracle(clips, frozen=True), clips, SETTINGS)
    copy = figures.next_frame[0]
    assert copy.all.pooled_db == copy.all.mean_db == MAX_DB
    assert copy.moving.num_frames == 0 and copy.moving.pooled_db is None
    assert figures.tokenizer.changed.num_frames == 0 and figures.tokenizer.changed_share == 0.0
    assert all(step.copy.mean_db == MAX_DB and step.motion is None for step in figures.rollout)


def test_only_frames_above_the_threshold_move() -> None:
    clips = make_clips(4, static=True)
    frames = clips.frames.copy()
    frames[0, 2:] = frames[0, 2:] ^ 1  # every value changes by 1 at frame 2: not above the threshold
    frames[1, 2:] = frames[1, 2:] ^ 2
    clips = dataclasses.replace(clips, frames=frames)
    copy = evaluate(Oracle(clips, frozen=True), clips, SETTINGS).next_frame[0]
    assert MOVING == 1.0
    assert (copy.all.num_frames, copy.moving.num_frames) == (8, 1)


def test_every_figure_lies_within_its_interval() -> None:
    clips = make_clips(8)
    figures = evaluate(Oracle(clips, blur=True), clips, SETTINGS)
    pairs = [(figures.tokenizer.ssim, figures.tokenizer.ssim_interval)]
    control = figures.controllability
    pairs += [(control.delta_pooled_db, control.delta_pooled_db_interval)]
    pairs += [(control.delta_mean_db, control.delta_mean_db_interval)]
    for step in figures.rollout:
        pairs += [(step.copy.pooled_db, step.copy.pooled_db_interval)]
        pairs += [(step.copy.mean_db, step.copy.mean_db_interval)]
        pairs += [(step.model_ssim, step.model_ssim_interval), (step.copy_ssim, step.copy_ssim_interval)]
        pairs += [(step.sharpness, step.sharpness_interval), (step.motion, step.motion_interval)]
    for value, (low, high) in pairs:
        assert low <= value <= high or value == pytest.approx(low) == pytest.approx(high)
    assert control.delta_mean_db_interval[0] < control.delta_mean_db_interval[1]


def test_one_clip_has_no_interval() -> None:
    clips = make_clips(1)
    figures = evaluate(Oracle(clips), clips, SETTINGS)
    assert figures.rollout[0].model.pooled_db_interval is None
    assert figures.next_frame[1].all.num_frames == 2 and figures.next_frame[1].all.mean_db_interval is None
    assert figures.controllability.delta_mean_db_interval is None


def test_clips_that_are_too_short_are_refused() -> None:
    clips = make_clips()
    short = dataclasses.replace(clips, frames=clips.frames[:, :-1], actions=clips.actions[:, :-1])
    with pytest.raises(InputError, match="expected clips of 10 frames or more, found 9"):
        evaluate(Oracle(clips), short, SETTINGS)


@pytest.mark.parametrize("change", [{"prompt_frames": 0}, {"batch": 0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(InputError, match="expected at least 1 prompt frame"):
        dataclasses.replace(SETTINGS, **change)


def test_the_demo_s_steps_are_those_of_the_issue() -> None:
    settings = dataclasses.replace(SETTINGS, window=8, prompt_frames=4)
    assert settings.rollout_steps == (4, 7, 8, 16, 32)
    assert settings.seen == (8, 16) and settings.clip_length == 36


def test_a_real_model_is_measured_alike_for_one_seed_and_differently_for_another() -> None:
    config = make_config(window=2)
    frames = np.stack([make_pictures(config, SETTINGS.clip_length, seed) for seed in range(5)])
    actions = np.random.default_rng(0).integers(0, 3, frames.shape[:2])
    clips = TrueClips(frames=frames, actions=actions, action_names=("left", "stay", "right"), origin={})
    rollouts = ModelRollouts(make_world(config))
    first, again = (generate(rollouts, clips, SETTINGS) for _ in range(2))
    whole = generate(rollouts, clips, dataclasses.replace(SETTINGS, batch=5))
    other = generate(rollouts, clips, dataclasses.replace(SETTINGS, seed=1))
    np.testing.assert_array_equal(first.rollout, again.rollout)
    np.testing.assert_array_equal(first.random, again.random)
    np.testing.assert_array_equal(first.rollout, whole.rollout)
    np.testing.assert_array_equal(first.next[2], whole.next[2])
    np.testing.assert_array_equal(first.restored, other.restored)
    assert (first.rollout != other.rollout).any()
    assert (first.rollout[:, :4] != first.random).any()


def test_progress_is_told_of_every_clip() -> None:
    clips = make_clips()
    told: list[int] = []
    generate(Oracle(clips), clips, SETTINGS, told.append)
    assert told == [4, 2]

"""The held-out share: a tenth of the frames, by content, in both splits, whatever the files are called."""

import hashlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genie_rt.training.data.heldout import CLIP_FRAMES, MOST, SHARE, held_out_tails, split_pieces

MIN = 16


def digest(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


def tails(lengths: Sequence[int], *, min_frames: int = MIN) -> list[int]:
    return held_out_tails(lengths, [digest(i) for i in range(len(lengths))], min_frames=min_frames)


@st.composite
def scenes(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Lengths and digests, some of them several times."""
    lengths = draw(st.lists(st.integers(MIN, 3000), min_size=1, max_size=40))
    copies = draw(st.lists(st.integers(0, len(lengths) - 1), max_size=10))
    each = [(length, digest(number)) for number, length in enumerate(lengths)]
    return each + [each[number] for number in copies]


def choose(some: Sequence[tuple[int, bytes]]) -> list[int]:
    lengths, digests = zip(*some, strict=True)
    return held_out_tails(lengths, digests, min_frames=MIN)


@given(scenes())
@settings(deadline=None)
def test_both_splits_have_frames_and_training_most(some: list[tuple[int, bytes]]) -> None:
    total, held = sum(length for length, _ in some), sum(choose(some))
    assert 0 < held <= MOST * total
    assert all(0 <= tail <= length for tail, (length, _) in zip(choose(some), some, strict=True))


@given(scenes(), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_the_order_of_scenes_has_no_part_in_it(
    some: list[tuple[int, bytes]], shuffler: random.Random
) -> None:
    expected = dict(zip(some, choose(some), strict=True))
    shuffler.shuffle(some)
    assert dict(zip(some, choose(some), strict=True)) == expected


@given(scenes())
@settings(deadline=None)
def test_identical_scenes_fall_alike(some: list[tuple[int, bytes]]) -> None:
    assert len(set(zip(some, choose(some), strict=True))) == len(set(some))


@given(scenes())
@settings(deadline=None)
def test_a_run_that_holds_a_clip_is_held_out_where_one_can_be(some: list[tuple[int, bytes]]) -> None:
    total = sum(length for length, _ in some)
    counts = {scene: some.count(scene) for scene in some}
    if any(
        length >= CLIP_FRAMES + MIN and CLIP_FRAMES * copies <= MOST * total
        for (length, _), copies in counts.items()
    ):
        assert max(choose(some)) >= CLIP_FRAMES


@given(st.lists(st.integers(MIN, 600), min_size=100, max_size=200))
@settings(deadline=None, max_examples=50)
def test_many_scenes_come_close_to_a_tenth(lengths: list[int]) -> None:
    assert abs(sum(tails(lengths)) - SHARE * sum(lengths)) <= SHARE * sum(lengths) / 4


def test_twenty_equal_scenes_give_two_whole_ones() -> None:
    assert sorted(tails([512] * 20)) == [0] * 18 + [512] * 2


@pytest.mark.parametrize(
    ("length", "held"),
    [
        (6000, 600),  # ten minutes: a tenth
        (400, 40),
        (200, 40),  # a tenth would hold no clip of 40 frames
        (160, 40),
        (159, 16),  # 40 would be more than a quarter
        (100, 16),
        (64, 16),
        (63, 15),  # min_frames would be more than a quarter
        (16, 4),
        (3, 1),
        (2, 0),  # one of two would be half
    ],
)
def test_of_one_scene_the_end_is_held_out(length: int, held: int) -> None:
    assert tails([length]) == [held]


def test_scenes_too_short_to_cut_still_give_some() -> None:
    held = tails([16, 16, 16])
    assert sum(held) == 12 and max(held) == 12


def test_copies_that_are_most_of_the_set_are_cut_alike() -> None:
    same = digest(1)
    assert held_out_tails([400, 400, 50], [same, same, digest(2)], min_frames=MIN) == [18, 18, 50]
    assert held_out_tails([400, 400], [same, same], min_frames=MIN) == [40, 40]


def test_a_scene_is_cut_once_at_the_place_asked_for() -> None:
    assert split_pieces([512, 512, 200], 122, min_frames=MIN) == [
        [(512, "train")],
        [(512, "train")],
        [(78, "train"), (122, "heldout")],
    ]
    assert split_pieces([512, 512, 200], 300, min_frames=MIN) == [
        [(512, "train")],
        [(412, "train"), (100, "heldout")],
        [(200, "heldout")],
    ]


def test_all_or_nothing_is_not_cut() -> None:
    assert split_pieces([512, 20], 0, min_frames=MIN) == [[(512, "train")], [(20, "train")]]
    assert split_pieces([512, 20], 532, min_frames=MIN) == [[(512, "heldout")], [(20, "heldout")]]


def test_no_useless_rest_is_left_beside_a_cut() -> None:
    assert split_pieces([512, 512], 507, min_frames=MIN) == [[(512, "train")], [(512, "heldout")]]
    assert split_pieces([512, 512], 517, min_frames=MIN) == [[(512, "train")], [(512, "heldout")]]


@given(
    st.lists(st.just(64), max_size=6).flatmap(
        lambda whole: st.integers(MIN, 64).map(lambda last: [*whole, last])
    ),
    st.data(),
)
@settings(deadline=None)
def test_parts_add_up_and_train_comes_first(pieces: list[int], data: st.DataObject) -> None:
    total = sum(pieces)
    tail = data.draw(st.integers(0, total - MIN))
    parts = split_pieces(pieces, tail, min_frames=MIN)
    assert [sum(length for length, _ in each) for each in parts] == pieces
    flat = [part for each in parts for part in each]
    assert [split for _, split in flat] == sorted((split for _, split in flat), reverse=True)
    held = sum(length for length, split in flat if split == "heldout")
    assert abs(held - tail) < MIN
    if tail >= MIN:
        assert held > 0 and all(length >= MIN for length, _ in flat)

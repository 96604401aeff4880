"""The work folder: what was measured is found again, and nothing else is."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from makers import make_config, make_world

from genie_rt.bench.quality.measure import Outcome, Protocol, Truth
from genie_rt.bench.quality.work_folder import Work, _load
from genie_rt.errors import InputError
from genie_rt.runtime.plan import Plan
from genie_rt.training.evaluation.clips import TrueClips

PLAN = Plan(passes=2)
PROTOCOL = Protocol(window=2, num_actions=3, prompt_frames=1)
WORLD = make_world(make_config(grid=(4, 6), window=2))
CLIPS = TrueClips(
    frames=np.zeros((2, 9, 8, 12, 3), np.uint8),
    actions=np.zeros((2, 9), np.int64),
    action_names=("a", "b", "c"),
    origin={},
)


def make_outcome() -> Outcome:
    random = np.random.default_rng(0)
    return Outcome(**{field.name: random.random((2, 3)) for field in dataclasses.fields(Outcome)})


def test_an_outcome_comes_back_as_it_was(tmp_path: Path) -> None:
    work = Work.of(tmp_path, WORLD, CLIPS, PROTOCOL)
    assert work.outcome(PLAN) is None
    kept = make_outcome()
    work.keep(PLAN, kept)
    found = Work.of(tmp_path, WORLD, CLIPS, PROTOCOL).outcome(PLAN)
    assert found is not None
    for field in dataclasses.fields(Outcome):
        np.testing.assert_array_equal(getattr(found, field.name), getattr(kept, field.name))
    for other in (PLAN.replace(passes=3), PLAN.replace(temperature=0.5), PLAN.replace(order="halton")):
        assert work.outcome(other) is None


def test_every_setting_has_work_of_its_own(tmp_path: Path) -> None:
    """A measurement never meets another one's figures."""
    digest = make_world(make_config(grid=(4, 6), window=2))
    digest.bundle = dataclasses.replace(digest.bundle, digest="1" * 64)
    narrow = make_world(make_config(grid=(4, 6), window=2))
    narrow.dtype = "float32"
    frames, actions = CLIPS.frames.copy(), CLIPS.actions.copy()
    frames[1, 2, 3, 4, 1] = 1
    actions[1, 3] = 1
    works = [
        Work.of(tmp_path, WORLD, CLIPS, PROTOCOL),
        Work.of(tmp_path, digest, CLIPS, PROTOCOL),
        Work.of(tmp_path, narrow, CLIPS, PROTOCOL),
        Work.of(tmp_path, WORLD, dataclasses.replace(CLIPS, frames=frames), PROTOCOL),
        Work.of(tmp_path, WORLD, dataclasses.replace(CLIPS, actions=actions), PROTOCOL),
        Work.of(tmp_path, WORLD, CLIPS, dataclasses.replace(PROTOCOL, seed=1)),
        Work.of(tmp_path, WORLD, CLIPS, dataclasses.replace(PROTOCOL, prompt_frames=2)),
        Work.of(tmp_path, WORLD, CLIPS, PROTOCOL, "cuda float64 (emulated)"),
    ]
    works[0].keep(PLAN, make_outcome())
    assert len({work.key for work in works}) == len(works)
    assert [work.outcome(PLAN) is None for work in works] == [False, *[True] * 7]


def test_a_broken_file_is_named(tmp_path: Path) -> None:
    work = Work.of(tmp_path, WORLD, CLIPS, PROTOCOL)
    work.keep(PLAN, make_outcome())
    (path,) = work.folder.iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match=f"{path.name}: .* delete it"):
        work.outcome(PLAN)
    with path.open("wb") as file:
        np.savez(file, squared=np.zeros(3))
    with pytest.raises(InputError, match=r"expected .*descriptors.* found squared"):
        work.outcome(PLAN)
    with path.open("wb") as file:
        np.savez(file, squared=np.array([{}], dtype=object))  # a pickle
    with pytest.raises(InputError, match=r"delete it"):
        work.outcome(PLAN)


def test_truth_and_reference_come_back(tmp_path: Path) -> None:
    work = Work.of(tmp_path, WORLD, CLIPS, PROTOCOL)
    assert work.truth() is None and work.reference(5) is None
    truth = Truth(**{field.name: np.ones((2, 2)) for field in dataclasses.fields(Truth)})
    work.keep_truth(truth)
    work.keep_reference(5, np.ones((5, 4, 9), np.float32))
    found = work.truth()
    assert found is not None and found.copied.tolist() == truth.copied.tolist()
    assert work.reference(5).shape == (5, 4, 9)
    assert work.reference(6) is None


def test_times_hold_for_the_settings_that_they_were_taken_under(tmp_path: Path) -> None:
    work = Work.of(tmp_path, WORLD, CLIPS, PROTOCOL)
    assert work.times({"threads": 1}) is None
    work.keep_times({"threads": 1}, {"maskgit-k2": {"p50_ms": 12.5}})
    assert work.times({"threads": 1}) == {"maskgit-k2": {"p50_ms": 12.5}}
    assert work.times({"threads": 2}) is None
    for text in ("[", '{"settings": {"threads": 1}, "times": [1]}', "3"):
        (work.folder / "times.json").write_text(text)
        with pytest.raises(InputError, match=r"delete it"):
            work.times({"threads": 1})


def test_fields_that_a_plan_does_not_read_make_no_other_work(tmp_path: Path) -> None:
    work = Work.of(tmp_path, WORLD, CLIPS, PROTOCOL)
    path = work._path(PLAN)
    for order, reuse, read in (
        ("maskgit", "none", {"noise"}),
        ("adaptive", "none", {"noise", "threshold"}),
        ("halton", "passes", set()),
        ("maskgit", "frames", {"noise", "fresh"}),
    ):
        plan = Plan(order=order, passes=2, reuse=reuse)
        for name, value in {"noise": 0.3, "threshold": 0.4, "fresh": 0.1}.items():
            assert (work._path(plan.replace(**{name: value})) != work._path(plan)) == (name in read)
    assert work._path(PLAN) == path


def test_an_archive_that_inflates_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "truth.npz"
    np.savez_compressed(path, values=np.zeros(1 << 20))
    with pytest.raises(InputError, match=r"truth\.npz: expected entries that are stored as they are"):
        _load(path)
    path.write_bytes(b"PK")
    with pytest.raises(
        InputError, match=r"truth\.npz: expected arrays of an earlier run, a zip archive.*; delete it"
    ):
        _load(path)

"""A long rollout holds its memory, and the instrument that says so sees what grows."""

import gc
import mmap
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import tyro
from makers import make_config, make_pictures, make_world, python_bytes_kept, used_pages

from genie_rt.bench.command_line import words
from genie_rt.bench.commands import LongCommand
from genie_rt.bench.latency import long
from genie_rt.bench.latency.long import (
    LongBody,
    Window,
    play_long,
    resident_bytes,
    slope,
    small_world,
    summarise,
)
from genie_rt.bench.record import Subject, read_record
from genie_rt.cli import main
from genie_rt.errors import InputError
from genie_rt.runtime.backends.reference import ReferenceBackend
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.world import World

SUBJECT = Subject(bundle="tiny", digest="", window=4, backend="reference", dtype="float32")
TINY = {"num_layers": 1, "width": 8, "num_heads": 1, "head_width": 4, "mlp_width": 8}


def tiny_world() -> World:
    return make_world(make_config(grid=(2, 2), window=3, **TINY))


def look_around(session: Session, steps: int) -> None:
    """Steps with fused and idle commits, peeks, snapshots and returns."""
    for step in range(steps):
        if step % 3 == 0:
            session.commit()
        if step % 10 == 0:
            marked = session.snapshot()
            session.peek()
        session.step(step % 3)
        if step % 10 == 5:
            session.restore(marked)


# --- memory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [100, pytest.param(400, marks=pytest.mark.slow)])
def test_thousands_of_steps_hold_pages_and_resident_memory(steps: int) -> None:
    """In a process of its own: where much memory was freed before, the kernel moves resident pages by MBs."""
    folders = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    path = os.pathsep.join(filter(None, folders))
    command = [sys.executable, __file__, str(steps)]
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def hold_memory(steps: int) -> None:
    world = tiny_world()
    session = world.session(plan=Plan(passes=1))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    backend = world.backend
    pools = (backend.dynamics_pages, backend.decoder_pages, backend.encoder_pages)
    look_around(session, steps)
    gc.collect()
    used, held, resident = used_pages(world), [pool.num_pages for pool in pools], resident_bytes()
    for _ in range(4):
        look_around(session, steps)
        gc.collect()
        assert used_pages(world) == used
        assert [pool.num_pages for pool in pools] == held
    assert sum(used) <= 2 * (2 + 2) + 4  # the session's windows, and the mark's
    after = resident_bytes()
    if resident is not None and after is not None:
        # of 1600 steps 655 bytes each, which is a small tensor; an allocator alone moves by a few hundred kB
        assert after - resident < 2**20, f"grew from {resident} to {after} bytes"


def test_steps_leave_no_python_objects_behind() -> None:
    world = tiny_world()
    session = world.session(plan=Plan(passes=1))
    session.reset(make_pictures(world.bundle.config, 1)[0])
    look_around(session, 100)
    # one integer of every step; the instrument's own books are part of what it sees
    assert python_bytes_kept(lambda: look_around(session, 150)) < 150 * 28


@pytest.mark.parametrize(("per_step", "kept"), [(0, 0), (28, 400 * 28)])
def test_what_steps_leave_behind_is_counted(per_step: int, kept: int) -> None:
    leaked: list[bytes] = []

    def leak() -> None:
        leaked.extend(bytes(per_step) for _ in range(400))

    assert kept <= python_bytes_kept(leak) < kept + 400 * 64


# --- the instrument --------------------------------------------------------------------------------------


def windows(count: int = 100, **changes: object) -> list[Window]:
    same = {
        "p50_us": 100.0,
        "control_p50_us": 100.0,
        "resident_bytes": 10**8,
        "used_pages": 6,
        "held_pages": 48,
    }
    return [Window(end=100 * (i + 1), **same | changes) for i in range(count)]


def body(parts: list[Window], steps: int = 10_000) -> LongBody:
    return summarise(SUBJECT, Plan(passes=2), steps, parts)


def test_a_flat_rollout_is_flat() -> None:
    found = body(windows())
    assert (found.memory_growth_bytes, found.first_p50_us, found.last_p50_us) == (0, 100, 100)
    assert found.is_memory_flat and found.is_latency_flat


def test_growth_is_that_of_the_later_half() -> None:
    early = [replace(w, resident_bytes=10**8 - max(0, 50 - i) * 10**6) for i, w in enumerate(windows())]
    assert body(early).memory_growth_bytes == 0  # warming up is no leak
    growing = [replace(w, resident_bytes=10**8 + i * 1000) for i, w in enumerate(windows())]
    assert body(growing).memory_growth_bytes == 49_000


@pytest.mark.parametrize(("per_step", "flat"), [(0, True), (4, True), (56, False)])
def test_a_leak_at_every_step_is_seen(per_step: int, flat: bool) -> None:
    parts = [replace(w, resident_bytes=10**8 + w.end * 10 * per_step) for w in windows()]
    assert body(parts, steps=100_000).is_memory_flat is flat


@pytest.mark.parametrize("name", ["used_pages", "held_pages"])
def test_a_page_that_stays_is_seen(name: str) -> None:
    parts = windows()
    parts[-1] = replace(parts[-1], **{name: getattr(parts[-1], name) + 1})
    assert not body(parts).is_memory_flat
    parts = windows()
    parts[0] = replace(parts[0], **{name: 0})  # pools fill in the beginning
    assert body(parts).is_memory_flat


@pytest.mark.parametrize(("last", "flat"), [(100, True), (108, True), (115, False), (80, False)])
def test_a_change_of_latency_is_seen(last: float, flat: bool) -> None:
    parts = windows(90) + windows(10, p50_us=float(last))
    found = body(parts)
    assert (found.last_p50_us, found.is_latency_flat) == (last, flat)


def test_a_machine_that_slows_down_is_no_change_of_latency() -> None:
    """The young session slows down with it; where only one of the two does, it is one."""
    slower = {"p50_us": 150.0, "control_p50_us": 150.0}
    found = body(windows(50) + windows(50, **slower))
    assert found.last_p50_us == 150 and found.is_latency_flat
    assert not body(windows(50) + windows(50, **slower | {"control_p50_us": 100.0})).is_latency_flat


def test_a_system_without_figures_is_not_judged_by_them() -> None:
    found = body(windows(resident_bytes=None))
    assert found.memory_growth_bytes is None and found.is_memory_flat


def test_the_slope_is_of_least_squares() -> None:
    assert slope([1, 3, 5, 7]) == pytest.approx(2)
    assert slope([0, 0, 6]) == pytest.approx(3)
    assert slope([4]) == 0


def test_resident_memory_follows_what_is_held() -> None:
    before = resident_bytes()
    if before is None:
        pytest.skip("this system does not tell its resident memory")
    with mmap.mmap(-1, 64 * 2**20) as held:  # memory of its own, where the heap may have some to spare
        for page in range(0, len(held), mmap.PAGESIZE):
            held[page] = 1
        after = resident_bytes()
    assert after is not None and 50 * 2**20 < after - before < 80 * 2**20


def test_the_small_world_is_the_same_every_time_and_leaves_the_seed_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = small_world(), small_world()
    assert torch.equal(torch.rand(1), expected)
    for a, b in zip(first.backend.model.parameters(), second.backend.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_rollout_too_short_for_its_windows_is_refused() -> None:
    with pytest.raises(InputError, match="200 steps or more, found 199"):
        play_long(tiny_world(), Plan(passes=1), steps=199, device="cpu", command="x")


# --- the command -----------------------------------------------------------------------------------------


def test_a_bundle_is_named_by_place_as_in_all_commands() -> None:
    command = tyro.cli(LongCommand, args=["demo", "--steps", "130"])
    assert command.bundle == "demo"
    assert words("bench long", command) == "genie-rt bench long demo --steps 130"
    assert tyro.cli(LongCommand, args=[]).bundle is None


def test_a_long_rollout_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(long, "small_world", tiny_world)
    monkeypatch.setattr(long, "WINDOWS", 20)
    monkeypatch.setattr(ReferenceBackend, "name", "other", raising=False)
    path = tmp_path / "long.json"
    assert main(["bench", "long", "--steps", "130", "--json", str(path)]) == 0
    record = read_record(path, LongBody)
    found = record.body
    assert [window.end for window in found.windows] == [-(-130 * i // 20) for i in range(1, 21)]
    assert len({(window.used_pages, window.held_pages) for window in found.windows[10:]}) == 1
    assert all(window.p50_us > 0 for window in found.windows)
    assert record.header.command == "genie-rt bench long --steps 130"
    printed = capsys.readouterr().out
    for text in ("130 steps", "maskgit, other float64 on ", "memory flat", "latency ", "pages in use",
                 "first tenth"):  # fmt: skip
        assert text in printed


def test_a_leak_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world, kept = tiny_world(), []
    frame = world.backend.frame

    def leaking(*arguments: object, **options: object) -> object:
        done = frame(*arguments, **options)
        kept.append(done[0])
        return done

    monkeypatch.setattr(world.backend, "frame", leaking)
    monkeypatch.setattr(long, "small_world", lambda: world)
    monkeypatch.setattr(long, "WINDOWS", 20)
    assert main(["bench", "long", "--steps", "60"]) == 1
    assert "memory GROWS" in capsys.readouterr().out


if __name__ == "__main__":
    hold_memory(int(sys.argv[1]))

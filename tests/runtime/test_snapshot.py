"""A snapshot's bytes bring a session back token for token, and bytes that are wrong bring one error."""

import gc
import hashlib
import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from makers import (
    counted_calls,
    make_actions,
    make_config,
    make_pictures,
    make_world,
    play,
    state_of,
    used_pages,
)
from torch import Tensor

from genie_rt.errors import InputError
from genie_rt.runtime import snapshot as snapshot_module
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.session import Session
from genie_rt.runtime.snapshot import MAGIC, Snapshot
from genie_rt.runtime.world import World

CONFIG = make_config(window=3, decoder_window=4)
PICTURES = make_pictures(CONFIG, 3)
WORLD = make_world(CONFIG)
TWIN = make_world(CONFIG)
LED_BY = make_actions(8)


def started(steps: int = 0, world: World = WORLD, **changes: Any) -> Session:
    session = world.session(seed=2**64 - 7, **changes)
    session.reset(PICTURES[0])
    play(session, LED_BY[:steps])
    return session


# There and back.


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("steps", [0, 1, 2, 6])
@pytest.mark.parametrize("reuse", ["none", "frames"])
def test_another_world_of_the_bundle_goes_on_token_for_token(steps: int, committed: bool, reuse: str) -> None:
    session = started(steps, reuse=reuse)
    if committed:
        session.commit()
    moment = TWIN.load_snapshot(session.snapshot().to_bytes())
    other = TWIN.session(plan=session.plan)
    shown = other.restore(moment)
    assert shown.tobytes() == session.frame.tobytes()
    assert state_of(other) == state_of(session) and other.is_pending is not committed
    assert play(other, LED_BY[:4]) == play(session, LED_BY[:4])


def test_a_file_holds_what_the_bytes_hold(tmp_path: Path) -> None:
    moment = started(3).snapshot()
    path = tmp_path / "new" / "game.snapshot"
    moment.save(path)
    assert path.read_bytes() == moment.to_bytes()
    assert [entry.name for entry in path.parent.iterdir()] == ["game.snapshot"]
    for source in (path, str(path), bytearray(path.read_bytes()), memoryview(path.read_bytes())):
        assert WORLD.load_snapshot(source).to_bytes() == moment.to_bytes()


def test_a_prompt_of_several_pictures_comes_back() -> None:
    session = WORLD.session(seed=3)
    session.reset(PICTURES, LED_BY[:2])
    other = TWIN.session()
    other.restore(TWIN.load_snapshot(session.snapshot().to_bytes()))
    assert play(other, LED_BY) == play(session, LED_BY)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_precision_comes_back_bit_for_bit(dtype: torch.dtype) -> None:
    world = make_world(CONFIG, dtype=dtype)
    session = started(4, world)
    data = session.snapshot().to_bytes()
    moment = make_world(CONFIG, dtype=dtype).load_snapshot(data)
    assert moment.to_bytes() == data
    other = moment.world.session()
    other.restore(moment)
    assert play(other, LED_BY[:3]) == play(session, LED_BY[:3])


def test_a_loaded_snapshot_is_one_like_any_other_and_leaves_no_page() -> None:
    used = used_pages(WORLD)
    session = started(5)
    moment = WORLD.load_snapshot(session.snapshot().to_bytes())
    sessions = [WORLD.session() for _ in range(2)]
    for other in sessions:
        other.restore(moment)[:] = 0
        other.frame[:] = 0
    expected = play(session, LED_BY[:2])
    assert [play(other, LED_BY[:2]) for other in sessions] == [expected] * 2
    del session, sessions, other, moment
    assert used_pages(WORLD) == used


def test_saving_changes_nothing_and_evaluates_nothing() -> None:
    session = started(3)
    row, used = session.row, used_pages(WORLD)
    with counted_calls(WORLD) as calls:
        session.snapshot().to_bytes()
    assert calls == [] and session.row is row and used_pages(WORLD) == used


def test_a_file_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "game.snapshot"
    started(1).snapshot().save(path)
    before = path.read_bytes()

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left"):
        started(2).snapshot().save(path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


# Refusals.


def assert_refused(source: Any, *parts: str, world: World = WORLD) -> None:
    """One `InputError` that says all parts, and nothing has changed."""
    gc.disable()  # an earlier test's rubbish must not give pages back just now
    try:
        used = used_pages(world)
        with pytest.raises(InputError) as caught:
            world.load_snapshot(source)
        assert used_pages(world) == used
    finally:
        gc.enable()
    for part in parts:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 1500


DATA = started(6).snapshot().to_bytes()
FRONT = len(MAGIC) + 4 + 32


def test_cut_anywhere_it_is_refused() -> None:
    for length in {0, 1, len(MAGIC) - 1, len(MAGIC), FRONT - 1, FRONT, FRONT + 4, FRONT + 9, len(DATA) - 1}:
        assert_refused(DATA[:length])
    for length in range(FRONT, len(DATA), len(DATA) // 23):
        assert_refused(DATA[:length], "cut short")
    assert_refused(DATA + b"\0", "damaged")


def test_a_flipped_byte_anywhere_is_refused() -> None:
    for place in [*range(FRONT + 16), *range(FRONT + 16, len(DATA), len(DATA) // 97), len(DATA) - 1]:
        assert_refused(DATA[:place] + bytes([DATA[place] ^ 1]) + DATA[place + 1 :])


def test_a_refusal_leaves_a_session_that_wanted_it() -> None:
    session, alone = started(4), started(4)
    with pytest.raises(InputError):
        session.restore(WORLD.load_snapshot(DATA[:-1]))
    assert play(session, LED_BY[:2]) == play(alone, LED_BY[:2])


def test_another_bundles_snapshot_is_refused_by_both_names() -> None:
    other = make_world(CONFIG, seed=1)
    other.bundle = replace(other.bundle, name="elsewhere")
    assert_refused(started(2, other).snapshot().to_bytes(), "'tiny'", "'elsewhere'", "load that bundle")
    other.bundle = replace(other.bundle, name="tiny")
    assert_refused(
        started(2, other).snapshot().to_bytes(), other.bundle.digest[:12], WORLD.bundle.digest[:12]
    )


def test_other_sizes_under_the_same_digest_are_refused() -> None:
    other = make_world(make_config(window=4, decoder_window=4))
    other.bundle = replace(other.bundle, digest=WORLD.bundle.digest)
    assert_refused(started(2, other).snapshot().to_bytes(), "another bundle")


def test_another_precision_is_refused_with_the_remedy() -> None:
    other = started(2, make_world(CONFIG, dtype=torch.float32)).snapshot().to_bytes()
    assert_refused(other, "float64", "dtype='float32'")


@pytest.mark.parametrize("saver", [torch.float32, torch.bfloat16])
def test_back_ends_of_one_dtype_that_keep_other_pages_take_each_others_snapshots(
    saver: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of bfloat16, where engines of exported graphs keep float32."""
    monkeypatch.setattr(snapshot_module, "MAX_HEADER_BYTES", 2048)  # so that the wider pages need their room
    loader = torch.bfloat16 if saver == torch.float32 else torch.float32
    worlds = {dtype: make_world(CONFIG, dtype=dtype) for dtype in (saver, loader)}
    for world in worlds.values():
        world.dtype = "bfloat16"
    session = started(4, worlds[saver])
    moment = worlds[loader].load_snapshot(session.snapshot().to_bytes())
    assert moment.row.tokens.tolist() == session.row.tokens.tolist()
    for name in ("dynamics", "decoder"):
        for ours, theirs in zip(getattr(moment.row, name), getattr(session.row, name), strict=True):
            found, expected = ours.pool.view(ours), theirs.pool.view(theirs)
            assert found.dtype == loader and torch.equal(found, expected.to(loader))
    other = worlds[loader].session()
    other.restore(moment)
    play(other, LED_BY[:2])


def test_a_number_that_overflows_when_it_is_rounded_is_refused() -> None:
    world = make_world(CONFIG, dtype=torch.bfloat16)
    wide = started(6, make_world(CONFIG, dtype=torch.float32)).snapshot().to_bytes()
    largest = torch.finfo(torch.float32).max
    assert_refused(forge({"dtype": "bfloat16"}, {"decoder": put(largest)}, wide), "finite", world=world)


@pytest.mark.parametrize(
    ("version", "remedy"), [(2, "install a newer genie-rt"), (2**32 - 1, "newer"), (0, "save it again")]
)
def test_another_version_is_refused_with_the_remedy(version: int, remedy: str) -> None:
    data = MAGIC + struct.pack("<I", version) + DATA[len(MAGIC) + 4 :]
    assert_refused(data, "expected snapshot version 1", remedy)


def test_what_is_no_snapshot_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"\x89PNG\r\n\x1a\n" * 20, DATA[1:]):
        assert_refused(data, "begin otherwise")
    assert_refused(tmp_path / "none", "found nothing")
    assert_refused(tmp_path, "found a folder")
    assert_refused("a\0b", "expected a snapshot")
    for source in (None, 7, started(0), started(0).snapshot()):
        assert_refused(source, "path of a snapshot, or its bytes")
    (tmp_path / "long").write_bytes(DATA + bytes(2**22))
    assert_refused(tmp_path / "long", "at most", "long")
    assert_refused(DATA + bytes(2**22), "at most")


# Forgeries: the hash agrees, and what it covers is wrong.


def seal(blob: bytes) -> bytes:
    return MAGIC + struct.pack("<I", 1) + hashlib.sha256(blob).digest() + blob


def forge(
    origin: dict[str, Any] | None = None, tensors: dict[str, Any] | None = None, base: bytes = DATA
) -> bytes:
    """The moment with some of its origin or tensors changed; None leaves a key out."""
    blob = base[FRONT:]
    (length,) = struct.unpack_from("<Q", blob)
    said = json.loads(json.loads(blob[8 : 8 + length])["__metadata__"]["genie-rt"]) | (origin or {})
    said = {name: value for name, value in said.items() if value is not None}
    all_tensors = safetensors.torch.load(blob)
    for name, change in (tensors or {}).items():
        value = change(all_tensors[name].clone()) if callable(change) else change
        all_tensors[name] = value
    kept = {name: value.contiguous() for name, value in all_tensors.items() if value is not None}
    return seal(safetensors.torch.save(kept, {"genie-rt": json.dumps(said)}))


def put(value: float) -> Callable[[Tensor], Tensor]:
    """The last element is another one."""

    def change(tensor: Tensor) -> Tensor:
        tensor.view(-1)[-1] = value
        return tensor

    return change


PENDING = DATA
COMMITTED = started(6, plan=Plan(passes=3, reuse="frames"))
COMMITTED.commit()
WITH_SPATIAL = COMMITTED.snapshot().to_bytes()
FIRST = started(0).snapshot().to_bytes()
NAN = float("nan")

FORGERIES: dict[str, tuple[bytes, str]] = {
    "seed below 0": (forge({"seed": -1}), "a seed"),
    "seed of 65 bits": (forge({"seed": 2**64}), "a seed"),
    "seed as text": (forge({"seed": "7"}), "origin.seed"),
    "frame index below 0": (forge({"frame_index": -1}), "frame index"),
    "frame index beyond int64": (forge({"frame_index": 2**63}), "frame index"),
    "frame index as truth value": (forge({"frame_index": True}), "origin.frame_index"),
    "too young for its pages": (forge({"frame_index": 1}), "pages of the"),
    "action too large": (forge({"action": 3}), "action from 0 to 2"),
    "null action later on": (forge({"action": -1}), "action from 0 to 2"),
    "action at a first frame": (forge({"action": 0}, base=FIRST), "the action -1"),
    "pending at a first frame but not": (forge({"pending": False}, base=FIRST), "pages of the dynamics"),
    "pending as number": (forge({"pending": 1}), "origin.pending"),
    "unknown key": (forge({"plan": "x"}), "'plan'"),
    "missing key": (forge({"seed": None}), "'seed'"),
    "bundle as number": (forge({"bundle": 7}), "origin.bundle"),
    "long name": (forge({"digest": "x", "bundle": "b" * 10**5}), "another bundle"),
    "token too large": (forge(tensors={"tokens": put(24)}), "tokens"),
    "token below 0": (forge(tensors={"tokens": put(-1)}), "tokens"),
    "undecided token": (forge(tensors={"tokens": put(-2)}), "tokens"),
    "tokens of another frame": (forge(tensors={"tokens": lambda x: x[:-1]}), "tokens"),
    "tokens in int32": (forge(tensors={"tokens": Tensor.int}), "tokens"),
    "no tokens": (forge(tensors={"tokens": None}), "tokens"),
    "extra tensor": (forge(tensors={"more": torch.zeros(1)}), "more"),
    "picture of another size": (forge(tensors={"picture": lambda x: x[:-1]}), "picture"),
    "picture in float": (forge(tensors={"picture": Tensor.float}), "picture"),
    "picture of rank 0": (forge(tensors={"picture": torch.zeros((), dtype=torch.uint8)}), "picture"),
    "NaN in a page": (forge(tensors={"dynamics": put(NAN)}), "dynamics"),
    "Inf in a page": (forge(tensors={"decoder": put(float("inf"))}), "decoder"),
    "NaN in the change": (forge(tensors={"change": put(NAN)}), "change"),
    "NaN in the spatial page": (forge(tensors={"spatial": put(NAN)}, base=WITH_SPATIAL), "spatial"),
    "change of another size": (forge(tensors={"change": lambda x: x[:-1]}), "change"),
    "pages in float32": (forge(tensors={"dynamics": Tensor.float}), "dynamics"),
    "a page too few": (forge(tensors={"dynamics": lambda x: x[1:]}), "2 pages of the dynamics"),
    "a page too many": (forge(tensors={"decoder": lambda x: torch.cat([x, x[:1]])}), "3 pages of the"),
    "no pages": (forge(tensors={"dynamics": lambda x: x[:0]}), "2 pages of the dynamics"),
    "a page of rank 0": (forge(tensors={"dynamics": torch.zeros(())}), "2 pages of the dynamics"),
    "flat pages": (forge(tensors={"dynamics": lambda x: x.flatten(1)}), "dynamics"),
    "heads and positions swapped": (forge(tensors={"dynamics": lambda x: x.transpose(3, 4)}), "dynamics"),
    "two spatial pages": (
        forge(tensors={"spatial": lambda x: torch.cat([x, x])}, base=WITH_SPATIAL), "spatial",
    ),
    "nothing": (seal(b""), "header"),
    "no header": (seal(bytes(8)), "header"),
    "a header longer than the file": (seal(struct.pack("<Q", 2**60) + b"{}"), "header"),
    "no JSON": (seal(struct.pack("<Q", 4) + b"{{{{"), "header"),
    "deep JSON": (seal(struct.pack("<Q", 10**5) + b"[" * 10**5), "header"),
    "no UTF-8": (seal(struct.pack("<Q", 4) + b"\xff" * 4), "header"),
    "a list": (seal(struct.pack("<Q", 2) + b"[]"), "header"),
    "no metadata": (seal(safetensors.torch.save({"tokens": torch.zeros(1)})), "header"),
    "list as metadata": (seal(safetensors.torch.save({"t": torch.zeros(1)}, {"genie-rt": "[]"})), "object"),
    "NaN as metadata": (seal(safetensors.torch.save({"t": torch.zeros(1)}, {"genie-rt": "NaN"})), " NaN,"),
    "a key twice in the metadata": (
        seal(safetensors.torch.save({"t": torch.zeros(1)}, {"genie-rt": '{"seed": 1, "seed": 2}'})),
        "the key 'seed' more than once",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forgery_is_refused(case: str) -> None:
    data, message = FORGERIES[case]
    assert_refused(data, message)


def test_a_forgery_that_changes_nothing_is_no_forgery() -> None:
    """Else the tests above would prove nothing."""
    for base in (PENDING, WITH_SPATIAL, FIRST):
        session = WORLD.session(plan=Plan(passes=3, reuse="frames"))
        session.restore(WORLD.load_snapshot(forge(base=base)))
        other = WORLD.session(plan=session.plan)
        other.restore(WORLD.load_snapshot(base))
        assert play(session, LED_BY[:2]) == play(other, LED_BY[:2])


def header_of(blob: bytes) -> tuple[str, bytes]:
    (length,) = struct.unpack_from("<Q", blob)
    return blob[8 : 8 + length].decode(), blob[8 + length :]


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header.replace('"tokens":', '"tokens":null,"tokens":'),
        lambda header: header.replace('"dtype":"I64"', '"dtype":"I65"'),
        lambda header: header.replace('"shape":[15]', '"shape":[16]'),
        lambda header: header.replace('"shape":[15]', '"shape":[-15]'),
        lambda header: header.replace('"shape":[15]', '"shape":[18446744073709551615,15]'),
        lambda header: header.replace('"data_offsets":[', '"data_offsets":[1'),
    ],
)  # fmt: skip
def test_a_header_that_lies_is_refused(change: Callable[[str], str]) -> None:
    header, rest = header_of(DATA[FRONT:])
    changed = change(header.strip())
    assert changed != header.strip()
    changed = changed.ljust(-(-len(changed) // 8) * 8)
    assert_refused(seal(struct.pack("<Q", len(changed)) + changed.encode() + rest))


def test_random_bytes_behind_a_right_hash_are_refused() -> None:
    chance = np.random.default_rng(0)
    blob = DATA[FRONT:]
    for _ in range(300):
        place, length = int(chance.integers(0, 1200)), int(chance.integers(1, 8))
        damaged = blob[:place] + chance.bytes(length) + blob[place + length :]
        if damaged == blob:
            continue
        used = used_pages(WORLD)
        try:
            moment: Snapshot | None = WORLD.load_snapshot(seal(damaged))
        except InputError:
            assert used_pages(WORLD) == used
        else:  # another name, seed, action or page: a moment that is possible
            assert moment is not None and moment.row.tokens.max() < 24
            del moment
            assert used_pages(WORLD) == used

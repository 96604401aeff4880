"""What players and commands save and read again: snapshots, logs, records, compiled engines."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import re
import shutil
from pathlib import Path
from random import Random
from typing import Any

from fuzz.case import DANGLING, ENDLESS, FOLDER, GONE, PIPE, Case
from fuzz.mutate import mutate_bytes, mutate_json, mutate_safetensors
from fuzz.samples import ENGINE, WANTED
from fuzz.target import FILE_KINDS, SAMPLES, command, names_of, other_kind

from genie_rt.errors import GenieError


def make_snapshot(random: Random, sample: Path) -> Case:
    """A snapshot; two of three times the attacker makes its hash right."""
    name = "game.snapshot"
    if (case := other_kind(random, "snapshot", [name])) is not None:
        return case
    before = (sample / name).read_bytes()
    front = len(b"genie-rt snapshot\n") + 4 + 32
    blob = before[front:]
    draw = random.random()
    if draw < 0.34:
        word, data = mutate_bytes(random, before)
        return Case(target="snapshot", what=word, files={name: data}, must_refuse=data != before)
    if draw < 0.67:
        word, blob, _ = mutate_safetensors(random, blob)
    else:
        word, blob = _origin_change(random, blob)
    data = before[: front - 32] + hashlib.sha256(blob).digest() + blob
    return Case(target="snapshot", what=f"{word}, with its hash", files={name: data})


def _origin_change(random: Random, blob: bytes) -> tuple[str, bytes]:
    """A change to what a snapshot says of itself."""
    length = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + length])
    word, origin = mutate_json(random, header["__metadata__"]["genie-rt"].encode())
    header["__metadata__"]["genie-rt"] = origin.decode("utf-8", "replace")
    text = json.dumps(header).encode()
    return f"origin: {word}", len(text).to_bytes(8, "little") + text + blob[8 + length :]


@functools.cache
def _world(bundle: Path) -> Any:
    from genie_rt import World

    return World.load(bundle, backend="reference", dtype="float32")


def open_snapshot(folder: Path, case: Case) -> None:
    world = _world(SAMPLES[0] / "bundle")
    moment = world.load_snapshot(folder / "game.snapshot")
    again = world.load_snapshot(moment.to_bytes())
    assert again.to_bytes() == moment.to_bytes()
    session = world.session()
    session.restore(moment)
    assert session.step(1).shape == (8, 12, 3)


def log_change(random: Random, data: bytes) -> tuple[str, bytes]:
    if data.startswith(b"{"):
        return mutate_json(random, data)
    if random.random() < 0.5:
        words = random.choice(
            ("left*99999", "left*100001", "left*-1", "left*1e9", "left**2", "*3", "...", "٣*٢",
             "5*" + "9" * 5000, "left*3 " * 40_000, "0*0", "left*\u00b2", "nobody", "\0", "@x", "{")
        )  # fmt: skip
        return f"the script {words[:30]!r}", words.encode()
    return mutate_bytes(random, data)


def open_log(folder: Path, case: Case) -> None:
    from genie_rt.runtime.play.action_log import ActionLog, read_actions, write_log
    from genie_rt.runtime.play.script import expand

    name = next(iter(case.files))
    found = read_actions(folder / name)
    if isinstance(found, ActionLog):
        write_log(folder / "again.json", found)
        assert read_actions(folder / "again.json") == found
    else:
        assert all(0 <= action < 3 for action in expand(found, None, ("left", "stay", "right")))
    shutil.copytree(SAMPLES[0] / "bundle", folder / "bundle")
    command(
        "play", folder / "bundle", "--headless", "--actions", f"@{folder / name}", "--steps", "2",
        "--backend", "reference", "--out", folder / "out.gif",
    ) if not isinstance(found, ActionLog) else command(
        "play", folder / "bundle", "--headless", "--actions", f"@{folder / name}", "--out", folder / "out.gif"
    )  # fmt: skip


# Records.


def open_record(folder: Path, case: Case) -> None:
    from genie_rt.bench.kernels.ceilings import CeilingsBody
    from genie_rt.bench.latency.frame_record import FrameBody
    from genie_rt.bench.latency.long import LongBody
    from genie_rt.bench.latency.peek import PeekBody
    from genie_rt.bench.parity.verify import VerifyBody
    from genie_rt.bench.record import read_record, write_record

    bodies = {
        "frame.json": FrameBody, "verify.json": VerifyBody, "long.json": LongBody, "peek.json": PeekBody,
        "ceilings.json": CeilingsBody,
    }  # fmt: skip
    name = next(iter(case.files))
    if name in bodies:
        record: Any = read_record(folder / name, bodies[name])
        _check_finite(dataclasses.asdict(record))
        write_record(folder / "again.json", record)
        assert read_record(folder / "again.json", bodies[name]) == record
        return
    out = folder / "out"
    match name:
        case "precision.json":
            words = [SAMPLES[0] / "bundle", "--precisions", folder / name]
        case "evaluation.json":
            words = [SAMPLES[0] / "checkpoint", "--metrics", folder / name]
        case _:
            words = [SAMPLES[0] / "checkpoint", "--plans", folder / name]
    try:
        command("export", *words, "--out", out)
    except GenieError:
        assert not out.exists()
        raise
    from genie_rt.runtime.bundle import open_bundle

    bundle = open_bundle(out)
    if bundle.graphs is not None:
        values = bundle.graphs.psnr_change_db.values()
        assert all(math.isfinite(value) and value >= 0 for value in values)
    if name == "evaluation.json":
        card = (out / "README.md").read_text(encoding="utf-8")
        assert not re.search(r"\b(nan|inf)\b", card)


def _check_finite(value: Any) -> None:
    if isinstance(value, dict):
        for each in value.values():
            _check_finite(each)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_finite(each)
    elif isinstance(value, float):
        assert math.isfinite(value)


def make_engine(random: Random, sample: Path) -> Case:
    names = names_of(sample, "**/*.*")
    engine = next(name for name in names if name.endswith(".engine"))
    if random.random() < FILE_KINDS:
        kind = random.choice((PIPE, FOLDER, ENDLESS, DANGLING))
        return Case(target="engine", what=f"{kind} in place of it", files={engine: kind})
    before = (sample / engine).read_bytes()
    word, changed = sealed_change(random, before)
    if random.random() < 0.4:  # as the engine of another GPU, whose notes are read too
        files = {engine: GONE, f"{engine[: engine.rindex('/')]}/{'0' * 32}.engine": changed}
        return Case(target="engine", what=f"another engine: {word}", files=files)
    return Case(target="engine", what=word, files={engine: changed})


def sealed_change(random: Random, before: bytes) -> tuple[str, bytes]:
    """A change to a sealed file, often to the line that says what follows."""
    line, _, data = before.partition(b"\n")
    if random.random() < 0.4:
        return mutate_bytes(random, before)
    word, line = mutate_json(random, line)
    return word, line + b"\n" + data


def open_kept(folder: Path, case: Case) -> None:
    """What is damaged is gone, and what took its place comes back."""
    from genie_rt.runtime.kept import Kept

    folder.chmod(0o700)
    kept, data = Kept(folder), bytes(range(256)) * 4
    assert kept.find(WANTED) in (data, None)
    kept.keep(WANTED, data[::-1])
    if all(content != FOLDER for content in case.files.values()):
        assert kept.find(WANTED) == data[::-1]


def open_engine(folder: Path, case: Case) -> None:
    from genie_rt.runtime.backends.tensorrt.cache import EngineCache

    folder.chmod(0o700)
    sealed = EngineCache(folder).find(ENGINE)
    if sealed is not None:
        assert sealed.data == bytes(range(256)) * 4 and sealed.about == dataclasses.asdict(ENGINE)

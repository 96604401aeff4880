"""What is trained on and what training leaves: clip stores and checkpoints."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import zipfile
from pathlib import Path
from random import Random

import numpy as np
from fuzz.bundles import play
from fuzz.case import Case
from fuzz.mutate import mutate_bytes, mutate_json, mutate_safetensors
from fuzz.target import command, names_of, other_kind

from genie_rt.errors import GenieError, InputError

STATE = "state.json"
CHECKPOINT = "checkpoint-00000002"


def store_change(random: Random, data: bytes) -> tuple[str, bytes]:
    return mutate_json(random, data) if data.startswith(b"{") else mutate_bytes(random, data)


def open_store(folder: Path, case: Case) -> None:
    from genie_rt.training.data.store import SPLITS, ClipStore

    store = ClipStore.open(folder)
    for name in store.side_files:
        assert len(store.read_side_file(name)) == store.side_files[name]
    for split in SPLITS:
        try:
            clips = store.clips(length=4, split=split)
        except InputError:
            continue  # the split is empty
        frames, actions = clips.batch([0, len(clips) - 1])
        assert frames.shape == (2, 4, store.height, store.width, 3) and frames.dtype == np.uint8
        assert actions.min() >= -1 and actions.max() < max(1, len(store.action_names))
    if case.what.startswith("store.json"):
        command("data", "prompts", folder, "--out", folder / "prompts")


def make_checkpoint(random: Random, sample: Path) -> Case:
    """A checkpoint; three of four times the attacker makes its hashes right."""
    return _checkpoint_case(random, sample, "checkpoint", CHECKPOINT)


def make_run(random: Random, sample: Path) -> Case:
    return _checkpoint_case(random, sample, "resume", f"tokenizer/{CHECKPOINT}")


def _checkpoint_case(random: Random, sample: Path, target: str, folder: str) -> Case:
    names = [name for name in names_of(sample, "**/*") if name.startswith(f"{folder}/")]
    if (case := other_kind(random, target, names)) is not None:
        return case
    name = random.choice(names)
    before = (sample / name).read_bytes()
    if name.endswith(STATE):
        word, data = mutate_json(random, before)
    elif name.endswith(".safetensors"):
        word, data, _ = mutate_safetensors(random, before)
    else:
        word, data = _archive_change(random, before)
    files = {name: data}
    sealed = random.random() < 0.75
    if sealed:
        files = _resealed(sample, folder, files)
    # a state whose hash is not right may differ in its spaces and the order of its keys alone
    wrong = not sealed and data != before and not name.endswith(STATE)
    seal_word = "with hashes made right" if sealed else "with the hashes of before"
    return Case(target=target, what=f"{name}: {word}, {seal_word}", files=files, must_refuse=wrong)


def _resealed(sample: Path, folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, with a state whose sizes and hashes are theirs."""
    from genie_rt.training.checkpoint_state import sealed_state

    place = f"{folder}/{STATE}"
    try:
        state = json.loads(files.get(place, (sample / place).read_bytes()))
        if not isinstance(state, dict):
            return files
        for name, data in files.items():
            if name != place:
                state["files"][Path(name).name] = {
                    "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()
                }  # fmt: skip
        state.pop("state_sha256", None)
        return {**files, place: json.dumps(sealed_state(state)).encode()}
    except (ValueError, RecursionError, TypeError, KeyError):
        return files


def _archive_change(random: Random, data: bytes) -> tuple[str, bytes]:
    """A change to an archive of `torch.save`, now and then to its entries."""
    if random.random() < 0.5:
        return mutate_bytes(random, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    name = random.choice(list(entries))
    pickles = [each for each in entries if each.endswith("data.pkl")]
    out, compression, word = io.BytesIO(), zipfile.ZIP_STORED, ""
    match random.randrange(5):
        case 0:
            entries[name], word = bytes(1 << 24), "a large entry, compressed"
            compression = zipfile.ZIP_DEFLATED
        case 1:
            word, entries[pickles[0]] = "code in a pickle", b"cos\nsystem\n(S'touch /tmp/owned'\ntR."
        case 2:
            word, entries["../../escaped"] = "an entry that climbs", b"x"
        case 3:
            word, entries[pickles[0]] = mutate_bytes(random, entries[pickles[0]])
            word = f"the pickle: {word}"
        case _:
            word, entries[name] = mutate_bytes(random, entries[name])
            word = f"{name}: {word}"
    with zipfile.ZipFile(out, "w", compression) as archive:
        for each, content in entries.items():
            archive.writestr(each, content)
    return word, out.getvalue()


def open_checkpoint(folder: Path, case: Case) -> None:
    """As `train` resumes from it, and as `export` reads it."""
    from genie_rt.training.checkpoint import load_checkpoint, resumed_checkpoint

    refused: GenieError | None = None
    try:
        checkpoint = load_checkpoint(folder / CHECKPOINT)
        assert set(checkpoint.model) and isinstance(checkpoint.optimizer, dict)
        assert resumed_checkpoint(folder) is not None
    except GenieError as error:
        refused = error
    out = folder / "out"
    try:
        command("export", folder, "--out", out)
    except GenieError:
        assert not out.exists() and not list(folder.glob(".out*"))
        raise
    play(out, "reference")
    if refused is not None:
        raise refused


def open_run(folder: Path, case: Case) -> None:
    """Goes on for a step."""
    from tiny_runs import TINY, tiny_loop

    from genie_rt.runtime import presets
    from genie_rt.training.checkpoint import load_weights
    from genie_rt.training.commands import TokenizerCommand

    presets._PRESETS["tiny"] = lambda: TINY
    out = folder / "tokenizer"
    shutil.rmtree(out / "tensorboard", ignore_errors=True)
    with contextlib.redirect_stdout(io.StringIO()):
        code = TokenizerCommand(
            data=folder / "store", out=out, preset="tiny", loop=tiny_loop(steps=3, precision="fp32")
        ).run()
    assert code == 0
    assert all(bool(weight.isfinite().all()) for weight in load_weights(out).values())

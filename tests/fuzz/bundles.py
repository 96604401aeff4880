"""Bundles: the manifest, files that it has the hashes of, and files whose hashes the attacker made right."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from fuzz.case import Case
from fuzz.mutate import mutate_bytes, mutate_json, mutate_safetensors
from fuzz.mutate_graph import SECRET, mutate_graph
from fuzz.pictures import picture_change
from fuzz.target import RefusedError, command, names_of, other_kind
from tiny_bundle import seal

from genie_rt.errors import GenieError
from genie_rt.runtime.config import to_dict

ENGINES = ("onnx", "openvino")
MANIFEST, WEIGHTS = "bundle.json", "weights.safetensors"


def play(folder: Path, backend: str, plan: str = "default") -> Any:
    """Loads a bundle and plays two frames. The world, for what else has to hold."""
    from genie_rt import World

    world = World.load(folder, backend=backend, dtype="float32")
    tokenizer = world.bundle.config.tokenizer
    session = world.session(seed=1, plan=plan)
    size = (tokenizer.height, tokenizer.width, 3)
    picture = world.prompt(0) if world.prompts else np.full(size, 128, np.uint8)
    assert picture.shape == size and picture.dtype == np.uint8
    session.reset(picture)
    for _ in range(2):
        frame = session.step(0)
        assert frame.dtype == np.uint8 and frame.shape == (*tokenizer.output_size, 3)
        tokens = session.row.tokens
        assert int(tokens.min()) >= 0 and int(tokens.max()) < tokenizer.codebook_size
    return world


def make_manifest(random: Random, sample: Path) -> Case:
    if (case := other_kind(random, "manifest", [MANIFEST])) is not None:
        return case
    word, data = mutate_json(random, (sample / MANIFEST).read_bytes())
    return Case(target="manifest", what=word, files={MANIFEST: data})


def open_manifest(folder: Path, case: Case) -> None:
    with contextlib.suppress(RefusedError):
        assert command("info", folder)
    world = play(folder, "reference")
    values = json.loads((folder / MANIFEST).read_bytes())
    assert to_dict(world.bundle.config) == values["config"] or "config" not in values["config"]
    for name, record in world.bundle.files.items():
        data = (folder / name).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (record.sha256, record.size), name


def make_hashed(random: Random, sample: Path) -> Case:
    """A file of a bundle is changed, and its record in the manifest is not."""
    names = [name for name in names_of(sample, "**/*") if name != MANIFEST]
    if (case := other_kind(random, "hashed", names)) is not None:
        return case
    name = random.choice(names)
    before = (sample / name).read_bytes()
    word, data = mutate_bytes(random, before)
    return Case(target="hashed", what=f"{name}: {word}", files={name: data}, must_refuse=data != before)


def open_hashed(folder: Path, case: Case) -> None:
    from genie_rt.runtime.bundle import open_bundle, read_file

    bundle = open_bundle(folder)
    for name in case.files:
        read_file(bundle, name)


def make_graph(random: Random, sample: Path) -> Case:
    """The attacker writes the manifest too: hashes are right."""
    names = names_of(sample, "*.onnx")
    if (case := other_kind(random, "graph", names)) is not None:
        return case
    name = random.choice(names)
    word, data, wrong = mutate_graph(random, (sample / name).read_bytes())
    return Case(
        target="graph", what=f"{name}: {word}", files={name: data, SECRET: b"\x3f" * 4096}, must_refuse=wrong
    )


PLAN_OF = {"frame-whole.onnx": "whole", "pass-at.onnx": "reusing"}


def open_graph(folder: Path, case: Case) -> None:
    _seal_if_whole(folder)
    name = next(iter(case.files))
    refused = [False, False]
    for index, engine in enumerate(ENGINES):
        try:
            play(folder, engine, PLAN_OF.get(name, "default"))
        except GenieError as error:
            if "install it with" in str(error):
                continue
            refused[index] = True
            reason = error
    if all(refused) or (any(refused) and case.must_refuse is False):
        raise reason


def _seal_if_whole(folder: Path) -> None:
    """Makes the manifest's hashes right, where its files can be read."""
    for name in json.loads((folder / MANIFEST).read_bytes())["files"]:
        path = folder / name
        if path.is_symlink() or not path.is_file():
            return
    seal(folder)


def make_weights(random: Random, sample: Path) -> Case:
    if (case := other_kind(random, "weights", [WEIGHTS])) is not None:
        return case
    word, data, wrong = mutate_safetensors(random, (sample / WEIGHTS).read_bytes())
    return Case(target="weights", what=word, files={WEIGHTS: data}, must_refuse=wrong)


def open_weights(folder: Path, case: Case) -> None:
    _seal_if_whole(folder)
    play(folder, "reference")
    if len(case.what) % 4 == 0:  # the engines read the file on their own
        for engine in ENGINES:
            with _maybe_missing():
                play(folder, engine)


@contextlib.contextmanager
def _maybe_missing() -> Any:
    """An engine that is not installed is no refusal of the input."""
    try:
        yield
    except GenieError as error:
        if "install it with" not in str(error):
            raise


def make_prompt(random: Random, sample: Path) -> Case:
    name = "prompts/000.png"
    if (case := other_kind(random, "prompt", [name])) is not None:
        return case
    word, data = picture_change(random, (sample / name).read_bytes(), sample.parent / "pictures")
    return Case(target="prompt", what=word, files={name: data})


def open_prompt(folder: Path, case: Case) -> None:
    _seal_if_whole(folder)
    from genie_rt.runtime.bundle import open_bundle, read_prompt

    bundle = open_bundle(folder)
    assert read_prompt(bundle, 0).shape == (8, 12, 3)

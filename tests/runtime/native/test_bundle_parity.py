"""The C++ reader of bundles takes and refuses what Python's does, and makes the same of what it takes."""

import hashlib
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch
from fuzz.mutate import mutate_bytes, mutate_json, mutate_safetensors
from fuzz.pictures import picture_change
from tiny_bundle import HEIGHT, SHAPES, WIDTH, seal, write_tiny_bundle

from genie_rt.errors import BundleError
from genie_rt.runtime.bundle import Bundle, load_weights, open_bundle, read_prompt, shipped_bundles
from genie_rt.runtime.config import TransformerConfig
from genie_rt.runtime.manifest import WEIGHTS, Manifest, parse_manifest
from genie_rt.runtime.memory_bound import check_memory
from genie_rt.runtime.model.world_model import parameter_shapes

ROOT = Path(__file__).parents[3]
TOOL = ROOT / "out" / "native" / "tests" / "inspect"
GOOD = [ROOT / "runtime" / "bundles" / name for name in shipped_bundles()] + [
    ROOT / "examples/worlds/little-game"
]
PICTURES = ROOT / "runtime/native/tests/data/png"
BUNDLE_ERROR = 2
IGNORED = ("MAX_TEXT_CHUNK", "APNG", "Truncated ")
"""What Pillow says of a PNG's text, animation and chunks behind the pixels, which C++ does not look at."""

pytestmark = pytest.mark.skipif(not TOOL.is_file(), reason="out/native/tests/inspect is not built: make sdk")


def inspect(*words: str | Path) -> list[dict[str, Any]]:
    """What C++ makes of each folder, or with --manifest of each file."""
    done = subprocess.run([TOOL, *words], capture_output=True, check=False, timeout=600)
    assert done.returncode in (0, 1), done.stderr.decode()[-2000:]  # 1: some are refused
    return [json.loads(line) for line in done.stdout.splitlines()]


def transformer(config: TransformerConfig) -> list[int]:
    return [
        config.num_layers,
        config.width,
        config.num_heads,
        config.head_width,
        config.mlp_width,
        config.window,
    ]


def seen(manifest: Manifest | Bundle, digest: str) -> dict[str, Any]:
    """A manifest as the tool prints it."""
    config, codes = manifest.config, manifest.action_codes
    tokenizer, dynamics = config.tokenizer, config.dynamics
    names = manifest.action_names
    limits = {} if manifest.int8 is None else manifest.int8.limits
    prompts = sorted(name for name in manifest.files if name.startswith("prompts/"))
    return {
        "name": manifest.name,
        "digest": digest,
        "tokenizer": [
            tokenizer.height, tokenizer.width, tokenizer.patch, tokenizer.decoder_patch,
            tokenizer.codebook_size, tokenizer.codebook_dim,
        ],
        "encoder": transformer(tokenizer.encoder),
        "decoder": transformer(tokenizer.decoder),
        "dynamics": transformer(dynamics.transformer),
        "switches": [
            dynamics.num_actions, dynamics.merge, dynamics.embedding_dim, dynamics.tie_codebook,
            dynamics.previous_token, dynamics.copy_logit,
        ],
        "lam": 0 if config.lam is None else config.lam.codebook_dim,
        "actions": [[name, code] for name, code in zip(names, codes or range(len(names)), strict=True)],
        "default_action": names.index(manifest.default_action),
        "plans": {
            name: [
                plan.order, plan.passes, plan.temperature, plan.noise, plan.threshold, plan.reuse, plan.fresh
            ]
            for name, plan in manifest.plans.items()
        },
        "files": {name: [record.sha256, record.size] for name, record in manifest.files.items()},
        "prompts": prompts,
        "int8": {name: float(np.float32(limit)) for name, limit in limits.items()},
    }  # fmt: skip


def rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Limits as the tool prints them: nine digits say which float32 it is."""
    values["int8"] = {name: float(np.float32(limit)) for name, limit in values["int8"].items()}
    return values


def whole(folder: Path, shapes: dict[str, tuple[int, ...]] | None = None) -> dict[str, Any]:
    """A bundle, its tensors and pictures as the tool prints them."""
    bundle = open_bundle(folder)
    weights = load_weights(bundle, shapes or parameter_shapes(bundle.config))
    pictures = [read_prompt(bundle, index).tobytes() for index in range(len(bundle.prompts))]
    return {
        **seen(bundle, bundle.digest),
        "tensors": {
            name: [
                "BF16" if tensor.element_size() == 2 else "F32",
                list(tensor.shape),
                hashlib.sha256(tensor.reshape(-1).view(torch.uint8).numpy().tobytes()).hexdigest(),
            ]
            for name, tensor in weights.items()
        },
        "pictures": hashlib.sha256(b"".join(pictures)).hexdigest(),
    }


def agree(found: dict[str, Any], make: Callable[[], dict[str, Any]], what: str, file: str) -> bool:
    """Whether Python takes the same and makes the same of it; True where both take it."""
    try:
        expected = make()
    except BundleError as error:
        if "error" not in found and any(word in str(error) for word in IGNORED):
            return False
        assert "error" in found, f"{what}: only Python refuses it: {error}"
        assert found["status"] == BUNDLE_ERROR, f"{what}: {found}"
        assert file in found["error"], f"{what}: {found}"
        return False
    assert "error" not in found, f"{what}: only C++ refuses it: {found['error']}"
    assert rounded(found) == expected, what
    return True


def test_shipped_bundles_are_the_same() -> None:
    for folder, found in zip(GOOD, inspect(*GOOD), strict=True):
        assert agree(found, lambda folder=folder: whole(folder), folder.name, "")


def test_manifests_that_are_changed(tmp_path: Path) -> None:
    random = Random(15)
    samples = [(folder / "bundle.json").read_bytes() for folder in GOOD]
    samples.append((write_tiny_bundle(tmp_path / "tiny") / "bundle.json").read_bytes())
    corpus = ROOT / "runtime/native/fuzz/corpus/manifest"
    samples += [path.read_bytes() for path in sorted(corpus.glob("*.json"))]
    cases = [("nothing", data) for data in samples]
    while len(cases) < 1500:
        word, data = mutate_json(random, random.choice(samples))
        if random.random() < 0.2:
            more, data = mutate_bytes(random, data)
            word += f" and {more}"
        cases.append((word, data))
    paths = [tmp_path / f"{index}.json" for index in range(len(cases))]
    for path, (_, data) in zip(paths, cases, strict=True):
        path.write_bytes(data)
    taken = 0
    for path, (word, data), found in zip(paths, cases, inspect("--manifest", *paths), strict=True):

        def make(path: Path = path, data: bytes = data) -> dict[str, Any]:
            manifest = parse_manifest(data, str(path))
            passes = max(plan.passes for plan in manifest.plans.values())
            check_memory(manifest.config, manifest.files[WEIGHTS].size, str(path), passes)
            return seen(manifest, hashlib.sha256(data).hexdigest())

        taken += agree(found, make, f"{path.name}: {word}", path.name)
    assert 50 < taken < len(cases) - 500, taken


def tamper(tmp_path: Path, count: int, change: Callable[[Random, Path], str]) -> tuple[int, int]:
    """Opens changed copies of the tiny bundle. Returns how many were taken, and how many there were."""
    random = Random(16)
    sample = write_tiny_bundle(tmp_path / "tiny")
    folders, words = [], []
    for index in range(count):
        folder = tmp_path / f"{index}"
        shutil.copytree(sample, folder)
        words.append(change(random, folder))
        folders.append(folder)
    taken = 0
    for folder, word, found in zip(folders, words, inspect(*folders), strict=True):
        taken += agree(
            found, lambda folder=folder: whole(folder, SHAPES), f"{folder.name}: {word}", f"{folder.name}/"
        )
    return taken, count


def test_weights_that_are_changed_and_sealed(tmp_path: Path) -> None:
    def change(random: Random, folder: Path) -> str:
        path = folder / WEIGHTS
        word, data, _ = mutate_safetensors(random, path.read_bytes())
        path.write_bytes(data)
        seal(folder)
        return word

    taken, count = tamper(tmp_path, 250, change)
    assert 5 < taken < count - 100, taken


def test_pictures_that_are_changed_and_sealed(tmp_path: Path) -> None:
    def change(random: Random, folder: Path) -> str:
        path = folder / "prompts/000.png"
        word, data = picture_change(random, path.read_bytes(), PICTURES)
        path.write_bytes(data)
        seal(folder)
        return word

    taken, count = tamper(tmp_path, 400, change)
    assert 5 < taken < count - 100, taken


def test_files_that_are_changed_and_not_sealed(tmp_path: Path) -> None:
    def change(random: Random, folder: Path) -> str:
        name = random.choice(["weights.safetensors", "prompts/000.png", "prompts/001.png"])
        word, data = mutate_bytes(random, (folder / name).read_bytes())
        (folder / name).write_bytes(data)
        return f"{name}: {word}"

    taken, count = tamper(tmp_path, 100, change)
    assert taken < count - 80, taken


def test_pictures_are_decoded_as_pillow_does(tmp_path: Path) -> None:
    """Those of the C++ test, in a bundle of their size."""
    sample = write_tiny_bundle(tmp_path / "tiny")
    folders = []
    for path in sorted(PICTURES.glob("*.png")):
        folder = tmp_path / path.stem
        shutil.copytree(sample, folder)
        (folder / "prompts/000.png").write_bytes(_cut(path.read_bytes()))
        seal(folder)
        folders.append(folder)
    for folder, found in zip(folders, inspect(*folders), strict=True):
        agree(found, lambda folder=folder: whole(folder, SHAPES), folder.name, "prompts/000.png")


def _cut(data: bytes) -> bytes:
    """A header that says the size of the tiny bundle's pictures, with its checksum, where there is one."""
    if len(data) < 33:
        return data
    head = b"IHDR" + struct.pack(">II", WIDTH, HEIGHT) + data[24:29]
    return data[:12] + head + struct.pack(">I", zlib.crc32(head)) + data[33:]

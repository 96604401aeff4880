"""Writes a bundle, whole or not at all: beside its place first, checked by its own reader, then renamed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file

from genie_rt.errors import BundleError, ConfigError, InputError
from genie_rt.interrupt import Uninterrupted
from genie_rt.runtime.bundle import Bundle, load_weights, open_bundle
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.images import check_frame
from genie_rt.runtime.manifest import (
    LAM_WEIGHTS,
    MANIFEST,
    MAX_MANIFEST_BYTES,
    MODEL_CARD,
    WEIGHTS,
    FileRecord,
    GraphManifest,
    Int8Manifest,
    Manifest,
    encode_manifest,
)
from genie_rt.runtime.model.lam import encoder_shapes
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.replace_folder import new_folder, put_in_place
from genie_rt.runtime.untrusted_json import read_json

_OURS = re.compile(r"[^/]*\.onnx|prompts/[^/]*\.png")

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

ALWAYS_FP32 = frozenset({"tokenizer.codebook"})
"""Its rows decide which code is the nearest: rounded ones would give other tokens than those trained on."""


def write_bundle(
    out: Path,
    *,
    name: str,
    config: ModelConfig,
    weights: Mapping[str, torch.Tensor],
    action_names: Sequence[str],
    default_action: str,
    plans: Mapping[str, Plan],
    prompts: Sequence[NDArray[np.uint8]],
    provenance: Mapping[str, Any],
    model_card: str,
    preset: str = "custom",
    dtype: str = "bf16",
    graphs: Callable[[Path], GraphManifest] | None = None,
    action_codes: Sequence[int] = (),
    lam: Mapping[str, torch.Tensor] | None = None,
    int8: Int8Manifest | None = None,
    overwrite: bool = False,
) -> Bundle:
    """Write a bundle, and open it again with the usual reader.

    The same arguments and library versions give the same bytes. After an error or Ctrl-C
    `out` is as it was.

    Args:
        out: the folder to make.
        name: of the bundle, 1 to 64 of A-Z a-z 0-9 . _ -.
        config: sizes of the model.
        weights: `WorldModel.state_dict()`: floating point, any device, finite. Not mutated.
        action_names: one per action of the dynamics, or one per entry of `action_codes`.
        default_action: the one of them that is meant when no key is pressed.
        plans: decoding plans by name, one of them "default".
        prompts: pictures to start from, each `[height, width, 3]` uint8 of the model's size.
        provenance: data, recipe, commit, versions; JSON values only.
        model_card: Markdown, such as `render_model_card` gives.
        preset: the preset that the sizes came from.
        dtype: "fp32", or "bf16" for tensors of two and more axes; norms, biases and `ALWAYS_FP32` stay fp32,
            where rounding would cost more than the few bytes it saves.
        graphs: writes graphs into a folder that holds the weights, and says what they are.
        action_codes: the action of the dynamics that each name stands for, where they are not the same.
        lam: weights of `runtime.model.lam.encoder_shapes`, where the bundle shall tell actions from pictures.
        int8: how the model is computed in int8, where it was calibrated.
        overwrite: replace the bundle that is at `out`, once the new one is whole; see `check_target`.

    Raises:
        ConfigError: an argument is not what a bundle can hold.
        InputError: a prompt has another size or dtype.
        BundleError: `out` is not free, the disk failed, or the written bundle does not read back.
        StateError: another process writes a bundle there.
    """
    if dtype not in DTYPES:
        raise ConfigError(f"dtype: expected {' or '.join(DTYPES)}, found {dtype!r}")
    out = out.resolve()
    check_target(out, overwrite=overwrite)
    tensors = _convert(weights, DTYPES[dtype])
    lam_tensors = None if lam is None else _convert(lam, torch.float32)
    try:
        with new_folder(out, _is_ours, error=BundleError) as temporary:
            check_target(out, overwrite=overwrite)  # again: it may have been put back just now
            temporary.mkdir()
            _write_pictures(temporary / "prompts", prompts, config)
            (temporary / MODEL_CARD).write_bytes(model_card.encode())
            save_file(tensors, temporary / WEIGHTS)
            if lam_tensors is not None:
                save_file(lam_tensors, temporary / LAM_WEIGHTS)
            for path in temporary.glob("*.safetensors"):  # which safetensors makes private
                shutil.copymode(temporary / MODEL_CARD, path)
            written = None if graphs is None else graphs(temporary)
            manifest = Manifest(
                name=name,
                preset=preset,
                config=config,
                action_names=tuple(action_names),
                default_action=default_action,
                plans=dict(plans),
                provenance=dict(provenance),
                files=_records(temporary),
                graphs=written,
                action_codes=tuple(action_codes),
                int8=int8,
            )
            (temporary / MANIFEST).write_bytes(encode_manifest(manifest))
            _check_readable(temporary, tensors)
            if lam_tensors is not None:
                _ = load_weights(open_bundle(temporary), encoder_shapes(config), LAM_WEIGHTS)
            _sync(temporary)
            with Uninterrupted():
                put_in_place(temporary, out, lambda was: _check_target(out, overwrite, was))
            _sync_one(out.parent)
    except (OSError, SafetensorError) as error:
        raise BundleError(f"{out}: expected a folder that can be written, found {error}") from error
    return open_bundle(out)


def check_target(out: Path, *, overwrite: bool) -> None:
    """Whether a bundle can be put there. `write_bundle` asks that itself; here before work that takes long.

    Args:
        out: the folder to make.
        overwrite: there may be a bundle, and nothing else than what its bundle.json lists.

    Raises:
        BundleError: there is something that would be lost, or no folder can be made of that name.
    """
    try:
        _check_target(out, overwrite, out)
    except OSError as error:
        raise BundleError(f"{out}: expected the name of a folder to make, found {error}") from error


def _convert(weights: Mapping[str, torch.Tensor], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Copies on the CPU, sorted by name; tied weights come apart, since the file has no ties."""
    tensors: dict[str, torch.Tensor] = {}
    for name in sorted(weights):
        weight = weights[name]
        if not weight.is_floating_point():
            raise ConfigError(f"weights: {name}: expected floating point, found {weight.dtype}")
        stored = dtype if weight.ndim >= 2 and name not in ALWAYS_FP32 else torch.float32
        tensors[name] = weight.detach().to("cpu", stored, copy=True).contiguous()
        if not torch.isfinite(tensors[name]).all():
            raise ConfigError(f"weights: {name}: expected finite numbers in {stored}, found NaN or Inf")
    return tensors


def _check_target(out: Path, overwrite: bool, folder: Path) -> None:
    """`check_target` of `out`, whose files are in `folder` now."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise BundleError(f"{out}: expected a folder or nothing, found a file")
    if not any(folder.iterdir()):
        return
    if not overwrite:
        raise BundleError(
            f"{out}: expected nothing or an empty folder, found files; "
            "overwrite=True (--overwrite) replaces a bundle"
        )
    if not (folder / MANIFEST).is_file():
        raise BundleError(
            f"{out}: expected a bundle to replace, found a folder without {MANIFEST}; remove it yourself"
        )
    listed = _listed(folder / MANIFEST)
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if name not in listed and (path.is_symlink() or not path.is_dir()):
            raise BundleError(
                f"{out}: expected a bundle to replace, found {name!r} in it, which its {MANIFEST} does not "
                "list; move it elsewhere"
            )


def _listed(manifest: Path) -> set[str]:
    """Return the files that a bundle lists, even one of another version or a broken one."""
    try:
        found = read_json(manifest, max_bytes=MAX_MANIFEST_BYTES, expected="what a bundle says it holds")
        return {MANIFEST, *found["files"].object()}
    except InputError:
        return {MANIFEST}


def _is_ours(folder: Path) -> bool:
    """Whether a killed export left this: nothing in it but files of a bundle."""
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir()}
    if MANIFEST in names:
        return names <= _listed(folder / MANIFEST)
    return all(name in (WEIGHTS, LAM_WEIGHTS, MODEL_CARD) or _OURS.fullmatch(name) for name in names)


def _write_pictures(folder: Path, pictures: Sequence[NDArray[np.uint8]], config: ModelConfig) -> None:
    if not pictures:
        return
    folder.mkdir()
    for index, picture in enumerate(pictures):
        try:
            frame = check_frame(picture, config.tokenizer.height, config.tokenizer.width)
        except InputError as error:
            raise InputError(f"prompts[{index}]: {error}") from error
        Image.fromarray(frame).save(folder / f"{index:03d}.png", compress_level=9)


def _records(folder: Path) -> dict[str, FileRecord]:
    records = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        name = path.relative_to(folder).as_posix()
        records[name] = FileRecord(sha256=digest, size=path.stat().st_size)
    return records


def _check_readable(folder: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """The proof that what is on the disk is what was asked for, before it replaces anything."""
    bundle = open_bundle(folder)
    written = load_weights(bundle, parameter_shapes(bundle.config))
    for name, tensor in tensors.items():
        if written[name].dtype != tensor.dtype or not torch.equal(written[name], tensor):
            raise BundleError(f"{folder / WEIGHTS}: {name}: expected what was written, found other numbers")


def _sync(folder: Path) -> None:
    """Force all data to the disk, so that a power cut after the rename finds no empty files."""
    for path in [*folder.rglob("*"), folder]:
        _sync_one(path)


def _sync_one(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows opens no folders
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Opens a bundle: a flat folder that holds one world model. Nothing in it is trusted or executed.

bundle.json            what the bundle is, and the size and sha256 of every other file (`manifest.py`)
weights.safetensors    fp32 or bf16, named as in `WorldModel.state_dict()`
lam.safetensors        where the actions are latent: what tells them from pictures; play never opens it
NAME.onnx              graphs
prompts/NAME.png       pictures to start from
README.md              model card
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import BundleError, InputError
from genie_rt.runtime.arguments import check_path
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.files import open_regular, read_regular
from genie_rt.runtime.images import MAX_FILE_BYTES, Picture, decode_prompt
from genie_rt.runtime.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SCHEMA_VERSION,
    WEIGHTS,
    FileRecord,
    GraphManifest,
    Int8Manifest,
    parse_manifest,
    unnamed_action,
)
from genie_rt.runtime.memory_bound import check_memory
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.replace_folder import moved_away, restored
from genie_rt.runtime.stored_weights import StoredWeights, read_stored

if TYPE_CHECKING:
    import torch

__all__ = ["SCHEMA_VERSION", "Bundle", "load_weights", "open_bundle", "shipped_bundles"]

_SHIPPED = Path(__file__).parent / "bundles"
_PART_BYTES = 1 << 22  # hashed at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle whose every file was found, measured and hashed when it was opened.

    Attributes:
        path: the folder, absolute.
        name: of the bundle.
        preset: the preset that the sizes came from.
        config: sizes of the model.
        action_names: by action index.
        default_action: the one of `action_names` that is meant when no key is pressed.
        plans: decoding plans by name; "default" is always there.
        prompts: PNG files of the model's height and width, sorted; may be empty.
        files: size and sha256 of every file but bundle.json, by path within the bundle.
        provenance: data, recipe, versions, as the exporter wrote them.
        graphs: what the ONNX graphs are, None where there are none.
        named_codes: `action_codes` where names were given to the dynamics' actions, else empty.
        int8: how the model is computed in int8, None where nobody calibrated it.
        digest: sha256 of bundle.json, which covers all other files: the bundle's identity.
    """

    path: Path
    name: str
    preset: str
    config: ModelConfig
    action_names: tuple[str, ...]
    default_action: str
    plans: Mapping[str, Plan]
    prompts: tuple[Path, ...]
    files: Mapping[str, FileRecord]
    provenance: Mapping[str, Any]
    digest: str
    graphs: GraphManifest | None = None
    named_codes: tuple[int, ...] = ()
    int8: Int8Manifest | None = None

    @property
    def action_codes(self) -> tuple[int, ...]:
        """The action of the dynamics that each of `action_names` stands for."""
        return self.named_codes or tuple(range(len(self.action_names)))

    @property
    def code_names(self) -> tuple[str, ...]:
        """What each action of the dynamics is called: its names, or what an unnamed one is called."""
        named: dict[int, list[str]] = {}
        for name, code in zip(self.action_names, self.action_codes, strict=True):
            named.setdefault(code, []).append(name)
        codes = range(self.config.dynamics.num_actions)
        return tuple(", ".join(named.get(code, [unnamed_action(code)])) for code in codes)


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that came with the package, sorted."""
    return tuple(sorted(path.parent.name for path in _SHIPPED.glob(f"*/{MANIFEST}")))


def open_bundle(source: str | Path, *, hash_weights: bool = True) -> Bundle:
    """Opens a bundle and checks all of it but the tensors, whose shapes only the model knows.

    Reads every file once, to hash it. Files may be links, as in a hub's cache: what counts is what is read.
    Does not import torch.

    Args:
        source: the name of a shipped bundle (a str that `shipped_bundles` lists), or a bundle's folder.
        hash_weights: False for whoever reads the weights next, which hashes them.

    Raises:
        BundleError: there is no such bundle, or one of its files is not what bundle.json says. The message
            names the file, what was expected and what was found.
    """
    check_path(source, "a bundle, or the name of one", error=BundleError)
    try:
        root = _locate(source).resolve()
        data = read_regular(
            root / MANIFEST, MAX_MANIFEST_BYTES, expected="the bundle's manifest", error=BundleError
        )
        manifest = parse_manifest(data, str(root / MANIFEST))
        _refuse_unlisted(root, manifest.files)
        passes = max(plan.passes for plan in manifest.plans.values())
        check_memory(manifest.config, manifest.files[WEIGHTS].size, str(root / MANIFEST), passes)
        for name, record in manifest.files.items():  # all sizes before the first hash: cheap before dear
            with _open(root / name, record):
                pass
        for name, record in manifest.files.items():
            if name in manifest.prompts:
                _check_prompt(root / name, record, manifest.config)
            elif name != WEIGHTS or hash_weights:
                _check_hash(root / name, record)
    except OSError as error:
        raise BundleError(f"{source}: expected a bundle that can be read, found {error}") from error
    return Bundle(
        path=root,
        name=manifest.name,
        preset=manifest.preset,
        config=manifest.config,
        action_names=manifest.action_names,
        default_action=manifest.default_action,
        plans=MappingProxyType(manifest.plans),
        prompts=tuple(root / name for name in manifest.prompts),
        files=MappingProxyType(manifest.files),
        provenance=MappingProxyType(manifest.provenance),
        digest=hashlib.sha256(data).hexdigest(),
        graphs=manifest.graphs,
        named_codes=manifest.action_codes,
        int8=manifest.int8,
    )


def read_file(bundle: Bundle, name: str) -> NDArray[np.uint8]:
    """A file of an opened bundle in private memory, `[size]` uint8; it is the one that was there then.

    Args:
        name: one of `bundle.files`.

    Raises:
        BundleError: it is another one, or gone.
    """
    path = bundle.path / name
    try:
        return _read(path, bundle.files[name])
    except BundleError as error:
        raise BundleError(f"{path}: changed since it was opened; load the bundle again ({error})") from error


def read_prompt(bundle: Bundle, index: int) -> Picture:
    """The bundle's picture of that index, `[H, W, 3]` uint8.

    Raises:
        BundleError: as `read_file`.
    """
    path, tokenizer = bundle.prompts[index], bundle.config.tokenizer
    data = read_file(bundle, path.relative_to(bundle.path).as_posix())
    return decode_prompt(data.tobytes(), path, tokenizer.height, tokenizer.width)


def read_weights(bundle: Bundle, name: str = WEIGHTS) -> StoredWeights:
    """A file of weights in private memory: nobody who writes to the file changes it.

    Args:
        name: of the file, `WEIGHTS` or `LAM_WEIGHTS`.

    Raises:
        BundleError: it is not the file that was opened, or no safetensors file.
    """
    try:
        return read_stored(read_file(bundle, name))
    except ValueError as error:
        raise BundleError(
            f"{bundle.path / name}: expected a safetensors file, found {error}; export again"
        ) from error


def load_weights(
    bundle: Bundle, expected: Mapping[str, tuple[int, ...]], name: str = WEIGHTS
) -> dict[str, torch.Tensor]:
    """Reads the weights, once the file's header agrees with the model in every name, shape and dtype.

    Args:
        bundle: from `open_bundle`.
        expected: the shape of every tensor by name, as `parameter_shapes(bundle.config)` gives them. Load
            before the model is built: then nothing is allocated for sizes that only bundle.json claims.
        name: of the file, `WEIGHTS` or `LAM_WEIGHTS`.

    Returns:
        The tensors in the order of `expected`, on the CPU, contiguous, fp32 or bf16 as stored. They are views
        of one copy of the file in private memory, which lives as long as any of them.

    Raises:
        BundleError: the header is corrupt; a tensor is extra, missing, of another shape or dtype, or holds a
            NaN or Inf. The message names the file and the tensor.
    """
    import torch

    path = bundle.path / name
    stored = read_weights(bundle, name)
    _check_names(path, set(stored.tensors), set(expected))
    for tensor, shape in expected.items():
        if (found := stored.tensors[tensor].shape) != tuple(shape):
            raise BundleError(f"{path}: {tensor}: expected shape {list(shape)}, found {list(found)}")
    weights = {tensor: stored.tensor(tensor) for tensor in expected}
    for tensor, weight in weights.items():
        num_bad = weight.numel() - int(torch.isfinite(weight).sum())
        if num_bad:
            raise BundleError(f"{path}: {tensor}: expected finite numbers, found {num_bad} NaN or Inf")
    return weights


def _locate(source: str | Path) -> Path:
    shipped = shipped_bundles()
    if isinstance(source, str) and source in shipped:
        return _SHIPPED / source
    folder = Path(source)
    if not folder.is_dir() and not restored(folder.absolute()):
        found = "a file" if folder.exists() else "nothing of that name"
        if (old := moved_away(folder.absolute())) is not None:
            found += f", and beside it {old.name}, which an interrupted export moved away: rename that"
        raise BundleError(
            f"{str(source)!r}: expected a shipped bundle ({', '.join(shipped) or 'this install has none'}) "
            f"or a bundle's folder, found {found}; give the folder that holds {MANIFEST}"
        )
    return folder


def _refuse_unlisted(root: Path, listed: Iterable[str]) -> None:
    """Refuses files that somebody could take for a part of the bundle; `.DS_Store` and the like may stay."""
    for pattern in ("*.safetensors", "*.onnx", "prompts/*.png"):
        for path in sorted(root.glob(pattern)):
            if path.relative_to(root).as_posix() not in listed:
                raise BundleError(
                    f"{root / MANIFEST}: expected a record of every file, found none of "
                    f"{path.relative_to(root).as_posix()!r}; remove that file or export again"
                )


@contextmanager
def _open(path: Path, record: FileRecord) -> Iterator[BinaryIO]:
    """A file of the size that it has to have."""
    with open_regular(path, expected="a file of the bundle", error=BundleError) as file:
        size = os.fstat(file.fileno()).st_size
        if size != record.size:
            raise BundleError(
                f"{path}: expected {record.size} bytes, found {size}; fetch the file again "
                "(a Git LFS pointer or a cut download is shorter)"
            )
        yield file


def _read(path: Path, record: FileRecord) -> NDArray[np.uint8]:
    """Exactly the bytes whose hash the record has."""
    with _open(path, record) as file:
        data = np.empty(record.size, np.uint8)
        view, place = data.data, 0
        while place < record.size and (count := file.readinto(view[place:])):  # type: ignore[attr-defined]  # BinaryIO lacks it
            place += count
    _compare(path, hashlib.sha256(view[:place]).hexdigest(), record)
    return data


def _check_hash(path: Path, record: FileRecord) -> None:
    with _open(path, record) as file:
        digest, left = hashlib.sha256(), record.size
        while left and (part := file.read(min(left, _PART_BYTES))):
            digest.update(part)
            left -= len(part)
    _compare(path, digest.hexdigest(), record)


def _compare(path: Path, found: str, record: FileRecord) -> None:
    if found != record.sha256:
        raise BundleError(f"{path}: expected sha256 {record.sha256}, found {found}; fetch the file again")


def _check_prompt(path: Path, record: FileRecord, config: ModelConfig) -> None:
    """One whose hash is right, and which is a picture of the model's size."""
    if record.size > MAX_FILE_BYTES:
        raise BundleError(f"{path}: expected at most {MAX_FILE_BYTES} bytes, found {record.size}")
    try:
        data = _read(path, record).tobytes()
        decode_prompt(data, path, config.tokenizer.height, config.tokenizer.width)
    except InputError as error:
        raise BundleError(str(error)) from error


def _check_names(path: Path, found: set[str], expected: set[str]) -> None:
    for names, what in ((expected - found, "missing"), (found - expected, "unknown")):
        if names:
            name, others = min(names), len(names) - 1
            more = f" and {others} more" if others else ""
            raise BundleError(
                f"{path}: expected the {len(expected)} tensors that the model's config implies, found that "
                f"{name!r}{more} is {what}; export again with this version"
            )

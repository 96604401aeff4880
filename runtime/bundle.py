"""Opens a bundle: a flat folder that holds one world model. Nothing in it is trusted or executed.

bundle.json            what the bundle is, and the size and sha256 of every other file (`manifest.py`)
weights.safetensors    fp32 or bf16, named as in `WorldModel.state_dict()`
NAME.onnx              graphs
prompts/NAME.png       pictures to start from
README.md              model card
"""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from genie_rt.errors import BundleError, InputError
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.images import load_prompt
from genie_rt.runtime.manifest import (
    MANIFEST,
    MAX_MANIFEST_BYTES,
    SCHEMA_VERSION,
    WEIGHTS,
    FileRecord,
    Graphs,
    parse_manifest,
)
from genie_rt.runtime.plan import Plan

if TYPE_CHECKING:
    import torch

__all__ = ["SCHEMA_VERSION", "Bundle", "load_weights", "open_bundle", "shipped_bundles"]

_SHIPPED = Path(__file__).parent / "bundles"
_DTYPES = ("F32", "BF16")  # as safetensors spells them

Stamp: TypeAlias = tuple[int, int, int]
"""Of a file: bytes, inode, and the time of its last change in ns. With another it has to be hashed again."""


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
        digest: sha256 of bundle.json, which covers all other files: the bundle's identity.
        weights_stamp: of the file of weights when it was opened; None of a bundle that is in memory only.
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
    graphs: Graphs | None = None
    weights_stamp: Stamp | None = None


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that came with the package, sorted."""
    return tuple(sorted(path.parent.name for path in _SHIPPED.glob(f"*/{MANIFEST}")))


def open_bundle(source: str | Path) -> Bundle:
    """Opens a bundle and checks all of it but the tensors, whose shapes only the model knows.

    Reads every file once, to hash it. Does not import torch.

    Args:
        source: the name of a shipped bundle (a str that `shipped_bundles` lists), or a bundle's folder.

    Raises:
        BundleError: there is no such bundle, or one of its files is not what bundle.json says. The message
            names the file, what was expected and what was found.
    """
    try:
        root = _locate(source).resolve()
        data = _read_manifest(root)
        manifest = parse_manifest(data, str(root / MANIFEST))
        _refuse_unlisted(root, manifest.files)
        weights_stamp = _stamp(_file_inside(root, WEIGHTS))  # before it is hashed
        for name, record in manifest.files.items():  # all sizes before the first hash: cheap before dear
            _check_size(root, name, record)
        for name, record in manifest.files.items():
            _check_hash(root / name, record)
        prompts = tuple(root / name for name in manifest.prompts)
        _check_prompts(prompts, manifest.config)
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
        prompts=prompts,
        files=MappingProxyType(manifest.files),
        provenance=MappingProxyType(manifest.provenance),
        digest=hashlib.sha256(data).hexdigest(),
        graphs=manifest.graphs,
        weights_stamp=weights_stamp,
    )


def check_unchanged(bundle: Bundle, name: str) -> None:
    """Checks a file that is read only now: it is the one that was there when the bundle was opened.

    Hashes it, but not weights whose stamp is the same. Of a bundle in memory there is nothing to check.

    Raises:
        BundleError: it is another one, or gone.
    """
    path = bundle.path / name
    try:
        if bundle.weights_stamp is None or (name == WEIGHTS and _stamp(path) == bundle.weights_stamp):
            return
        _check_size(bundle.path, name, bundle.files[name])
        _check_hash(path, bundle.files[name])
    except (BundleError, OSError) as error:
        raise BundleError(f"{path}: changed since it was opened; load the bundle again") from error


def load_weights(bundle: Bundle, expected: Mapping[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Reads the weights, once the file's header agrees with the model in every name, shape and dtype.

    Args:
        bundle: from `open_bundle`.
        expected: the shape of every tensor by name, as `parameter_shapes(bundle.config)` gives them. Load
            before the model is built: then nothing is allocated for sizes that only bundle.json claims.

    Returns:
        The tensors in the order of `expected`, on the CPU, contiguous, fp32 or bf16 as stored. They are views
        of a private map of the file: copy what has to outlive it.

    Raises:
        BundleError: the header is corrupt; a tensor is extra, missing, of another shape or dtype, or holds a
            NaN or Inf. The message names the file and the tensor.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    path = bundle.path / WEIGHTS
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            _check_names(path, set(file.keys()), set(expected))
            for name, shape in expected.items():
                tensor = file.get_slice(name)
                _check_tensor(path, name, shape, tuple(tensor.get_shape()), tensor.get_dtype())
            weights: dict[str, torch.Tensor] = {name: file.get_tensor(name) for name in expected}
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path}: expected a safetensors file, found {error}") from error
    for name, weight in weights.items():
        num_bad = weight.numel() - int(torch.isfinite(weight).sum())
        if num_bad:
            raise BundleError(f"{path}: {name}: expected finite numbers, found {num_bad} NaN or Inf")
    return weights


def _locate(source: str | Path) -> Path:
    shipped = shipped_bundles()
    if isinstance(source, str) and source in shipped:
        return _SHIPPED / source
    folder = Path(source)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing of that name"
        raise BundleError(
            f"{str(source)!r}: expected a shipped bundle ({', '.join(shipped) or 'this install has none'}) "
            f"or a bundle's folder, found {found}; give the folder that holds {MANIFEST}"
        )
    return folder


def _read_manifest(root: Path) -> bytes:
    path = _file_inside(root, MANIFEST)
    with path.open("rb") as file:
        return file.read(MAX_MANIFEST_BYTES + 1)  # one more than is allowed shows that there is more


def _file_inside(root: Path, name: str) -> Path:
    """The path of a regular file that lies in `root` even after symbolic links are followed."""
    path = root / name
    try:
        real = path.resolve(strict=True)
    except FileNotFoundError:
        raise BundleError(f"{path}: expected a file, found nothing; fetch the whole bundle again") from None
    except RuntimeError as error:  # Python 3.11 reports a loop of links so
        raise BundleError(f"{path}: expected a file, found {error}") from error
    if not real.is_relative_to(root):
        raise BundleError(f"{path}: expected a file inside the bundle, found a link that leads out of it")
    if not stat.S_ISREG(real.stat().st_mode):
        raise BundleError(f"{path}: expected a regular file, found something else")
    return path


def _refuse_unlisted(root: Path, listed: Iterable[str]) -> None:
    """Refuses files that somebody could take for a part of the bundle; `.DS_Store` and the like may stay."""
    for pattern in ("*.safetensors", "*.onnx", "prompts/*.png"):
        for path in sorted(root.glob(pattern)):
            if path.relative_to(root).as_posix() not in listed:
                raise BundleError(
                    f"{root / MANIFEST}: expected a record of every file, found none of "
                    f"{path.relative_to(root).as_posix()!r}; remove that file or export again"
                )


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_ino, status.st_mtime_ns


def _check_size(root: Path, name: str, record: FileRecord) -> None:
    path = _file_inside(root, name)
    size = path.stat().st_size
    if size != record.size:
        raise BundleError(
            f"{path}: expected {record.size} bytes, found {size}; fetch the file again "
            "(a Git LFS pointer or a cut download is shorter)"
        )


def _check_hash(path: Path, record: FileRecord) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != record.sha256:
        raise BundleError(f"{path}: expected sha256 {record.sha256}, found {found}; fetch the file again")


def _check_prompts(prompts: Iterable[Path], config: ModelConfig) -> None:
    for path in prompts:
        try:
            load_prompt(path, config.tokenizer.height, config.tokenizer.width)
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


def _check_tensor(
    path: Path, name: str, expected: tuple[int, ...], found: tuple[int, ...], dtype: str
) -> None:
    if found != tuple(expected):
        raise BundleError(f"{path}: {name}: expected shape {list(expected)}, found {list(found)}")
    if dtype not in _DTYPES:
        raise BundleError(f"{path}: {name}: expected dtype {' or '.join(_DTYPES)}, found {dtype}")

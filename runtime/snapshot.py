"""Snapshots: a moment of a session, held in memory or written to bytes that nobody has to trust.

In memory a snapshot is a reference to the session's row: nothing is copied. As bytes it is

    magic | version, 4 bytes little-endian | sha256 of the rest | safetensors

whose metadata say what the moment is of (`Origin`) and whose tensors are the row's, its pages stacked. All of
it is checked before it becomes a snapshot again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.arguments import check_path
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.backends.row_io import EXCHANGED
from genie_rt.runtime.config import ModelConfig, TransformerConfig, from_dict, to_dict
from genie_rt.runtime.files import read_regular
from genie_rt.runtime.images import Picture
from genie_rt.runtime.loaded_world import LoadedWorld
from genie_rt.runtime.model.dynamics import NULL_ACTION
from genie_rt.runtime.turn import Uncopied
from genie_rt.runtime.untrusted import brief
from genie_rt.runtime.untrusted_json import parse_json

MAGIC = b"genie-rt snapshot\n"
VERSION = 1
MAX_HEADER_BYTES = 2**20

_FRONT = struct.Struct(f"<{len(MAGIC)}sI32s")
_LENGTH = struct.Struct("<Q")
_METADATA = "genie-rt"
_TENSORS = frozenset({"tokens", "dynamics", "decoder", "spatial", "change", "picture"})


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Snapshot(Uncopied):
    """A moment of a session, to come back to. Shares the session's pages: no tensor is copied.

    It holds the state and the seed, not the plan. It is good for any session of the same world; written to
    bytes, for any world of the same bundle and dtype. One of another back end goes on from there with its own
    rounding, and where it keeps pages in bfloat16 and the other in float32 begins with rounding those.
    """

    world: LoadedWorld
    row: Row
    frame: Picture

    instead: ClassVar[str] = "to_bytes() gives bytes, and world.load_snapshot makes a snapshot of them again"

    def __repr__(self) -> str:
        return f"Snapshot({self.world!r}, seed={self.row.seed}, frame_index={self.row.frame_index})"

    def to_bytes(self) -> bytes:
        """The moment as bytes, for `World.load_snapshot`. Gathers the pages: this copies them.

        The same moment gives the same bytes.

        Raises:
            StateError: this is a fork of the process that loaded the world.
        """
        self.world.home.check()
        row, bundle = self.row, self.world.bundle
        origin = Origin(
            bundle=bundle.name,
            digest=bundle.digest,
            config_sha256=_config_sha256(bundle.config),
            dtype=self.world.dtype,
            seed=row.seed,
            frame_index=row.frame_index,
            action=row.action,
            pending=row.pending,
        )
        tensors = self.world.backend.save_row(row) | {"picture": torch.from_numpy(self.frame.copy())}
        blob = safetensors.torch.save(tensors, {_METADATA: json.dumps(to_dict(origin))})
        return _FRONT.pack(MAGIC, VERSION, hashlib.sha256(blob).digest()) + blob

    def save(self, path: str | Path) -> None:
        """Writes `to_bytes` to a file, whole or not at all.

        Raises:
            InputError: it is no path, or the folder or the file cannot be written.
            StateError: as `to_bytes`.
        """
        path, data = check_path(path, "a file to write"), self.to_bytes()
        with atomic_file(path) as temporary:
            temporary.write_bytes(data)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a snapshot's bytes say about themselves, besides the tensors.

    Attributes:
        bundle: its name, for messages.
        digest: of the bundle, its identity.
        config_sha256: of the model's sizes.
        dtype: that the world computes in.
        seed, frame_index, action, pending: as in `Row`.
    """

    bundle: str
    digest: str
    config_sha256: str
    dtype: str
    seed: int
    frame_index: int
    action: int
    pending: bool


def load_snapshot(world: LoadedWorld, source: str | Path | bytes) -> Snapshot:
    """See `World.load_snapshot`."""
    world.home.check()
    most = _most_bytes(world)
    if isinstance(source, bytes | bytearray | memoryview):
        where, data = "snapshot", bytes(source)
        if len(data) > most:
            raise InputError(
                f"{where}: expected at most {most} bytes, the most that this world saves, found {len(data)}"
            )
    else:
        path = check_path(source, "a snapshot, or its bytes")
        where, data = str(path), read_regular(path, most, expected="a snapshot")
    blob = _unseal(data, where)
    try:
        origin = _origin(blob)
        _check_origin(origin, world)
        tensors = _tensors(blob)
        _check_moment(origin, tensors, world.bundle.config)
        picture = tensors.pop("picture")
        row = world.backend.load_row(
            tensors,
            seed=origin.seed,
            frame_index=origin.frame_index,
            action=origin.action,
            pending=origin.pending,
        )
    except (InputError, ConfigError) as error:
        raise InputError(f"{where}: {brief(error)}") from error
    frame = picture.numpy().copy()
    frame.setflags(write=False)  # sessions that restore it share it
    return Snapshot(world, row, frame)


def _unseal(data: bytes, where: str) -> bytes:
    """The part after the hash, once the hash agrees with it."""
    if not data.startswith(MAGIC):
        raise InputError(f"{where}: expected a snapshot of genie-rt, found bytes that begin otherwise")
    if len(data) < _FRONT.size:
        raise InputError(f"{where}: the snapshot is cut short, found {len(data)} bytes; save it again")
    _, version, digest = _FRONT.unpack_from(data)
    if version != VERSION:
        remedy = "install a newer genie-rt" if version > VERSION else "save it again with this genie-rt"
        raise InputError(f"{where}: expected snapshot version {VERSION}, found {version}; {remedy}")
    blob = data[_FRONT.size :]
    if hashlib.sha256(blob).digest() != digest:
        raise InputError(
            f"{where}: the snapshot is damaged or cut short, its bytes do not have the hash that was saved "
            "with them; save it again"
        )
    return blob


def _origin(blob: bytes) -> Origin:
    """What the metadata of the safetensors header say."""
    try:
        (length,) = _LENGTH.unpack_from(blob)
        if length > min(MAX_HEADER_BYTES, len(blob) - _LENGTH.size):
            raise ValueError(f"a header of {length} bytes")
        header = parse_json(blob[_LENGTH.size : _LENGTH.size + length])
        return from_dict(Origin, parse_json(header["__metadata__"][_METADATA]), "origin")
    except (ValueError, KeyError, TypeError, struct.error) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"expected a header with the origin of the moment, found {brief(error)}") from error


def _tensors(blob: bytes) -> dict[str, Tensor]:
    try:
        tensors = safetensors.torch.load(blob)
    except (SafetensorError, ValueError, KeyError, RuntimeError, TypeError, AssertionError) as error:
        raise InputError(f"expected safetensors, found {brief(error)}") from error
    if tensors.keys() != _TENSORS:
        raise InputError(f"expected the tensors {', '.join(sorted(_TENSORS))}, found {sorted(tensors)}")
    return tensors


def _check_origin(origin: Origin, world: LoadedWorld) -> None:
    """The moment is one of this world's."""
    bundle = world.bundle
    if origin.digest != bundle.digest or origin.config_sha256 != _config_sha256(bundle.config):
        raise InputError(
            f"expected a snapshot of the bundle {bundle.name!r} ({bundle.digest[:12]}), found one of another "
            f"bundle, {origin.bundle!r} ({origin.digest[:12]}); load that bundle to restore it"
        )
    if origin.dtype != world.dtype:
        raise InputError(
            f"expected a snapshot of a world in {world.dtype}, found {origin.dtype}; load the world with "
            f"dtype={origin.dtype!r} to restore it"
        )


def _check_moment(origin: Origin, tensors: dict[str, Tensor], config: ModelConfig) -> None:
    """The state is one that a session of this model can be in. The row's own tensors the back end checks."""
    tokenizer = config.tokenizer
    first, num_actions = origin.frame_index == 0, config.dynamics.num_actions
    _require(0 <= origin.seed < 1 << 64, "a seed from 0 to 2**64 - 1", origin.seed)
    _require(0 <= origin.frame_index < 1 << 62, "a frame index from 0 to 2**62 - 1", origin.frame_index)
    _require(
        origin.action == NULL_ACTION if first else 0 <= origin.action < num_actions,
        f"the action {NULL_ACTION} at a first frame" if first else f"an action from 0 to {num_actions - 1}",
        origin.action,
    )
    picture, shape = tensors["picture"], (*tokenizer.output_size, 3)
    _require(
        picture.dtype == torch.uint8 and picture.shape == shape,
        f"a picture {list(shape)} uint8",
        f"{list(picture.shape)} {picture.dtype}",
    )
    known = origin.frame_index + 1  # frames since the reset
    for name, expected in (
        ("dynamics", min(known - origin.pending, config.dynamics.transformer.window - 1)),
        ("decoder", min(known, tokenizer.decoder.window - 1)),
    ):
        count = tensors[name].shape[0] if tensors[name].ndim else 0
        _require(count == expected, f"{expected} pages of the {name}", count)
    _require(
        tensors["spatial"].shape[:1] in ((0,), (1,)),
        "one spatial page or none",
        list(tensors["spatial"].shape[:1]),
    )


def _require(ok: bool, expected: str, found: object) -> None:
    if not ok:
        raise InputError(f"expected {expected}, found {found}")


def _most_bytes(world: LoadedWorld) -> int:
    """Bytes of the largest snapshot of this world, and some: what is longer is none."""
    config = world.bundle.config
    tokenizer, dynamics = config.tokenizer, config.dynamics.transformer
    itemsize = max(dtype.itemsize for dtype in (world.backend.dtype, *EXCHANGED))
    num_values = dynamics.window * _page_size(dynamics, config.num_positions)  # one page more: the spatial
    num_values += (tokenizer.decoder.window - 1) * _page_size(tokenizer.decoder, tokenizer.num_tokens)
    height, width = tokenizer.output_size
    others = 8 * tokenizer.num_tokens + 4 * config.num_positions + 3 * height * width
    return _FRONT.size + MAX_HEADER_BYTES + num_values * itemsize + others


def _page_size(config: TransformerConfig, num_positions: int) -> int:
    """Numbers in one page."""
    return config.num_layers * 2 * num_positions * config.attention_width


def _config_sha256(config: ModelConfig) -> str:
    return hashlib.sha256(json.dumps(dataclasses.asdict(config), sort_keys=True).encode()).hexdigest()

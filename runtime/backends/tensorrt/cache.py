"""The user's folder of engines: found by what they were built of and for, locked while they are built.

ROOT/BUNDLE/GRAPH.PRECISION.FLAVOUR/KEY.engine       sealed
                                    KEY.log          what TensorRT said while it was built
                                    KEY.GPU.runtime  sealed: kernels that TensorRT-RTX compiled
            TARGET.timing                            sealed: what TensorRT measured, for all graphs
            lock
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from genie_rt.errors import BundleError, ConfigError, InputError, UnsupportedError
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.backends.tensorrt.target import Target
from genie_rt.runtime.config import from_dict
from genie_rt.runtime.kept import private_folder
from genie_rt.runtime.sealed import Sealed, read_about, read_sealed, write_sealed
from genie_rt.runtime.untrusted import brief

REBUILD = "build it anew with --rebuild"

_LOGGER = logging.getLogger("genie_rt.tensorrt")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a build.

    Attributes:
        level: 0 to 5, how long TensorRT looks for a faster engine.
        workspace_bytes: of a layer at most; None leaves it the whole device.
    """

    level: int = 3
    workspace_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """All that an engine depends on. Another one in any of it is another engine.

    Attributes:
        bundle: its digest, which covers the weights.
        graph: name of the graph, without precision.
        graph_sha256: of the graph's file.
        precision: of the graph.
        flavour, version: of TensorRT.
        target: where it runs.
        settings: of the build.
    """

    bundle: str
    graph: str
    graph_sha256: str
    precision: str
    flavour: str
    version: str
    target: Target
    settings: Settings = Settings()

    @property
    def key(self) -> str:
        """Name of the engine's file."""
        return _digest(asdict(self))

    @property
    def where(self) -> str:
        """What it was built by and for, in words."""
        return f"{self.flavour} {self.version} for {self.target}"

    @classmethod
    def of(cls, about: dict[str, Any]) -> Identity | None:
        """The identity noted with an engine; None where the notes are of something else."""
        try:
            return from_dict(cls, about)
        except ConfigError:
            return None


class EngineCache:
    """Engines in a folder that nobody but its owner may write: who can put a file there runs code here.

    Raises:
        UnsupportedError: others may write the folder, it belongs to someone else, or the system has no locks.
        InputError: the folder cannot be made.
    """

    def __init__(self, root: Path) -> None:
        self.root = private_folder(root, "an engine")

    def folder(self, wanted: Identity) -> Path:
        """Folder of all engines of one graph, whatever they were built for."""
        name = f"{wanted.graph}.{wanted.precision}.{wanted.flavour}"
        return self.root / wanted.bundle[:16] / name

    def engine_path(self, wanted: Identity) -> Path:
        return self.folder(wanted) / f"{wanted.key}.engine"

    def log_path(self, wanted: Identity) -> Path:
        return self.folder(wanted) / f"{wanted.key}.log"

    def find(self, wanted: Identity) -> Sealed | None:
        """The engine; None where it was never built.

        Raises:
            BundleError: it was changed since it was built.
            UnsupportedError: there are engines of this graph, but for another GPU, driver or version.
        """
        path = self.engine_path(wanted)
        try:
            sealed = read_sealed(path)
        except FileNotFoundError:
            pass
        except BundleError as error:
            raise BundleError(f"{error}; {REBUILD}") from error
        else:
            if Identity.of(sealed.about) != wanted:
                raise BundleError(
                    f"{path}: expected an engine of {wanted.where}, found notes about another one; {REBUILD}"
                )
            return sealed
        if others := sorted({other.where for _, other in self._others(wanted)}):
            raise UnsupportedError(
                f"the graph {wanted.graph} ({wanted.precision}): expected an engine of {wanted.where}, found "
                f"one of {brief(' and one of '.join(others))} in {self.folder(wanted)}; {REBUILD}"
            )
        return None

    def store(self, wanted: Identity, data: bytes | memoryview) -> None:
        """Keeps an engine, and lets go of those that another version or driver has made useless here.

        Under the lock, as all that writes.
        """
        for path, other in self._others(wanted):
            if (other.target.gpu, other.target.capability) == (wanted.target.gpu, wanted.target.capability):
                for old in path.parent.glob(f"{path.stem}.*"):
                    old.unlink(missing_ok=True)
        write_sealed(self.engine_path(wanted), asdict(wanted), data)

    def write_log(self, wanted: Identity, lines: list[str]) -> None:
        with atomic_file(self.log_path(wanted)) as temporary:
            temporary.write_text("\n".join([wanted.where, *lines, ""]), encoding="utf-8")

    @contextmanager
    def locked(self, wanted: Identity) -> Iterator[None]:
        """Within its block no other thread or process builds an engine of this bundle.

        Of the whole bundle, since builds side by side would disturb what TensorRT measures. A lock ends with
        its process, and what a killed one was writing is removed.
        """
        folder = self.folder(wanted)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (folder.parent / "lock").open("ab")
        except OSError as error:
            raise InputError(f"{folder}: expected a folder to write to, found: {error.strerror}") from error
        with lock:
            _lock(lock)
            for leftover in folder.parent.rglob(".*.tmp"):
                leftover.unlink(missing_ok=True)
            yield

    # What only makes things faster: where it is damaged it is made again.

    def timing_path(self, wanted: Identity) -> Path:
        what = {"flavour": wanted.flavour, "version": wanted.version, "target": asdict(wanted.target)}
        return self.root / wanted.bundle[:16] / f"{_digest(what)}.timing"

    def runtime_path(self, wanted: Identity, here: Target) -> Path:
        """Path of what was compiled for the very GPU and driver that are here."""
        return self.folder(wanted) / f"{wanted.key}.{_digest(asdict(here))[:16]}.runtime"

    def read_aid(self, path: Path) -> bytes:
        """What was kept there, or nothing."""
        try:
            return read_sealed(path).data
        except FileNotFoundError:
            return b""
        except BundleError as error:
            _LOGGER.warning("%s; it is made again", error)
            return b""

    def write_aid(self, path: Path, data: bytes | memoryview) -> None:
        write_sealed(path, {}, data)

    def _others(self, wanted: Identity) -> Iterator[tuple[Path, Identity]]:
        """Engines of the same graph that were built by or for something else; damaged ones are nobody's."""
        for path in sorted(self.folder(wanted).glob("*.engine")):
            try:
                other = Identity.of(read_about(path))
            except (BundleError, FileNotFoundError):
                continue
            if other is None or other == wanted:
                continue
            if replace(other, version=wanted.version, target=wanted.target) == wanted:
                yield path, other


def _lock(file: IO[bytes]) -> None:
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        _LOGGER.info("waiting for another process that builds engines of this bundle")
        fcntl.flock(file, fcntl.LOCK_EX)


def _digest(what: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]

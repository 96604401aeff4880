"""Records: what was measured, on what, with what, as JSON that a later run can be compared with.

One envelope for every kind of measurement: a `Header` says where, when and with what it was taken, the body
holds the figures and belongs to the module that measures them. In the file they are one object, the body
under its own key. Figures were measured; nothing is filled in that the machine did not say.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from genie_rt import __version__
from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.config import from_dict, to_dict
from genie_rt.runtime.untrusted import brief
from genie_rt.runtime.untrusted_json import read_json

if TYPE_CHECKING:
    from genie_rt.runtime.world import World

SCHEMA_VERSION = 2

MAX_RECORD_BYTES = 256 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """Device that computed.

    Attributes:
        name: "cpu", or a torch device such as "cuda".
        model: of the processor or the accelerator, as it calls itself.
        cpu_model: of the processor beside it.
        num_cores: logical processors that this process may use.
        num_threads: threads that torch computes one operator with, on the CPU.
        system: operating system and architecture.
    """

    name: str
    model: str
    cpu_model: str
    num_cores: int
    num_threads: int
    system: str

    @classmethod
    def current(cls, name: str) -> Device:
        import torch

        from genie_rt.runtime.processor import processor_name

        return cls(
            name=name,
            model=processor_name(torch.device(name)),
            cpu_model=processor_name(torch.device("cpu")),
            num_cores=num_cores(),
            num_threads=torch.get_num_threads(),
            system=f"{platform.system()} {platform.machine()}",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Software:
    """Software versions.

    Attributes:
        commit: of genie-rt's own checkout, "-dirty" where files differ from it; None for an installed
            package.
    """

    genie_rt: str
    torch: str
    python: str
    commit: str | None

    @classmethod
    def current(cls) -> Software:
        import torch

        return cls(
            genie_rt=__version__,
            torch=torch.__version__,
            python=platform.python_version(),
            commit=_commit(Path(__file__)),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Measured bundle, by its digest, and how it was run.

    Attributes:
        digest: of the bundle; empty for a world that never was one.
        window: `W` of the dynamics: how many frames the paper's recipe recomputes in each pass.
    """

    bundle: str
    digest: str
    window: int
    backend: str
    dtype: str

    @classmethod
    def of(cls, world: World, backend: str = "reference") -> Subject:
        bundle = world.bundle
        return cls(
            bundle=bundle.name,
            digest=bundle.digest,
            window=bundle.config.dynamics.transformer.window,
            backend=backend,
            dtype=world.dtype,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """Header of every record.

    Attributes:
        kind: of the body.
        created: UTC, ISO 8601.
        command: that takes the same measurement again.
        warnings: what speaks against the figures.
    """

    schema_version: int = SCHEMA_VERSION
    kind: str
    created: str
    command: str
    software: Software
    device: Device
    warnings: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise ConfigError(f"schema_version: expected {SCHEMA_VERSION}, found {self.schema_version}")


class Body(Protocol):
    """The figures of a record: a frozen dataclass that says of which kind it is."""

    KIND: ClassVar[str]


BodyT = TypeVar("BodyT", bound=Body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Record(Generic[BodyT]):
    """Record of one measurement."""

    header: Header
    body: BodyT

    def __post_init__(self) -> None:
        if self.header.kind != self.body.KIND:
            raise ConfigError(
                f"kind: expected {self.body.KIND!r} above such a body, found {self.header.kind!r}"
            )

    @classmethod
    def take(cls, body: BodyT, *, command: str, device: str, warnings: Sequence[str] = ()) -> Record[BodyT]:
        """A record of a measurement that was taken here, just now.

        Args:
            device: torch device that computed.
        """
        return cls(
            header=Header(
                kind=body.KIND,
                created=now(),
                command=command,
                software=Software.current(),
                device=Device.current(device),
                warnings=tuple(warnings),
            ),
            body=body,
        )


def write_record(path: Path, record: Record[BodyT]) -> None:
    """Write a record, and make its folders.

    Raises:
        InputError: the file cannot be written.
    """
    write_json(path, to_dict(record.header) | {"body": to_dict(record.body)})


def read_record(path: Path, body: type[BodyT]) -> Record[BodyT]:
    """Read a record of one kind.

    Args:
        body: class of its body, such as `FrameBody`.

    Raises:
        InputError: the file cannot be read, or is no record of this kind and schema.
    """
    found = read_json(path, max_bytes=MAX_RECORD_BYTES, expected="a record of `genie-rt`")
    values = found.object()
    try:
        header = from_dict(Header, {key: value for key, value in values.items() if key != "body"}, "record")
        if header.kind != body.KIND:
            raise ConfigError(f"record.kind: expected {body.KIND!r}, found {header.kind!r}")
        return Record(header=header, body=from_dict(body, values.get("body"), "record.body"))
    except ConfigError as error:
        raise InputError(f"{path}: expected a record of `genie-rt`, found {brief(error)}") from error


def write_json(path: Path, values: object) -> None:
    """Write indented JSON atomically, and make the file's folders.

    Raises:
        InputError: the file cannot be written.
        ValueError: a figure is NaN or infinite, which JSON does not have; nothing is written.
    """
    text = json.dumps(values, indent=1, allow_nan=False) + "\n"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def num_cores() -> int:
    """Logical processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_rss_bytes() -> int | None:
    """Most memory that this process ever held resident; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def _commit(file: Path) -> str | None:
    """Commit of the checkout that `file` is tracked in; None where it is not.

    A package that is installed inside somebody's project must not carry that project's commit.
    """

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(file.resolve().parent), *words],
            capture_output=True, text=True, check=True, timeout=30,
        )  # fmt: skip
        return done.stdout.strip()

    try:
        git("ls-files", "--error-unmatch", file.resolve().name)
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
    except (OSError, subprocess.SubprocessError):
        return None

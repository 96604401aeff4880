"""Loads the C library, and makes errors of its statuses."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from genie_rt.errors import (
    BundleError,
    ConfigError,
    DeviceError,
    GenieError,
    InputError,
    StateError,
    UnsupportedError,
)
from genie_rt.runtime.backends.native.find import find_library, how_to_get
from genie_rt.runtime.backends.native.header import FUNCTIONS, STATUSES, VERSION, Error, Version

_ERRORS: dict[str, type[GenieError]] = {
    "ERROR_CONFIG": ConfigError,
    "ERROR_BUNDLE": BundleError,
    "ERROR_UNSUPPORTED": UnsupportedError,
    "ERROR_STATE": StateError,
    "ERROR_DEVICE": DeviceError,
    "ERROR_INPUT": InputError,
    "ERROR_OUT_OF_MEMORY": DeviceError,
    "ERROR_CANCELLED": StateError,
    "ERROR_BUSY": StateError,
}


class Library:
    """The functions of the header. Calls let go of Python's lock, so other threads run meanwhile.

    Attributes:
        path: of the file.
        version: of the library, with its patch number.
        build: the compiler and the instruction sets, in words.

    Raises:
        UnsupportedError: the file is no library of this machine, or one of another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            library = ctypes.CDLL(str(path))
            for name, (result, arguments) in FUNCTIONS.items():
                function = getattr(library, f"grt_{name}")
                function.restype, function.argtypes = result, arguments
                setattr(self, name, function)
        except (OSError, AttributeError) as error:
            raise UnsupportedError(
                f"{path}: expected the library of the native engine for this machine, found one that cannot "
                f"be loaded: {error}; {how_to_get()}"
            ) from error
        version = Version()
        self.call("get_version", ctypes.byref(version))
        self.version = (version.major, version.minor, version.patch)
        self.build: str = version.build.decode() if version.build else ""
        if self.version[:2] != VERSION:
            raise UnsupportedError(
                f"{path}: expected version {'.'.join(map(str, VERSION))} of the native engine, found "
                f"{'.'.join(map(str, self.version))}; {how_to_get()}"
            )

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"the library has no function grt_{name}")

    def call(self, name: str, *arguments: Any) -> None:
        """Calls a function that returns a status; where its message goes is added here.

        Raises:
            GenieError: the one that the status stands for, with the library's message.
        """
        error = Error()
        status = getattr(self, name)(*arguments, ctypes.byref(error))
        if status:
            message = error.message.decode("utf-8", "replace")
            word = STATUSES[status] if 0 < status < len(STATUSES) else f"status {status}"
            raise _ERRORS.get(word, GenieError)(message or word)


@cache
def load_library() -> Library:
    """The library, loaded once.

    Raises:
        UnsupportedError: there is none, or as `Library`.
        ConfigError: as `find_library`.
    """
    path = find_library()
    if path is None:
        raise UnsupportedError(f'the back end "native": expected its C library, found none; {how_to_get()}')
    return Library(path)

"""Where the C library of the native engine lies, found without loading it."""

from __future__ import annotations

import sys
from pathlib import Path

from genie_rt.environment import named_library
from genie_rt.install import clone, install_hint

_NAMES = {"win32": ("genie_rt.dll", "libgenie_rt.dll"), "darwin": ("libgenie_rt.dylib",)}

PACKAGE_FOLDER = Path(__file__).resolve().parents[2] / "native" / "lib"
"""Where a wheel carries the library."""

BUILD_FOLDERS = ("out/native", "out/sdk/lib", "out/sdk/bin")
"""Where `make native` and `make sdk` put it in a clone, the newest first."""


def library_names(platform: str = sys.platform) -> tuple[str, ...]:
    """What the file is called."""
    return _NAMES.get(platform, ("libgenie_rt.so",))


def find_library() -> Path | None:
    """The library's file; None where it was not built.

    Raises:
        ConfigError: `GENIE_RT_LIBRARY` names no file.
    """
    if (named := named_library()) is not None:
        return named
    root = clone()
    folders = [PACKAGE_FOLDER, *(() if root is None else (root / folder for folder in BUILD_FOLDERS))]
    paths = (folder / name for folder in folders for name in library_names())
    return next((path for path in paths if path.is_file()), None)


def how_to_get() -> str:
    """What to do where the library is missing."""
    root = clone()
    if root is not None:
        return f"build it with a C++ compiler and CMake: make -C {root} native"
    return (
        "this package was built without a C++ compiler and CMake: install these, build the wheel of genie-rt "
        f"again and install that, after: {install_hint()}"
    )

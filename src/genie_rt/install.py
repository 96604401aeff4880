"""Says what to type to install what an extra brings."""

import re
import sys
from pathlib import Path


def install_hint(extra: str = "") -> str:
    """The command that installs what `extra` brings, for the Python that runs.

    In a clone it names the clone: `pip install -e "/home/me/genie-rt[onnx]"`. genie-rt is in no package
    index, so a wheel's user gets the packages themselves: `pip install "onnx>=1.19" "onnxruntime>=1.24.1"`.
    `pip` is that of the running Python, by its full name where a bare `pip` could be another's.

    Args:
        extra: one of pyproject.toml; "" stands for what genie-rt always needs.
    """
    root = clone()
    if root is not None:
        return f'{_pip()} install -e "{root}{f"[{extra}]" if extra else ""}"'
    return " ".join((_pip(), "install", *(f'"{wanted}"' for wanted in _requirements(extra))))


def clone() -> Path | None:
    """The folder of the clone that this module lies in."""
    source = Path(__file__).resolve().parents[1]
    is_clone = source.name == "src" and (source.parent / "pyproject.toml").is_file()
    return source.parent if is_clone else None


def _pip() -> str:
    """`pip`, or the longer way to the same one, if the shell would find that of another Python."""
    from shutil import which

    found = which("pip")
    if found is not None and Path(found).parent == Path(sys.executable).parent:
        return "pip"
    return f'"{sys.executable}" -m pip' if " " in sys.executable else f"{sys.executable} -m pip"


def _requirements(extra: str) -> list[str]:
    """What an extra asks for, as `pip install` takes it: `name>=1; sys_platform == 'linux'`."""
    from importlib.metadata import PackageNotFoundError, requires  # slow to import

    try:
        lines = requires("genie-rt") or []
    except PackageNotFoundError:  # a bare copy of the package's folder
        return [f"genie-rt[{extra}]" if extra else "genie-rt"]
    wanted = []
    for line in lines:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        found = re.fullmatch(r"(?:(.*)\s+and\s+)?extra\s*==\s*[\"'](.*)[\"']", marker)
        others, name = found.groups() if found else (marker, "")
        if name == extra:
            wanted.append(f"{requirement}; {others}".replace('"', "'") if others else requirement)
    return wanted

"""What a built library shows of itself: its symbols, what it needs, how large it is.

    python check_library.py LIBRARY.so HEADER.h [KERNELS.o ...]

- It exports what the header declares, and nothing else.
- It needs libc and libm alone: the C++ library is inside.
- It is at most a megabyte once stripped.
- What is compiled for one instruction set shares no weak symbol with other objects. The linker keeps one of
  several equal ones, and may keep one that other processors cannot run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path

MOST_BYTES = 1_000_000
MAY_NEED = re.compile(r"lib(c|m|pthread|dl)\.so\.\d+|ld-linux-.*")


def run(*command: str | Path) -> str:
    """A command's output."""
    return subprocess.run(
        [str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def declared(header: Path) -> set[str]:
    """Names of the functions that a header declares."""
    code = re.sub(r"/\*.*?\*/", "", header.read_text(), flags=re.DOTALL)
    return set(re.findall(r"^GRT_API [^;(]*?\b(grt_\w+)\(", code, flags=re.MULTILINE))


def exported(library: Path) -> set[str]:
    """Names of what a library exports; nodes of versions aside."""
    lines = (line.split() for line in run("nm", "-D", "--defined-only", library).splitlines())
    return {words[-1].partition("@")[0] for words in lines if words[-2] != "A"}


def symbols_of_all(kernel: Path) -> list[str]:
    """Weak symbols of kernels_<set>.o that the object of another set may have too."""
    name = kernel.name.partition(".")[0].removeprefix("kernels_")
    mangled = f"3grt{len(name)}{name}"
    lines = [line.split() for line in run("nm", "--defined-only", kernel).splitlines()]
    return [symbol for _, kind, symbol in lines if kind in "VWu" and mangled not in symbol]


def complaints(library: Path, header: Path, kernels: list[Path]) -> list[str]:
    """All that does not hold."""
    found = []
    names, has = declared(header), exported(library)
    if not names:
        found.append(f"expected declarations in {header}, found none")
    if names - has:
        found.append(f"expected all of the header to be exported, missing: {sorted(names - has)}")
    if has - names:
        found.append(f"expected nothing but the header to be exported, found: {sorted(has - names)}")

    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run("readelf", "-d", library))
    foreign = [name for name in needed if not MAY_NEED.fullmatch(name)]
    if foreign:
        found.append(f"expected libc and libm alone to be needed, found: {foreign}")

    with tempfile.TemporaryDirectory() as folder:
        stripped = Path(folder) / library.name
        run("strip", "-o", stripped, library)
        size = stripped.stat().st_size
    print(f"{library.name}: {len(has)} functions, needs {', '.join(needed)}, {size:,} bytes stripped")
    if size > MOST_BYTES:
        found.append(f"expected at most {MOST_BYTES:,} bytes stripped, found {size:,}")

    for kernel in kernels:
        if kernel.name.startswith("kernels_") and (shared := symbols_of_all(kernel)):
            found.append(f"expected weak symbols of {kernel.name} to name its set, found: {shared}")
    return found


def main() -> None:
    """Check one library."""
    library, header, *kernels = map(Path, sys.argv[1:])
    if found := complaints(library.resolve(), header, kernels):
        sys.exit("\n".join(found))


if __name__ == "__main__":
    main()

"""clang-format changes nothing in the C and C++ files below a folder.

    python check_format.py FOLDER

Its versions differ in what they do, so that any other than the one below skips.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

VERSION = 14
SKIPPED = 77
SUFFIXES = {".c", ".cpp", ".h", ".hpp"}


def main() -> None:
    """Check all files."""
    program = shutil.which(f"clang-format-{VERSION}") or shutil.which("clang-format")
    said = "" if program is None else subprocess.check_output([program, "--version"], text=True)
    version = re.search(r"version (\d+)", said)
    if program is None or version is None or int(version[1]) != VERSION:
        print(f"skipped: expected clang-format {VERSION}, found {said.strip() or 'none'}")
        sys.exit(SKIPPED)
    files = sorted(path for path in Path(sys.argv[1]).rglob("*") if path.suffix in SUFFIXES)
    if not files:
        sys.exit(f"expected C and C++ files below {sys.argv[1]}, found none")
    sys.exit(subprocess.run([program, "--dry-run", "--Werror", *map(str, files)]).returncode)


if __name__ == "__main__":
    main()

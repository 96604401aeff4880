"""clang-tidy finds nothing in what a build folder compiles.

    python check_tidy.py BUILD_FOLDER SOURCE_FOLDER

Needs the build folder's compile_commands.json. The checks are those of .clang-tidy in the source folder.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SKIPPED = 77


def main() -> None:
    """Check every file once, several at a time."""
    build, source = (Path(argument).resolve() for argument in sys.argv[1:])
    tidy = shutil.which("clang-tidy")
    if tidy is None or not (build / "compile_commands.json").is_file():
        print("skipped: expected clang-tidy and a compile_commands.json, found not both")
        sys.exit(SKIPPED)
    commands = json.loads((build / "compile_commands.json").read_text())
    compiled = {Path(command["file"]) for command in commands}
    files = sorted(str(path) for path in compiled if path.is_relative_to(source / "src"))
    if not files:
        sys.exit(f"expected files below {source / 'src'}, found none")

    def check(file: str) -> tuple[int, str]:
        command = [tidy, "-p", str(build), "--quiet", "--warnings-as-errors=*", file]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return done.returncode, done.stdout

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = list(pool.map(check, files))
    for _, said in results:
        print(said, end="")
    failed = sum(code != 0 for code, _ in results)
    print(f"{len(files)} files, {failed} with findings")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()

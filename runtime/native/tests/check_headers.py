"""Every public header compiles alone, in each standard that it promises, without a warning.

    python check_headers.py INCLUDE_FOLDER COMPILER...

A compiler is one that takes GCC's flags; those that are not installed are left out.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

WARNINGS = ["-Wall", "-Wextra", "-pedantic", "-Werror"]
C = ["c99", "c17"]
CXX = ["c++17", "c++20"]


def main() -> None:
    """Compile each header twice in one file, and with GRT_STATIC."""
    include, *compilers = sys.argv[1:]
    headers = sorted(path.name for pattern in ("*.h", "*.hpp") for path in Path(include).glob(pattern))
    failed, count = [], 0
    for compiler in filter(shutil.which, compilers):
        for header in headers:
            for standard in [*(C if header.endswith(".h") else []), *CXX]:
                for define in ([], ["-DGRT_STATIC"]):
                    language = "c++" if standard in CXX else "c"
                    command = [compiler, f"-std={standard}", *WARNINGS, *define, f"-I{include}"]
                    command += ["-x", language, "-fsyntax-only", "-"]
                    code = f"#include <{header}>\n#include <{header}>\nint main(void) {{ return 0; }}\n"
                    done = subprocess.run(command, input=code, stderr=subprocess.PIPE, text=True)
                    count += 1
                    if done.returncode:
                        failed.append(f"{' '.join(command)}  # {header}\n{done.stderr}")
    print(f"{len(headers)} headers, {count} compiled, {len(failed)} failed")
    if failed or count == 0:
        sys.exit("\n".join(failed) or "expected a header and a compiler, found none")


if __name__ == "__main__":
    main()

"""Install the engine, move it elsewhere, and build somebody's program with it.

    python check_sdk.py BUILD_FOLDER

The program of `consumer/` finds it with CMake and with pkg-config, shared and static, and inspects a bundle.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
BUNDLE = ROOT / "runtime" / "bundles" / "demo"
EXPECTED = "genie_rt 0.1.0 demo"


def run(*command: str | Path, **environment: str) -> str:
    """Run a command; its output. Exits with what it printed where it fails."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **environment},
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return done.stdout.strip()


def check(program: str | Path, how: str, **environment: str) -> None:
    """Run the consumer."""
    said = run(program, BUNDLE, **environment)
    if said != EXPECTED:
        sys.exit(f"{how}: expected `{EXPECTED}`, got `{said}`")
    print(f"{how}: {said}")


def check_cmake(sdk: Path, folder: Path) -> None:
    """find_package(genie_rt CONFIG)."""
    run(
        "cmake",
        "-S",
        HERE / "consumer",
        "-B",
        folder,
        f"-DCMAKE_PREFIX_PATH={sdk}",
        "-DCMAKE_BUILD_TYPE=Release",
    )
    run("cmake", "--build", folder)
    check(folder / "consumer_shared", "CMake, shared")
    check(folder / "consumer_static", "CMake, static")


def check_pkg_config(sdk: Path, folder: Path) -> None:
    """pkg-config, with the compiler alone."""
    if shutil.which("pkg-config") is None or (compiler := shutil.which("cc")) is None:
        print("pkg-config or cc is not installed: not checked")
        return
    (path,) = sdk.glob("lib*/pkgconfig")
    for package, how in (("genie_rt", "shared"), ("genie_rt_static", "static")):
        flags = run("pkg-config", "--cflags", "--libs", package, PKG_CONFIG_PATH=str(path)).split()
        if not any(
            Path(flag[2:]).resolve() == (sdk / "include").resolve() for flag in flags if flag[:2] == "-I"
        ):
            sys.exit(f"pkg-config, {how}: expected the include folder of {sdk}, got {flags}")
        program = folder / package
        run(compiler, HERE / "consumer" / "main.c", "-o", program, *flags)
        check(program, f"pkg-config, {how}", LD_LIBRARY_PATH=str(path.parent))


def check_source(folder: Path) -> None:
    """add_subdirectory of the whole project: it configures, and brings the libraries alone."""
    run("cmake", "-S", HERE / "consumer", "-B", folder, f"-DGENIE_RT_SOURCE={ROOT}")
    print("add_subdirectory: configured")


def main() -> None:
    """Check a build folder's install."""
    build = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        run("cmake", "--install", build, "--prefix", scratch / "first", "--strip")
        sdk = scratch / "moved elsewhere"
        (scratch / "first").rename(sdk)
        for file in sorted(sdk.rglob("*")):
            if file.suffix in {".cmake", ".pc"} and str(scratch / "first") in file.read_text():
                sys.exit(f"expected no absolute path in {file.name}, found {scratch / 'first'}")
        check_cmake(sdk, scratch / "cmake")
        plain = scratch / "plain"  # pkg-config's answer is split at spaces by whoever uses it
        sdk.rename(plain)
        (scratch / "with-pkg-config").mkdir()
        check_pkg_config(plain, scratch / "with-pkg-config")
        check_source(scratch / "source")


if __name__ == "__main__":
    main()

"""Finds the packages, and builds the native engine into the wheel. All else stands in pyproject.toml.

`src/genie_rt` has links to the folders at the top. Where git makes no links, as on Windows, it leaves a file
with the link's text in the place of each; those folders are mapped to their packages here.

With CMake and a C++ compiler a wheel carries the library of `runtime/native`, which `genie_rt.runtime` loads
with ctypes: then it is of one platform, and still of any Python 3. Without them it is the same wheel without
that library, for all platforms. An editable install builds nothing: it uses what `make native` built.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

ENGINE = Path("runtime/native")
LIBRARIES = ("libgenie_rt.so", "libgenie_rt.dylib", "genie_rt.dll", "libgenie_rt.dll")
OPTIONS = [
    "-DCMAKE_BUILD_TYPE=Release",
    *(f"-DGENIE_RT_{part}=OFF" for part in ("TESTS", "SAMPLES", "INSTALL")),
    *(["-DCMAKE_SHARED_LINKER_FLAGS=-s"] if sys.platform == "linux" else []),
]


def build_engine(folder: Path) -> Path | None:
    """Build the library in a folder. Returns its file; None where it cannot be built, with a warning."""
    if not (ENGINE / "CMakeLists.txt").is_file():
        return None
    cmake = shutil.which("cmake")
    if cmake is None:
        return _without("CMake is not installed")
    configure = [cmake, "-S", str(ENGINE), "-B", str(folder), *OPTIONS]
    jobs = str(os.cpu_count() or 1)
    build = [cmake, "--build", str(folder), "--config", "Release", "--target", "genie_rt", "--parallel", jobs]
    for command in (configure, build):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print(done.stdout[-4000:], file=sys.stderr)
            return _without(f"`{' '.join(command[:2])} ...` failed, as printed above")
    found = [path for name in LIBRARIES for path in (folder / name, folder / "Release" / name)]
    return next((path for path in found if path.is_file()), None) or _without("the build left no library")


def _without(reason: str) -> None:
    print(f"warning: this package is built without the native engine: {reason}", file=sys.stderr)


class BuildWithEngine(build_py):
    """Python files, and the library beside them."""

    has_engine = False

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        library = build_engine(Path(self.get_finalized_command("build").build_temp).absolute() / "native")
        if library is not None:
            folder = Path(self.build_lib) / "genie_rt" / ENGINE / "lib"
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(library, folder / library.name)
            self.has_engine = True


class WheelOfPlatform(bdist_wheel):
    """A wheel of this platform where it carries the library, else of all."""

    def run(self) -> None:
        self.run_command("build")
        has_engine = self.get_finalized_command("build_py").has_engine
        self.root_is_pure = not has_engine
        self.distribution.has_ext_modules = lambda: has_engine  # which decides where files are installed
        super().run()

    def get_tag(self) -> tuple[str, str, str]:
        *_, platform = super().get_tag()
        return "py3", "none", platform


texts = [path for path in Path("src/genie_rt").iterdir() if path.is_file() and not path.suffix]
mapped = {f"genie_rt.{path.name}": path.name for path in texts}
packages = find_packages("src")
for package, folder in mapped.items():
    packages += [package, *(f"{package}.{inner}" for inner in find_packages(folder))]
setup(
    packages=packages,
    package_dir={"": "src", **mapped},
    cmdclass={"build_py": BuildWithEngine, "bdist_wheel": WheelOfPlatform},
)

"""What `pip install` would bring: an editable install hides a package that the wheel forgets.

The native engine takes minutes to compile, so a library of one line stands in for it where only its place in
the wheel matters.
"""

import ctypes
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from genie_rt.runtime.backends.native.find import library_names

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "genie_rt"
CAN_COMPILE = shutil.which("cmake") is not None and shutil.which("cc") is not None
FOLDERS = sorted(path.name for path in SOURCE.iterdir() if path.is_symlink())


def files() -> set[str]:
    """What a wheel carries of the tree."""
    found = {f"genie_rt/{path.name}" for path in SOURCE.iterdir() if path.suffix in (".py", ".typed")}
    for name in FOLDERS:
        modules = [path for path in (ROOT / name).rglob("*.py") if "__pycache__" not in path.parts]
        found |= {f"genie_rt/{path.relative_to(ROOT).as_posix()}" for path in modules}
    found = {name for name in found if not name.startswith("genie_rt/runtime/native/")}
    for pattern in ("runtime/bundles/**/*", "kernels/tuned/*.json", "training/data/copies.json"):
        found |= {f"genie_rt/{path.relative_to(ROOT)}" for path in ROOT.glob(pattern) if path.is_file()}
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged but the engine's sources, because setuptools leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    for folder in ("src", *FOLDERS):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=_left_out)
    return source


def _left_out(folder: str, names: list[str]) -> set[str]:
    engine = {"native"} if Path(folder) == ROOT / "runtime" else set()
    return engine | shutil.ignore_patterns("__pycache__", "*.egg-info")(folder, names)


def build(source: Path, out: Path, *, says: str = "") -> zipfile.ZipFile:
    """The wheel of a source folder or archive, built offline."""
    command = [sys.executable, "-m", "pip", "wheel", "-v", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(out), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert says in done.stdout + done.stderr
    (path,) = out.glob("genie_rt-*.whl")
    return zipfile.ZipFile(path)


def archived(source: Path, out: Path) -> Path:
    """The source archive of a source folder."""
    code = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
    done = subprocess.run([sys.executable, "-c", code, str(out)], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("genie_rt-*.tar.gz")
    return path


def _metadata(wheel: zipfile.ZipFile, name: str) -> str:
    (path,) = (path for path in wheel.namelist() if path.endswith(f".dist-info/{name}"))
    return wheel.read(path).decode()


def content(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build(clone, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_every_module_bundle_and_configuration_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert content(wheel) == files()


def test_without_the_engine_the_wheel_is_for_all_platforms(wheel: zipfile.ZipFile) -> None:
    assert str(wheel.filename).endswith("-py3-none-any.whl")
    assert "Root-Is-Purelib: true" in _metadata(wheel, "WHEEL")


ENGINE = """
cmake_minimum_required(VERSION 3.20)
project(engine LANGUAGES C)
add_library(genie_rt SHARED engine.c)
"""


def with_engine(clone: Path, source: Path, code: str) -> Path:
    """The clone with an engine of one line."""
    shutil.copytree(clone, source, symlinks=True, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    folder = source / "runtime" / "native"
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(ENGINE)
    (folder / "engine.c").write_text(code)
    return source


@pytest.mark.skipif(not CAN_COMPILE, reason="there is no CMake or no C compiler")
def test_the_library_is_in_the_wheel_which_is_of_this_platform_and_any_python(
    clone: Path, tmp_path: Path
) -> None:
    source = with_engine(clone, tmp_path / "source", "int grt_toy(void) { return 7; }\n")
    built = build(source, tmp_path)
    library = f"genie_rt/runtime/native/lib/{library_names()[0]}"
    assert content(built) == files() | {library}
    platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
    assert str(built.filename).endswith(f"-py3-none-{platform}.whl")
    assert "Root-Is-Purelib: false" in _metadata(built, "WHEEL")
    built.extractall(tmp_path / "installed")
    assert ctypes.CDLL(str(tmp_path / "installed" / library)).grt_toy() == 7
    code = "from genie_rt.runtime.backends.native.find import find_library; print(find_library())"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path / "installed", capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(tmp_path / "installed" / library)


@pytest.mark.skipif(not CAN_COMPILE, reason="there is no CMake or no C compiler")
def test_an_engine_that_cannot_be_built_is_left_out_and_said(clone: Path, tmp_path: Path) -> None:
    source = with_engine(clone, tmp_path / "source", "this is no C\n")
    built = build(source, tmp_path, says="warning: this package is built without the native engine")
    assert content(built) == files() and str(built.filename).endswith("-py3-none-any.whl")


def test_a_source_archive_carries_the_engine(clone: Path, tmp_path: Path) -> None:
    source = with_engine(clone, tmp_path / "source", "int grt_toy(void) { return 7; }\n")
    with tarfile.open(archived(source, tmp_path)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"runtime/native/CMakeLists.txt", "runtime/native/engine.c"} <= names


@pytest.mark.slow
@pytest.mark.skipif(not CAN_COMPILE, reason="there is no CMake or no C compiler")
def test_the_wheel_plays_with_the_library_that_it_carries(clone: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(clone, source, symlinks=True, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    shutil.copytree(ROOT / "runtime" / "native", source / "runtime" / "native")
    installed = tmp_path / "installed"
    build(source, tmp_path).extractall(installed)
    library = installed / "genie_rt" / "runtime" / "native" / "lib" / library_names()[0]
    assert library.stat().st_size <= 2**20
    code = (
        "from genie_rt import World; world = World.load('demo'); session = world.session(); "
        "session.reset(world.prompt()); print(world.backend.name, world.dtype, session.step(0).shape)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=installed, capture_output=True, text=True, check=True
    )
    assert done.stdout == "native int8 (64, 64, 3)\n"


def test_a_clone_without_links_gives_the_same_wheel(clone: Path, tmp_path: Path) -> None:
    # as git leaves it where it cannot make links, such as on Windows: their text in their place
    source = tmp_path / "source"
    shutil.copytree(clone, source, symlinks=True, ignore=shutil.ignore_patterns("build", "*.egg-info"))
    for name in FOLDERS:
        link = source / "src" / "genie_rt" / name
        text = str(link.readlink())
        link.unlink()
        link.write_text(text)
    assert content(build(source, tmp_path)) == files()


def test_a_source_archive_holds_no_link_and_gives_the_same_wheel(clone: Path, tmp_path: Path) -> None:
    path = archived(clone, tmp_path)
    with tarfile.open(path) as archive:
        assert not [member.name for member in archive.getmembers() if member.islnk() or member.issym()]
    assert content(build(path, tmp_path)) == files()


def test_from_a_wheel_messages_name_the_packages_to_install(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path)
    code = "from genie_rt.install import install_hint; print(install_hint('onnx'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )  # the working folder comes before what is installed
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = " ".join(f'"{package}"' for package in extras["onnx"])
    assert done.stdout.endswith(f" install {wanted}\n")


def test_the_wheel_carries_its_licence_and_its_command(wheel: zipfile.ZipFile) -> None:
    metadata = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert {"licenses/LICENSE", "licenses/NOTICE"} <= metadata.keys()
    assert "genie-rt = genie_rt.__main__:main" in wheel.read(metadata["entry_points.txt"]).decode()

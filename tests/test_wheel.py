"""What `pip install` would bring: an editable install hides a package that the wheel forgets."""

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "genie_rt"
FOLDERS = sorted(path.name for path in SOURCE.iterdir() if path.is_symlink())


def files() -> set[str]:
    """What a wheel carries of the tree."""
    found = {f"genie_rt/{path.name}" for path in SOURCE.iterdir() if path.suffix in (".py", ".typed")}
    for name in FOLDERS:
        modules = [path for path in (ROOT / name).rglob("*.py") if "__pycache__" not in path.parts]
        found |= {f"genie_rt/{path.relative_to(ROOT).as_posix()}" for path in modules}
    for pattern in ("runtime/bundles/**/*", "kernels/tuned/*.json", "training/data/copies.json"):
        found |= {f"genie_rt/{path.relative_to(ROOT)}" for path in ROOT.glob(pattern) if path.is_file()}
    return found


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, because setuptools leaves files behind."""
    source = tmp_path_factory.mktemp("source")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    for folder in ("src", *FOLDERS):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    return source


def build(source: Path, out: Path) -> zipfile.ZipFile:
    """The wheel of a source folder or archive, built offline."""
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(out), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("genie_rt-*.whl")
    return zipfile.ZipFile(path)


def content(wheel: zipfile.ZipFile) -> set[str]:
    return {name for name in wheel.namelist() if ".dist-info/" not in name}


@pytest.fixture(scope="module")
def wheel(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    return build(clone, tmp_path_factory.mktemp("wheel"))


def test_the_wheel_has_every_module_bundle_and_configuration_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    assert content(wheel) == files()


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
    code = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=clone, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("genie_rt-*.tar.gz")
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

"""What `pip install` would bring: an editable install hides a package that the wheel forgets."""

import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
FOLDERS = {name: ROOT / path for name, path in SETUPTOOLS["package-dir"].items()}


def folder_of(package: str) -> Path:
    """Where pyproject.toml says that a package lives, through its nearest mapped parent."""
    if package in FOLDERS:
        return FOLDERS[package]
    parent, _, child = package.rpartition(".")
    return folder_of(parent) / child


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The project's wheel, built offline, from a copy because setuptools leaves files behind."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for path in ROOT.iterdir():
        if path.is_file():
            shutil.copy(path, source)
    for folder in {folder.relative_to(ROOT).parts[0] for folder in FOLDERS.values()}:
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--wheel-dir", str(out), str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("genie_rt-*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_has_every_module_bundle_and_configuration_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {"genie_rt/py.typed"}
    for package in SETUPTOOLS["packages"]:
        place = package.replace(".", "/")
        expected |= {f"{place}/{path.name}" for path in folder_of(package).glob("*.py")}
    runtime = FOLDERS["genie_rt.runtime"]
    for path in (runtime / "bundles").rglob("*"):
        if path.is_file():
            expected.add(f"genie_rt/runtime/{path.relative_to(runtime).as_posix()}")
    kernels = FOLDERS["genie_rt.kernels"]
    expected |= {f"genie_rt/kernels/tuned/{path.name}" for path in (kernels / "tuned").glob("*.json")}
    expected.add("genie_rt/training/data/copies.json")
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected


def test_the_wheel_carries_its_licence_and_its_command(wheel: zipfile.ZipFile) -> None:
    metadata = {name.partition(".dist-info/")[2]: name for name in wheel.namelist() if ".dist-info/" in name}
    assert {"licenses/LICENSE", "licenses/NOTICE"} <= metadata.keys()
    assert "genie-rt = genie_rt.__main__:main" in wheel.read(metadata["entry_points.txt"]).decode()

"""The C library is found where it is built or carried, and nothing else is taken for it."""

from pathlib import Path

import pytest

from genie_rt.environment import named_library
from genie_rt.errors import ConfigError, UnsupportedError
from genie_rt.runtime.backends.native import find, library
from genie_rt.runtime.backends.native.find import find_library, how_to_get, library_names
from genie_rt.runtime.backends.registry import BACKENDS


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The package's folder, and a clone; both without a library."""
    package, clone = tmp_path / "package", tmp_path / "clone"
    monkeypatch.delenv("GENIE_RT_LIBRARY", raising=False)
    monkeypatch.setattr(find, "PACKAGE_FOLDER", package)
    monkeypatch.setattr(find, "clone", lambda: clone)
    return package, clone


def put(folder: Path) -> Path:
    folder.mkdir(parents=True)
    path = folder / library_names()[0]
    path.touch()
    return path


def test_without_a_library_there_is_none_and_it_is_said_how_to_get_one(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_library() is None
    assert not BACKENDS["native"].is_installed and BACKENDS["reference"].is_installed
    assert how_to_get().endswith(f"make -C {places[1]} native")
    monkeypatch.setattr(find, "clone", lambda: None)
    assert "without a C++ compiler" in how_to_get()
    library.load_library.cache_clear()
    with pytest.raises(UnsupportedError, match="expected its C library, found none"):
        library.load_library()


def test_the_package_comes_first_and_then_what_a_clone_built_last(places: tuple[Path, Path]) -> None:
    package, clone = places
    for folder in (clone / "out/sdk/lib", clone / "out/native", package):
        path = put(folder)
        assert find_library() == path
        assert BACKENDS["native"].is_installed


def test_a_folder_is_no_library(places: tuple[Path, Path]) -> None:
    (places[0] / library_names()[0]).mkdir(parents=True)
    assert find_library() is None


def test_the_variable_goes_before_all(places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    put(places[0])
    mine = places[1] / "mine.so"
    mine.parent.mkdir()
    mine.touch()
    monkeypatch.setenv("GENIE_RT_LIBRARY", str(mine))
    assert find_library() == mine
    mine.unlink()
    with pytest.raises(ConfigError, match="GENIE_RT_LIBRARY: expected the file of a C library"):
        find_library()
    assert named_library({"GENIE_RT_LIBRARY": ""}) is None


def test_every_system_has_a_name_for_it() -> None:
    assert library_names("linux") == ("libgenie_rt.so",)
    assert library_names("darwin") == ("libgenie_rt.dylib",)
    assert library_names("win32")[0] == "genie_rt.dll"

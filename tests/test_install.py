"""The commands that messages tell people to type."""

import ast
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest

import genie_rt
from genie_rt import install
from genie_rt.cli import COMMANDS
from genie_rt.install import install_hint
from genie_rt.runtime.backends.registry import BACKENDS

ROOT = Path(__file__).resolve().parents[1]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
LAYERS = [path for path in Path(genie_rt.__file__).parent.iterdir() if path.is_dir()]
SOURCES = {
    path: path.read_text()
    for folder in (Path(genie_rt.__file__).parent, *LAYERS)
    for path in (folder.glob("*.py") if folder.name == "genie_rt" else folder.rglob("*.py"))
}

REQUIREMENTS = [
    "torch>=2.11",
    'rich; python_version < "4"',
    'onnx>=1.19; extra == "onnx"',
    'onnxruntime>=1.24.1; extra == "onnx"',
    "onnxruntime-gpu; extra == 'onnx-gpu'",
    'game==1; (sys_platform == "linux" and python_version < "3.13") and extra == "coinrun"',
]


@pytest.fixture
def wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if this ran from a wheel, under a `pip` of its own."""
    monkeypatch.setattr(install, "clone", lambda: None)
    monkeypatch.setattr(install, "_pip", lambda: "pip")
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: REQUIREMENTS)


def test_from_a_clone_the_clone_is_named() -> None:
    assert install_hint("onnx").endswith(f' install -e "{ROOT}[onnx]"')
    assert install_hint().endswith(f' install -e "{ROOT}"')


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [
        ("onnx", '"onnx>=1.19" "onnxruntime>=1.24.1"'),
        ("onnx-gpu", '"onnxruntime-gpu"'),
        ("coinrun", "\"game==1; (sys_platform == 'linux' and python_version < '3.13')\""),
        ("", '"torch>=2.11" "rich; python_version < \'4\'"'),
    ],
)
def test_from_a_wheel_the_packages_are_named(wheel: None, extra: str, wanted: str) -> None:
    assert install_hint(extra) == f"pip install {wanted}"


def test_a_bare_copy_has_a_hint_too(wheel: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "requires", missing)
    assert install_hint("onnx") == 'pip install "genie-rt[onnx]"'


@pytest.mark.skipif(sys.platform == "win32", reason="a program has another name on Windows")
@pytest.mark.parametrize(
    ("folder", "first", "pip"),
    [
        ("env", "env", "pip"),
        ("env", "other", "{python} -m pip"),
        ("an env", "other", '"{python}" -m pip'),
        ("env", "empty", "{python} -m pip"),
    ],
)
def test_pip_is_that_of_the_running_python(
    folder: str, first: str, pip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (folder, "other"):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "pip").touch(mode=0o755)
    python = str(tmp_path / folder / "python")
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setenv("PATH", str(tmp_path / first))
    assert install_hint("onnx").startswith(f"{pip.format(python=python)} install ")


def asked_for() -> set[str]:
    """The extras that the code, or its table of commands, names."""
    found = {entry.extra for entry in COMMANDS.values() if entry.extra} | {
        spec.extra for spec in BACKENDS.values() if spec.extra
    }
    for source in SOURCES.values():
        for node in ast.walk(ast.parse(source)):
            match node:
                case ast.Call(func=ast.Name(id="install_hint"), args=[ast.Constant(value=str(extra))]):
                    found.add(extra)
    return found


def test_every_extra_that_a_message_names_exists() -> None:
    assert asked_for() >= {"play", "train", "coinrun", "onnx", "gpu"}  # the search finds them
    assert asked_for() <= EXTRAS.keys()


def test_no_message_spells_such_a_command_itself() -> None:
    texts = {
        (path.name, node.value)
        for path, source in SOURCES.items()
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and path.name != "install.py"
    }
    assert {name for name, text in texts if re.search(r"pip install|genie-rt\[", text)} == set()

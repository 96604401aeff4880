"""The rules that CONTRIBUTING.md states about the tree, each as a test."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import genie_rt

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SOURCE = ROOT / "src" / "genie_rt"
LINKS = ("bench", "export", "kernels", "runtime", "training")
"""Links in `SOURCE`: each leads to the folder of its name at the top, and is a package of its name."""

MAY_IMPORT = {
    "root": {"root"},
    "kernels": {"root", "kernels"},
    "runtime": {"root", "kernels", "runtime"},
    "training": {"root", "kernels", "runtime", "training"},
    "export": {"root", "kernels", "runtime", "training", "export"},
    "bench": {"root", "kernels", "runtime", "training", "export", "bench"},
}
EXEMPT = {"genie_rt", "genie_rt.cli"}  # both name every layer and import it lazily


def walk_packages() -> Iterator[tuple[str, Path]]:
    """Every package in the tree as (dotted name, folder)."""
    yield "genie_rt", SOURCE
    for name in LINKS:
        for init in (ROOT / name).rglob("__init__.py"):
            yield ".".join(("genie_rt", *init.parent.relative_to(ROOT).parts)), init.parent


MODULES = {
    package if path.stem == "__init__" else f"{package}.{path.stem}": path
    for package, folder in walk_packages()
    for path in folder.glob("*.py")
}
TREES = {name: ast.parse(path.read_text(), str(path)) for name, path in MODULES.items()}


def layer_of(module: str) -> str | None:
    """The layer that an imported name belongs to; None for other people's modules."""
    parts = module.split(".")
    if parts[0] != "genie_rt":
        return None
    if len(parts) == 1:
        return "root"
    if parts[1] in genie_rt._LAZY:
        return layer_of(genie_rt._LAZY[parts[1]])
    return parts[1] if parts[1] in MAY_IMPORT else "root"


def imported_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything imported anywhere in a module, however it is spelled."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                yield from ((node.lineno, f"{'.' * level}{module or ''}.{alias.name}") for alias in names)
            case ast.Attribute(value=ast.Name(id="genie_rt"), attr=attribute):
                yield node.lineno, f"genie_rt.{attribute}"
            case ast.Call(args=[ast.Constant(value=str(name)), *_]) if name.startswith("genie_rt."):
                yield node.lineno, name  # import_module("genie_rt.…")


def wrong_imports(layer: str, tree: ast.Module) -> list[str]:
    """Imports of a module of `layer` that go against the arrows, or are relative."""
    return [
        f"line {line}: {name}"
        for line, name in imported_names(tree)
        if name.startswith(".") or layer_of(name) not in {None, *MAY_IMPORT[layer]}
    ]


def test_the_source_folder_has_a_link_to_every_folder_of_packages() -> None:
    links = {path.name: path.readlink().as_posix() for path in SOURCE.iterdir() if path.is_symlink()}
    assert links == {name: f"../../{name}" for name in LINKS}
    tops = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert tops == set(LINKS)


def test_every_folder_with_python_is_a_package() -> None:
    packages = {folder for _, folder in walk_packages()}
    engine = ROOT / "runtime" / "native"  # C++, and scripts that test it: no part of the package
    found = (path for name in LINKS for path in (ROOT / name).rglob("*.py") if engine not in path.parents)
    assert {path.parent for path in found} <= packages


@pytest.mark.parametrize("module", sorted(MODULES.keys() - EXEMPT))
def test_imports_follow_the_arrows(module: str) -> None:
    layer = layer_of(module)
    assert layer is not None
    assert wrong_imports(layer, TREES[module]) == []


def dependencies(module: str) -> set[str]:
    """Modules of ours that a module imports, for types too."""
    found = set()
    for _, name in imported_names(TREES[module]):
        parent = name.rpartition(".")[0]
        found |= {each for each in (name, parent) if each in MODULES and each != module}
    return found - EXEMPT


def cycles(graph: dict[str, set[str]]) -> list[str]:
    """What is left of a graph when modules that import nothing that is left are taken away."""
    left = {module: set(needed) for module, needed in graph.items()}
    while done := {module for module, needed in left.items() if not needed & left.keys()}:
        left = {module: needed for module, needed in left.items() if module not in done}
    return sorted(left)


def test_no_module_imports_itself_by_a_detour_not_even_for_types() -> None:
    assert cycles({module: dependencies(module) for module in MODULES.keys() - EXEMPT}) == []


def test_the_cycle_check_sees_cycles() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"e"}, "e": set()}) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "source",
    [
        "import genie_rt.bench",
        "from genie_rt import bench",
        "from genie_rt import World",
        "from genie_rt.runtime.session import Session",
        "from ..runtime import session",
        "def f():\n    from genie_rt.runtime import session",
        "import genie_rt\ngenie_rt.World.load('demo')",
        "from importlib import import_module\nimport_module('genie_rt.runtime.session')",
    ],
)
def test_the_arrow_check_sees_every_spelling(source: str) -> None:
    assert wrong_imports("kernels", ast.parse(source))


def test_the_arrow_check_lets_good_imports_pass() -> None:
    source = (
        "import torch\nimport genie_rt\nfrom genie_rt.errors import InputError\nfrom genie_rt import kernels"
    )
    assert wrong_imports("kernels", ast.parse(source)) == []


def test_importing_genie_rt_loads_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "PIL", "safetensors", "pygame", "av", "rich", "tyro", "accelerate", "procgen"}
    code = f"import sys, genie_rt; print(*sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_modules_are_short() -> None:
    paths = [*MODULES.values(), *(ROOT / "tests").rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in paths}
    assert {path: length for path, length in lengths.items() if length > 500} == {}


def test_no_module_is_a_drawer() -> None:
    names = {"utils", "util", "common", "helpers", "misc"}
    assert [module for module in MODULES if names & set(module.split("."))] == []


def is_placeholder(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a function does nothing but raise NotImplementedError."""
    *before, last = function.body
    only = not before or (len(before) == 1 and ast.get_docstring(function, clean=False) is not None)
    return only and isinstance(last, ast.Raise) and "NotImplementedError" in ast.unparse(last)


def test_no_function_is_a_placeholder() -> None:
    functions = [
        (f"{module}:{node.lineno}", node)
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert [place for place, function in functions if is_placeholder(function)] == []


@pytest.mark.parametrize("body", ["raise NotImplementedError", "'Doc.'; raise NotImplementedError('later')"])
def test_the_placeholder_check_sees_placeholders(body: str) -> None:
    (function,) = ast.parse(f"def f(): {body}").body
    assert isinstance(function, ast.FunctionDef)
    assert is_placeholder(function)


def environment_reads(tree: ast.Module) -> list[int]:
    """Lines that read the process environment; setting a variable for another library is no reading."""
    writes = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            writes.add(node.value)
        if isinstance(node, ast.Attribute) and node.attr == "setdefault":
            writes.add(node.value)
    lines = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "getenv") if node not in writes:
                lines.append(node.lineno)
            case ast.ImportFrom(module="os", names=names):
                lines += [node.lineno for alias in names if alias.name in ("environ", "getenv")]
    return lines


def test_the_environment_is_read_in_one_file() -> None:
    assert [module for module, tree in TREES.items() if environment_reads(tree)] == ["genie_rt.environment"]


def test_versions_agree() -> None:
    assert genie_rt.__version__ == PYPROJECT["project"]["version"]


def test_lazy_names_exist() -> None:
    for name in genie_rt.__all__:
        assert getattr(genie_rt, name) is not None

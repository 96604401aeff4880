"""What Python believes of the C header is what a C compiler makes of it."""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from genie_rt.runtime.backends.native import header
from genie_rt.runtime.backends.native.header import FUNCTIONS, Sized
from genie_rt.runtime.orders import ORDERS
from genie_rt.runtime.plan import REUSES

HEADER = Path(__file__).parents[3] / "runtime" / "native" / "include" / "genie_rt.h"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")

STRUCTS: dict[str, Any] = {
    "error": header.Error,
    "version": header.Version,
    "allocator": header.Allocator,
    "world_params": header.WorldParams,
    "world_info": header.WorldInfo,
    "file": header.File,
    "plan": header.Plan,
    "image": header.Image,
    "session_params": header.SessionParams,
    "step_stats": header.StepStats,
    "session_state": header.SessionState,
}

VALUES = {
    "GRT_VERSION_MAJOR": header.VERSION[0],
    "GRT_VERSION_MINOR": header.VERSION[1],
    "GRT_MESSAGE_BYTES": header.MESSAGE_BYTES,
    "GRT_FORMAT_RGB8": header.FORMAT_RGB8,
    **{f"GRT_{name}": value for value, name in enumerate(header.STATUSES)},
    **{f"GRT_PRECISION_{name.upper()}": value for name, value in header.PRECISIONS.items()},
    **{f"GRT_ORDER_{name.upper()}": value for name, value in header.ORDERS.items()},
    **{f"GRT_REUSE_{name.upper()}": value for name, value in header.REUSES.items()},
    **{f"GRT_INSTRUCTIONS_{name.upper()}": value for value, name in enumerate(header.INSTRUCTIONS)},
}


def declared() -> Iterator[tuple[str, str, list[str]]]:
    """Every function of the header: what it returns, its name without `grt_`, and its parameters."""
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    for result, name, parameters in re.findall(r"GRT_API ([\w *]+?)\s*\bgrt_(\w+)\(([^)]*)\);", text):
        yield result, name, [" ".join(each.split()) for each in parameters.split(",")]


def kind_of(parameter: str) -> Any:
    """The ctypes type of a parameter or result."""
    words, pointers = re.subn(r"\bconst\b|\*", "", parameter), parameter.count("*")
    name = words[0].split()[0]
    handles = ("grt_world", "grt_session", "grt_snapshot")
    if name in handles:
        return ctypes.c_void_p if pointers == 1 else ctypes.POINTER(ctypes.c_void_p)
    if name == "char":
        return ctypes.c_char_p
    if name == "void":
        return ctypes.c_void_p if pointers else None
    plain = {
        "int32_t": ctypes.c_int32, "uint64_t": ctypes.c_uint64, "size_t": ctypes.c_size_t,
        "double": ctypes.c_double, "float": ctypes.c_float, "grt_status": ctypes.c_int32,
        **{f"grt_{key}": struct for key, struct in STRUCTS.items()},
    }  # fmt: skip
    return ctypes.POINTER(plain[name]) if pointers else plain[name]


def test_every_function_is_declared_as_it_is_there() -> None:
    found = {name: (kind_of(result), tuple(map(kind_of, rest))) for result, name, rest in declared()}
    assert len(found) > 30
    assert dict(FUNCTIONS) == found


def test_every_struct_of_the_header_is_known() -> None:
    named = set(re.findall(r"^\} grt_(\w+);", HEADER.read_text(), flags=re.MULTILINE))
    enums = {"status", "precision", "instructions", "engine", "log_level", "order", "reuse", "format"}
    assert named - set(STRUCTS) <= enums and named >= set(STRUCTS)


@pytest.mark.skipif(COMPILER is None, reason="there is no C compiler")
def test_sizes_offsets_and_values_are_those_of_a_c_compiler(tmp_path: Path) -> None:
    lines = [f'printf("{name} %d\\n", (int)({name}));' for name in VALUES]
    lines += [
        'printf("GRT_PRECISION %zu\\n", sizeof(grt_precision));',
        'printf("GRT_STATUS %zu\\n", sizeof(grt_status));',
    ]
    for name, struct in STRUCTS.items():
        lines.append(f'printf("{name} %zu\\n", sizeof(grt_{name}));')
        lines += [
            f'printf("{name}.{field} %zu %zu\\n", offsetof(grt_{name}, {field}), sizeof(a_{name}.{field}));'
            for field, _ in struct._fields_
        ]
    values = "\n".join(f"static grt_{name} a_{name};" for name in STRUCTS)
    source = tmp_path / "sizes.c"
    body = "\n".join([*lines, "return 0;"])
    source.write_text(f"#include <stdio.h>\n#include <genie_rt.h>\n{values}\nint main(void) {{\n{body}\n}}\n")
    program = tmp_path / "sizes"
    assert COMPILER is not None
    flags = ["-std=c99", "-Wall", "-Wextra", "-pedantic", "-Werror", "-DGRT_STATIC", f"-I{HEADER.parent}"]
    subprocess.run([COMPILER, *flags, str(source), "-o", str(program)], check=True)
    printed = subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    expected = [f"{name} {value}" for name, value in VALUES.items()]
    expected += ["GRT_PRECISION 4", "GRT_STATUS 4"]
    for name, struct in STRUCTS.items():
        expected.append(f"{name} {ctypes.sizeof(struct)}")
        for field, _ in struct._fields_:
            member = getattr(struct, field)
            expected.append(f"{name}.{field} {member.offset} {member.size}")
    assert printed.splitlines() == expected


def test_structs_are_made_as_the_init_functions_make_them() -> None:
    for struct in STRUCTS.values():
        if issubclass(struct, Sized):
            made = struct()
            assert made.struct_size == ctypes.sizeof(struct)
            assert not any(bytes(made)[ctypes.sizeof(ctypes.c_size_t) :])


def test_plans_have_the_same_words() -> None:
    assert set(header.ORDERS) == set(ORDERS) and set(header.REUSES) == set(REUSES)

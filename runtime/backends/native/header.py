"""What `runtime/native/include/genie_rt.h` declares, for ctypes. A test holds it to the header.

Names are those of the header without `grt_`, members as they are there. Enums are 32 bits wide. Pointers to
callbacks and to what this back end leaves NULL are plain pointers here.
"""

from __future__ import annotations

from collections.abc import Mapping
from ctypes import (
    POINTER,
    Structure,
    c_char,
    c_char_p,
    c_double,
    c_float,
    c_int32,
    c_int64,
    c_size_t,
    c_uint64,
    c_void_p,
    sizeof,
)
from types import MappingProxyType
from typing import Any

VERSION = (0, 1)
"""Major and minor version of the header. While the major one is 0, minor ones may change anything."""

STATUSES = (
    "OK", "ERROR_CONFIG", "ERROR_BUNDLE", "ERROR_UNSUPPORTED", "ERROR_STATE", "ERROR_DEVICE", "ERROR_INPUT",
    "ERROR_OUT_OF_MEMORY", "ERROR_CANCELLED", "ERROR_BUSY",
)  # fmt: skip
"""By value."""

PRECISIONS = MappingProxyType({"auto": 0, "float32": 1, "int8": 2})
ORDERS = MappingProxyType({"maskgit": 0, "adaptive": 1, "random": 2, "halton": 3})
REUSES = MappingProxyType({"none": 0, "passes": 1, "frames": 2})
INSTRUCTIONS = ("auto", "scalar", "sse4", "avx2", "avx512", "neon", "neon_dot", "wasm")
"""By value: what the library computes with."""

FORMAT_RGB8 = 0
MESSAGE_BYTES = 512


class Sized(Structure):
    """A struct that begins with its own size, all else 0: what the header's _init functions make."""

    def __init__(self, **members: Any) -> None:
        super().__init__(struct_size=sizeof(self), **members)


class Error(Sized):
    _fields_ = (("struct_size", c_size_t), ("message", c_char * MESSAGE_BYTES))


class Version(Sized):
    _fields_ = (
        ("struct_size", c_size_t),
        ("major", c_int32),
        ("minor", c_int32),
        ("patch", c_int32),
        ("snapshot_version", c_int32),
        ("build", c_char_p),
    )


class Allocator(Sized):
    _fields_ = (
        ("struct_size", c_size_t),
        ("allocate", c_void_p),
        ("release", c_void_p),
        ("user", c_void_p),
    )


class WorldParams(Sized):
    _fields_ = (
        ("struct_size", c_size_t),
        ("precision", c_int32),
        ("instructions", c_int32),
        ("engine", c_int32),
        ("num_threads", c_int32),
        ("parallel_for", c_void_p),
        ("parallel_for_user", c_void_p),
        ("allocator", c_void_p),
        ("progress", c_void_p),
        ("progress_user", c_void_p),
        ("log", c_void_p),
        ("log_user", c_void_p),
        ("onnxruntime_library", c_char_p),
        ("onnxruntime_provider", c_char_p),
        ("onnxruntime_plugin", c_char_p),
    )


class WorldInfo(Sized):
    _fields_ = (
        ("struct_size", c_size_t),
        ("name", c_char * 72),
        ("prompt_width", c_int32),
        ("prompt_height", c_int32),
        ("frame_width", c_int32),
        ("frame_height", c_int32),
        ("num_actions", c_int32),
        ("default_action", c_int32),
        ("num_plans", c_int32),
        ("num_prompts", c_int32),
        ("num_tokens", c_int32),
        ("codebook_size", c_int32),
        ("window", c_int32),
        ("has_int8", c_int32),
        ("precision", c_int32),
        ("instructions", c_int32),
        ("num_threads", c_int32),
        ("weight_bytes", c_uint64),
        ("session_bytes", c_uint64),
        ("page_bytes", c_uint64),
    )


class File(Structure):
    _fields_ = (("name", c_char_p), ("data", c_void_p), ("size", c_size_t))


class Plan(Sized):
    _fields_ = (
        ("struct_size", c_size_t),
        ("order", c_int32),
        ("reuse", c_int32),
        ("passes", c_int32),
        ("temperature", c_double),
        ("noise", c_double),
        ("threshold", c_double),
        ("fresh", c_double),
    )


class Image(Sized):
    _fields_ = (
        ("struct_size", c_size_t),
        ("pixels", c_void_p),
        ("size", c_size_t),
        ("pitch", c_size_t),
        ("format", c_int32),
    )


class SessionParams(Sized):
    _fields_ = (
        ("struct_size", c_size_t),
        ("plan", POINTER(Plan)),
        ("num_snapshots", c_int32),
        ("most_peeks", c_int32),
    )


class StepStats(Sized):
    _fields_ = (
        ("struct_size", c_size_t),
        ("passes", c_int32),
        ("tokens", c_int32),
        ("from_peek", c_int32),
        ("late", c_int32),
        ("frame_index", c_int64),
        ("total_ms", c_double),
        ("commit_ms", c_double),
        ("passes_ms", c_double),
        ("decode_ms", c_double),
    )


class SessionState(Sized):
    _fields_ = (
        ("struct_size", c_size_t),
        ("seed", c_uint64),
        ("frame_index", c_int64),
        ("action", c_int32),
        ("pending", c_int32),
        ("digest", c_uint64),
    )


_E = POINTER(Error)
_H = c_void_p  # a handle
_HS = POINTER(c_void_p)  # where one is put
_IMAGE = POINTER(Image)
_STATS = POINTER(StepStats)
_INTS = POINTER(c_int32)
_STATUS = c_int32

FUNCTIONS: Mapping[str, tuple[Any, tuple[Any, ...]]] = MappingProxyType(
    {
        "status_name": (c_char_p, (_STATUS,)),
        "get_version": (_STATUS, (POINTER(Version), _E)),
        "bundle_inspect": (_STATUS, (c_char_p, POINTER(WorldInfo), _E)),
        "world_load": (_STATUS, (c_char_p, POINTER(WorldParams), _HS, _E)),
        "world_load_memory": (_STATUS, (POINTER(File), c_size_t, POINTER(WorldParams), _HS, _E)),
        "world_free": (None, (_H,)),
        "world_get_info": (_STATUS, (_H, POINTER(WorldInfo), _E)),
        "world_action_name": (c_char_p, (_H, c_int32)),
        "world_plan_name": (c_char_p, (_H, c_int32)),
        "world_prompt_name": (c_char_p, (_H, c_int32)),
        "world_find_action": (_STATUS, (_H, c_char_p, _INTS, _E)),
        "world_get_plan": (_STATUS, (_H, c_char_p, POINTER(Plan), _E)),
        "world_get_prompt": (_STATUS, (_H, c_int32, _IMAGE, _E)),
        "session_create": (_STATUS, (_H, POINTER(SessionParams), _HS, _E)),
        "session_free": (None, (_H,)),
        "session_reset": (_STATUS, (_H, _IMAGE, c_size_t, _INTS, c_uint64, _IMAGE, _E)),
        "session_reset_prompt": (_STATUS, (_H, c_int32, c_uint64, _IMAGE, _E)),
        "session_step": (_STATUS, (_H, c_int32, _IMAGE, _STATS, _E)),
        "session_commit": (_STATUS, (_H, _E)),
        "step_many": (_STATUS, (_HS, _INTS, c_size_t, _IMAGE, _STATS, POINTER(_STATUS), _E)),
        "session_peek": (_STATUS, (_H, _INTS, c_size_t, _IMAGE, _E)),
        "session_submit": (_STATUS, (_H, c_int32, _E)),
        "session_poll": (_STATUS, (_H, c_double, _INTS, _IMAGE, _STATS, _E)),
        "session_cancel": (_STATUS, (_H, _E)),
        "session_set_plan": (_STATUS, (_H, POINTER(Plan), _E)),
        "session_get_plan": (_STATUS, (_H, POINTER(Plan), _E)),
        "session_set_deadline": (_STATUS, (_H, c_double, c_int32, _E)),
        "session_get_frame": (_STATUS, (_H, _IMAGE, _E)),
        "session_snapshot": (_STATUS, (_H, _HS, _E)),
        "session_restore": (_STATUS, (_H, _H, _E)),
        "snapshot_free": (None, (_H,)),
        "session_fork": (_STATUS, (_H, _HS, _E)),
        "world_save_size": (_STATUS, (_H, POINTER(c_size_t), _E)),
        "session_save": (_STATUS, (_H, c_void_p, c_size_t, POINTER(c_size_t), _E)),
        "session_load": (_STATUS, (_H, c_void_p, c_size_t, _E)),
        "session_get_state": (_STATUS, (_H, POINTER(SessionState), _E)),
        "session_get_tokens": (_STATUS, (_H, _INTS, c_size_t, _E)),
        "session_force": (_STATUS, (_H, c_int32, _INTS, c_size_t, _IMAGE, _E)),
        "session_probe": (_STATUS, (_H, c_int32, _INTS, c_size_t, c_int32, POINTER(c_float), _INTS, _E)),
    }
)
"""What every function returns and takes."""

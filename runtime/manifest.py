"""The schema of `bundle.json`: what a bundle says about itself, checked before any other file is opened."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from genie_rt.errors import BundleError, ConfigError
from genie_rt.runtime.config import ModelConfig, from_dict, to_dict
from genie_rt.runtime.linears import linear_names
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.untrusted import brief
from genie_rt.runtime.untrusted_json import parse_json

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
WEIGHTS = "weights.safetensors"
LAM_WEIGHTS = "lam.safetensors"
"""Weights of the part of a latent action model that tells which action led from one picture to the next."""
MODEL_CARD = "README.md"

MAX_MANIFEST_BYTES = 1_000_000
MAX_TOTAL_BYTES = 64 * 2**30
MAX_FILES = 1024
MAX_PLANS = 64
MAX_NAMED_ACTIONS = 4096

GRAPH_FORMATS = {"float32": "", "float16": ".fp16", "int8": ".int8"}
"""Number formats of graphs, and what they add to the name of the file."""

LEAST_LIMIT, MOST_LIMIT = 1e-30, 1e30
"""Bounds of an int8 limit: neither it nor a 127th of it leaves float32."""

LOOSEST_MEANS, LOOSEST_LOGIT, LEAST_PSNR_DB = 0.45, 0.75, 42.0
"""What `verify` allows the coarsest number format, e4m3: no bundle may ask for more."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# A list of what may be there needs no list of what may not: "..", "/", "\\", "C:" and NUL cannot be spelled.
_FILE = re.compile(
    r"weights\.safetensors|lam\.safetensors|README\.md|[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.onnx"
    r"|prompts/[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.png"
)


def unnamed_action(code: int) -> str:
    """What a learned action is called that nobody has named."""
    return f"latent-{code}"


def _require(ok: bool, where: str, expected: str, found: object) -> None:
    if not ok:
        raise ConfigError(f"{where}: expected {expected}, found {found!r}")


def _require_name(where: str, name: str) -> None:
    _require(
        _NAME.fullmatch(name) is not None,
        where,
        "1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit",
        name,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRecord:
    """What one file of the bundle has to be."""

    sha256: str
    size: int

    def __post_init__(self) -> None:
        _require(_SHA256.fullmatch(self.sha256) is not None, "sha256", "64 digits of 0-9 a-f", self.sha256)
        _require(0 <= self.size <= MAX_TOTAL_BYTES, "size", f"0 to {MAX_TOTAL_BYTES} bytes", self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class ParityBound:
    """What graphs in one number format may be off by, as `genie-rt verify` judges them.

    Attributes:
        means: largest difference of two means of the logits' errors, by the logits' standard deviation.
        logit: largest error of a single logit, likewise.
        psnr_db: least of the pictures.
    """

    means: float
    logit: float
    psnr_db: float

    def __post_init__(self) -> None:
        _require(
            0 < self.means <= LOOSEST_MEANS, "means", f"a number above 0, up to {LOOSEST_MEANS}", self.means
        )
        _require(
            0 < self.logit <= LOOSEST_LOGIT, "logit", f"a number above 0, up to {LOOSEST_LOGIT}", self.logit
        )
        _require(LEAST_PSNR_DB <= self.psnr_db <= 200, "psnr_db", f"{LEAST_PSNR_DB} to 200", self.psnr_db)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphManifest:
    """The ONNX graphs of a bundle; `backends.exported.signature` says what each takes and gives.

    Attributes:
        opset: that they are written in.
        precisions: of `GRAPH_FORMATS`; each has the graphs encode, commit, pass, pass-at and decode.
        frame_plans: plans of the bundle that each precision has a whole-frame graph for.
        bounds: of int8, whose error depends on the model; what other number formats may be off by is fixed.
        psnr_change_db: by number format, how far PSNR with what really happens is from float32's, at most, as
            `genie-rt bench quality --versus` measured it; what is not in here nobody has measured, or it was
            found to look less real.
    """

    opset: int
    precisions: tuple[str, ...]
    frame_plans: tuple[str, ...] = ()
    bounds: dict[str, ParityBound] = field(default_factory=dict)
    psnr_change_db: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require(1 <= self.opset <= 1000, "opset", "1 to 1000", self.opset)
        known = ", ".join(GRAPH_FORMATS)
        for name in self.precisions:
            _require(name in GRAPH_FORMATS, "precisions", f"some of {known}", name)
        for name in self.bounds:
            _require(name == "int8", "bounds", "int8 alone, since others round alike in every model", name)
        _require(bool(self.precisions), "precisions", f"some of {known}", self.precisions)
        for name in self.frame_plans:
            _require_name("frame_plans", name)
        for name, loss in self.psnr_change_db.items():
            _require_name("psnr_change_db", name)
            _require(-100 <= loss <= 100, "psnr_change_db", "-100 to 100 dB", loss)
        for names in (self.precisions, self.frame_plans):
            _require(len(set(names)) == len(names), "graphs", "every name once", names)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all graphs."""
        graphs = (
            "encode",
            "commit",
            "pass",
            "pass-at",
            "decode",
            *(f"frame-{plan}" for plan in self.frame_plans),
        )
        return tuple(graph_file(graph, precision) for precision in self.precisions for graph in graphs)


def graph_file(graph: str, precision: str) -> str:
    """The file of a graph within the bundle: `pass.onnx`, `pass.int8.onnx`."""
    return f"{graph}{GRAPH_FORMATS[precision]}.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Int8Manifest:
    """How the model is computed in int8: see docs/model.md, section 11.

    Attributes:
        limits: by linear, of `linear_names`, what its inputs are clipped to, in float32. Linears that are not
            in here stay in floating point.
    """

    limits: dict[str, float]

    def __post_init__(self) -> None:
        _require(bool(self.limits), "limits", "one linear or more", self.limits)
        for limit in self.limits.values():
            _require(
                LEAST_LIMIT <= limit < MOST_LIMIT,
                "limits",
                f"numbers from {LEAST_LIMIT:g} to {MOST_LIMIT:g}",
                limit,
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`bundle.json`, field by field.

    Attributes:
        schema_version: of this layout; readers refuse every other.
        name: of the bundle, such as "demo".
        preset: the preset that the sizes came from; for people, nothing reads it.
        config: sizes of the model.
        action_names: in the order of their indices: one per action of the dynamics, or one per entry of
            `action_codes`.
        action_codes: the action of the dynamics that each name stands for; several names may share one.
            Empty where names and actions of the dynamics are the same.
        default_action: the one of them that is meant when no key is pressed.
        plans: decoding plans by name; "default" is always there.
        provenance: data, recipe, commit, versions: any JSON object.
        files: every other file of the bundle by its path with "/".
        graphs: what the bundle's ONNX graphs are, None where it has none.
        int8: what its int8 graphs hold too, for engines without graphs; None where nobody calibrated it.
    """

    schema_version: int = SCHEMA_VERSION
    name: str
    preset: str
    config: ModelConfig
    action_names: tuple[str, ...]
    default_action: str
    plans: dict[str, Plan]
    provenance: dict[str, Any]
    files: dict[str, FileRecord]
    graphs: GraphManifest | None = None
    action_codes: tuple[int, ...] = ()
    int8: Int8Manifest | None = None

    def __post_init__(self) -> None:
        _require(
            self.schema_version == SCHEMA_VERSION, "schema_version", str(SCHEMA_VERSION), self.schema_version
        )
        _require_name("name", self.name)
        _require_name("preset", self.preset)
        self._check_actions()
        self._check_plans()
        self._check_files()
        self._check_graphs()
        self._check_int8()

    def _check_actions(self) -> None:
        num_actions = self.config.dynamics.num_actions
        wanted, per = num_actions, "action of the dynamics"
        if self.action_codes:
            wanted, per = len(self.action_codes), "entry of action_codes"
            _require(wanted <= MAX_NAMED_ACTIONS, "action_codes", f"at most {MAX_NAMED_ACTIONS}", wanted)
        for code in self.action_codes:
            _require(0 <= code < num_actions, "action_codes", f"numbers from 0 to {num_actions - 1}", code)
        found = len(self.action_names)
        _require(found == wanted, "action_names", f"{wanted} names, one per {per}", found)
        for name in self.action_names:
            ok = 1 <= len(name) <= 64 and name.isprintable() and name == name.strip()
            _require(ok, "action_names", "1 to 64 printable characters with no space at the ends", name)
        repeated = [name for name, count in Counter(self.action_names).items() if count > 1]
        _require(not repeated, "action_names", "every name once", repeated)
        _require(
            self.default_action in self.action_names,
            "default_action",
            "one of action_names",
            self.default_action,
        )

    def _check_plans(self) -> None:
        _require("default" in self.plans, "plans", 'a plan named "default"', sorted(self.plans)[:8])
        _require(len(self.plans) <= MAX_PLANS, "plans", f"at most {MAX_PLANS}", len(self.plans))
        for name, plan in self.plans.items():
            _require_name("plans", name)
            plan.check(self.config)

    def _check_files(self) -> None:
        _require(len(self.files) <= MAX_FILES, "files", f"at most {MAX_FILES}", len(self.files))
        for name in self.files:
            _require(
                _FILE.fullmatch(name) is not None,
                "files",
                f"{WEIGHTS}, {LAM_WEIGHTS}, {MODEL_CARD}, NAME.onnx or prompts/NAME.png "
                "in the bundle's folder",
                name,
            )
        _require(WEIGHTS in self.files, "files", f"a record of {WEIGHTS}", sorted(self.files)[:8])
        total = sum(record.size for record in self.files.values())
        _require(
            total <= MAX_TOTAL_BYTES, "files", f"sizes of at most {MAX_TOTAL_BYTES} bytes together", total
        )

    def _check_graphs(self) -> None:
        listed = () if self.graphs is None else self.graphs.files
        suffixes = tuple(filter(None, GRAPH_FORMATS.values()))
        for name in self.plans if listed else ():  # or its graph would be another plan's in another format
            _require(
                not name.endswith(suffixes), "plans", f"no name that ends with {' or '.join(suffixes)}", name
            )
        for name in listed:
            _require(name in self.files, "graphs", f"a record of {name} in files", sorted(self.files)[:8])
        for name in self.files:
            known = not name.endswith(".onnx") or name in listed
            _require(known, "graphs", "the precision and plan of every .onnx file", name)
        for name in () if self.graphs is None else self.graphs.frame_plans:
            _require(name in self.plans, "graphs.frame_plans", f"some of {', '.join(self.plans)}", name)

    def _check_int8(self) -> None:
        known = frozenset(linear_names(self.config)) if self.int8 is not None else frozenset()
        for name in () if self.int8 is None else self.int8.limits:
            _require(name in known, "int8.limits", f"linears of the model, such as {max(known)}", name)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Paths of the prompt pictures within the bundle, sorted."""
        return tuple(sorted(name for name in self.files if name.startswith("prompts/")))


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of `bundle.json`; the same manifest always gives the same bytes.

    Raises:
        ConfigError: the provenance holds something that JSON cannot, or the whole is too long.
    """
    values = to_dict(manifest)
    if manifest.int8 is None:  # as before there was such a key
        del values["int8"]
    try:
        text = json.dumps(values, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        data = text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"provenance: expected values that JSON can hold, found {error}") from error
    _require(len(data) <= MAX_MANIFEST_BYTES, MANIFEST, f"at most {MAX_MANIFEST_BYTES} bytes", len(data))
    return data


def parse_manifest(data: bytes, where: str) -> Manifest:
    """Reads and checks the bytes of a `bundle.json` that nobody vouches for.

    Args:
        data: the file's bytes.
        where: what errors call the file.

    Raises:
        BundleError: too long, no JSON object, another schema version, or a value that is unknown, missing or
            out of bounds.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{where}: expected at most {MAX_MANIFEST_BYTES} bytes, found more")
    try:
        values = parse_json(data)
    except ValueError as error:
        raise BundleError(f"{where}: expected JSON in UTF-8, found {brief(error)}") from error
    _check_version(values, where)
    try:
        return from_dict(Manifest, values)
    except ConfigError as error:
        raise BundleError(f"{where}: {brief(error)}") from error


def _check_version(values: object, where: str) -> None:
    """Before all other checks: another version may well have other keys."""
    version = values.get("schema_version") if isinstance(values, dict) else SCHEMA_VERSION
    if version == SCHEMA_VERSION and type(version) is int:
        return
    remedy = "export the bundle again"
    if type(version) is int and version > SCHEMA_VERSION:
        remedy = "install a newer genie-rt"
    found = "none" if version is None else brief(repr(version))
    raise BundleError(
        f"{where}: expected schema_version {SCHEMA_VERSION}, the only one that this genie-rt reads, "
        f"found {found}; {remedy}"
    )

"""What a model is made of: one frozen dataclass per component, checked when it is made.

Axes: `N` tokens per frame, `P` positions of the dynamics, `D` width, `H` heads, `Dh` head width,
`F` MLP width, `L` layers, `W` temporal window, `V` codebook size, `A` actions.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from genie_rt.errors import ConfigError
from genie_rt.runtime.arguments import found as shown
from genie_rt.runtime.arguments import one_of, truth, whole_number
from genie_rt.runtime.untrusted import MAX_COMPARED

ConfigT = TypeVar("ConfigT")


def _require(ok: bool, expected: str, found: object) -> None:
    if not ok:
        raise ConfigError(f"expected {expected}, found {shown(found)}")


def _require_sizes(config: Any, **limits: int) -> None:
    """Every named field is a whole number from 1 to its limit."""
    for name, limit in limits.items():
        asked = f"{type(config).__name__}.{name}: expected a whole number from 1 to {limit}"
        value = whole_number(getattr(config, name), 1, limit, asked, error=ConfigError)
        object.__setattr__(config, name, value)  # an int, which JSON knows


def _require_kinds(config: Any, **kinds: type) -> None:
    """Every named field is of its kind; truth values may be NumPy's."""
    for name, kind in kinds.items():
        value, where = getattr(config, name), f"{type(config).__name__}.{name}"
        if kind is bool:
            object.__setattr__(config, name, truth(value, where, error=ConfigError))
        elif not isinstance(value, kind):
            raise ConfigError(f"{where}: expected a {kind.__name__}, found {shown(value)}")


def _require_choice(config: Any, **choices: tuple[str, ...]) -> None:
    """Every named field is one of its words."""
    for name, known in choices.items():
        value = getattr(config, name)
        listed = " or ".join(f'"{word}"' for word in known)
        _require(one_of(value, known) is not None, f"{type(config).__name__}.{name} to be {listed}", value)


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig:
    """An ST transformer: `L` blocks of spatial attention, temporal attention and MLP."""

    num_layers: int
    width: int
    num_heads: int
    head_width: int
    mlp_width: int
    window: int

    def __post_init__(self) -> None:
        _require_sizes(
            self, num_layers=512, width=65536, num_heads=1024, head_width=1024, mlp_width=262144, window=4096
        )

    @property
    def attention_width(self) -> int:
        """`H * Dh`, which may differ from the model width `D`."""
        return self.num_heads * self.head_width


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerConfig:
    """ST-ViViT VQ-VAE: pixels to a grid of `Hp x Wp` codes and back, causal in time."""

    height: int
    width: int
    patch: int
    decoder_patch: int
    codebook_size: int
    codebook_dim: int
    encoder: TransformerConfig
    decoder: TransformerConfig

    def __post_init__(self) -> None:
        _require_sizes(
            self,
            height=8192,
            width=8192,
            patch=256,
            decoder_patch=256,
            codebook_size=65536,
            codebook_dim=4096,
        )
        _require_kinds(self, encoder=TransformerConfig, decoder=TransformerConfig)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens. A side that the patch does not divide is padded at its end."""
        return math.ceil(self.height / self.patch), math.ceil(self.width / self.patch)

    @property
    def num_tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of decoded frames: the input's, scaled by `decoder_patch / patch` and rounded up.

        Rounded down, a patch at the end could be left without a pixel.
        """
        return (
            math.ceil(self.height * self.decoder_patch / self.patch),
            math.ceil(self.width * self.decoder_patch / self.patch),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LamConfig:
    """The paper's latent action model, an ST transformer: see `runtime/model/lam.py`.

    `inputs="tokens"` is the paper's ablation: the encoder sees the tokenizer's code vectors, not pixels.
    """

    patch: int
    num_actions: int
    codebook_dim: int
    encoder: TransformerConfig
    decoder: TransformerConfig
    inputs: str = "pixels"
    kind: str = "st"

    def __post_init__(self) -> None:
        _require_sizes(self, patch=256, num_actions=4096, codebook_dim=4096)
        _require_kinds(self, encoder=TransformerConfig, decoder=TransformerConfig)
        _require_choice(self, kind=("st",), inputs=("pixels", "tokens"))


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvLamConfig:
    """Convolutional latent action model: see `runtime/model/conv_lam.py`.

    Attributes:
        num_actions: `A`; a power of two, except for the bottleneck "vq".
        past_frames: frames that encoder and decoder see before the step. With 1 the codes tell the motion;
            with 2 and more the past tells the speed, and the codes what changes about it, which is nearer to
            what a key does.
        width: channels at the finest scale.
        bottleneck: "fsq": signs of a bounded vector (Mentzer et al. 2023, arXiv 2309.15505); "lfq": signs
            with an entropy loss (Yu et al. 2023, arXiv 2310.05737); "vq": a learned codebook of unit vectors.
        vq_dim: length of the codes of the bottleneck "vq".
    """

    num_actions: int
    past_frames: int = 2
    width: int = 32
    bottleneck: str = "fsq"
    vq_dim: int = 8
    kind: str = "conv"

    def __post_init__(self) -> None:
        _require_sizes(self, num_actions=4096, past_frames=64, width=4096, vq_dim=4096)
        _require_choice(self, kind=("conv",), bottleneck=("fsq", "lfq", "vq"))
        _require(
            self.bottleneck == "vq" or self.num_actions & (self.num_actions - 1) == 0 < self.num_actions - 1,
            f"ConvLamConfig.num_actions to be 2, 4, 8, ... for the bottleneck {self.bottleneck!r}",
            self.num_actions,
        )

    @property
    def codebook_dim(self) -> int:
        """Length of a code."""
        return self.vq_dim if self.bottleneck == "vq" else self.num_actions.bit_length() - 1

    @property
    def inputs(self) -> str:
        """What the model sees: always "pixels"."""
        return "pixels"


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicsConfig:
    """MaskGIT dynamics over the tokenizer's codes.

    `merge x merge` neighbouring tokens share one position of the transformer, which makes a pass `merge**2`
    times cheaper; tokens are still sampled one by one. `embedding_dim` is the width of one token's vector
    before `merge**2` of them are projected to the model width.
    """

    transformer: TransformerConfig
    num_actions: int
    merge: int = 1
    embedding_dim: int = 64
    tie_codebook: bool = True
    previous_token: bool = True
    copy_logit: bool = True

    def __post_init__(self) -> None:
        _require_sizes(self, num_actions=4096, merge=16, embedding_dim=65536)
        _require_kinds(
            self, transformer=TransformerConfig, tie_codebook=bool, previous_token=bool, copy_logit=bool
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """A whole world model. `lam` is absent where logged actions were used in its place."""

    tokenizer: TokenizerConfig
    dynamics: DynamicsConfig
    lam: LamConfig | ConvLamConfig | None = None

    def __post_init__(self) -> None:
        _require_kinds(self, tokenizer=TokenizerConfig, dynamics=DynamicsConfig)
        if not isinstance(self.lam, ConvLamConfig | None):
            _require_kinds(self, lam=LamConfig)
        rows, columns = self.tokenizer.grid
        merge = self.dynamics.merge
        _require(
            rows % merge == 0 and columns % merge == 0,
            f"DynamicsConfig.merge to divide the token grid {rows}x{columns}",
            merge,
        )
        _require(
            self.lam is None or self.lam.num_actions == self.dynamics.num_actions,
            f"as many latent actions as the dynamics has actions ({self.dynamics.num_actions})",
            self.lam and self.lam.num_actions,
        )

    @property
    def num_positions(self) -> int:
        """Positions of the dynamics: `P = N / merge**2`."""
        return self.tokenizer.num_tokens // self.dynamics.merge**2


def to_dict(config: Any) -> dict[str, Any]:
    """The config as plain JSON values; the inverse of `from_dict`."""
    return dataclasses.asdict(config)


def from_dict(kind: type[ConfigT], values: object, where: str = "") -> ConfigT:
    """Builds a config dataclass from parsed JSON, refusing what it does not know.

    Raises:
        ConfigError: a key is unknown (named, with the nearest valid one), missing, or of the wrong type.
    """
    where = where or kind.__name__
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected an object, found {type(values).__name__}")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass
    check_keys(values, fields, where)
    hints = typing.get_type_hints(kind)
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in values:
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise ConfigError(f"{where}: the key {name!r} is missing")
            continue
        arguments[name] = _value(hints[name], values[name], f"{where}.{name}")
    try:
        return kind(**arguments)
    except ConfigError as error:
        named = str(error).startswith(f"{where}.")  # a config's own errors name its class
        raise ConfigError(str(error) if named else f"{where}: {error}") from error


def check_keys(keys: Iterable[object], known: Collection[str], where: str) -> None:
    """Raises `ConfigError` for the first key that is not known; the message has the nearest that is."""
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(str(key)[:MAX_COMPARED], known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; valid keys are {', '.join(known)}"
            raise ConfigError(f"{where}: unknown key {key!r}{hint}")


def _kind_of(value: object, kinds: list[Any]) -> Any:
    """The one of several config dataclasses whose default `kind` a JSON object names; else the first."""
    asked = value.get("kind") if isinstance(value, Mapping) else None
    for kind in kinds[1:]:
        if asked == next((field.default for field in dataclasses.fields(kind) if field.name == "kind"), ""):
            return kind
    return kinds[0]


def _value(kind: Any, value: object, where: str) -> Any:
    options = typing.get_args(kind)
    if type(None) in options:
        if value is None:
            return None
        kind = _kind_of(value, [option for option in options if option is not type(None)])
        options = typing.get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return from_dict(kind, value, where)  # type: ignore[arg-type]  # checked above
    container = typing.get_origin(kind)
    if container is dict and type(value) is dict:
        return {key: _value(options[1], item, f"{where}[{key!r}]") for key, item in value.items()}
    if container is tuple and type(value) is list:
        kinds = options[:1] * len(value) if options[-1] is ... else options
        if len(kinds) != len(value):
            raise ConfigError(f"{where}: expected a list of {len(kinds)}, found one of {len(value)}")
        items = enumerate(zip(kinds, value, strict=True))
        return tuple(_value(each, item, f"{where}[{index}]") for index, (each, item) in items)
    if kind is float and type(value) is int and abs(value) <= 2**53:  # JSON writes 1.0 as 1 in some languages
        return float(value)
    if type(value) is not kind:  # exact: JSON's true is no int
        name = {dict: "an object", tuple: "a list"}.get(container or kind, kind.__name__)
        raise ConfigError(f"{where}: expected {name}, found {value!r}")
    return value

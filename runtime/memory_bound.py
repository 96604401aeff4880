"""How much memory a bundle may ask for: a small file may not claim sizes that take gigabytes.

What a model takes follows from its config, before anything is built. Large models come with large files: what
a bundle may take grows with its weights.
"""

from __future__ import annotations

import math

from genie_rt.errors import BundleError
from genie_rt.runtime.config import ModelConfig, TransformerConfig

FREE_BYTES = 512 * 2**20
"""What any bundle may take besides its weights."""

BYTES_PER_WEIGHT_BYTE = 16
"""And for each byte of its weights: pages of a long window take up to half of that in a preset."""

CHUNK_PAGES = 16  # `pages.CHUNK_PAGES`, without torch


def memory_limit(weight_bytes: int) -> int:
    """Bytes that a bundle may take whose file of weights has so many."""
    return FREE_BYTES + BYTES_PER_WEIGHT_BYTE * weight_bytes


def memory_parts(config: ModelConfig, passes: int = 1) -> dict[str, int]:
    """About what one session takes besides the weights, in bytes of float32, by what takes it.

    Args:
        passes: the most that a plan of the bundle has.
    """
    tokenizer, dynamics = config.tokenizer, config.dynamics
    tokens, codes = tokenizer.num_tokens, tokenizer.codebook_size
    height, width = tokenizer.output_size
    rows, columns = tokenizer.grid
    picture = max(height * width, rows * columns * tokenizer.decoder_patch**2)
    transformers = (
        (tokenizer.encoder, tokens),
        (tokenizer.decoder, tokens),
        (dynamics.transformer, config.num_positions),
    )
    return {
        f"pictures of {tokenizer.height} x {tokenizer.width} pixels": 16
        * 3
        * tokenizer.height
        * tokenizer.width,
        f"frames of {height} x {width} pixels": 16 * 3 * picture,
        f"scores of {codes} codes for {tokens} tokens": 4 * 4 * tokens * codes,
        f"a table of {codes} codes": 8 * codes * (tokenizer.codebook_dim + dynamics.embedding_dim),
        f"random numbers of {passes} passes": 12 * tokens * passes,
        f"pages of windows up to {max(part.window for part, _ in transformers)} frames": sum(
            4 * _pages(part) * 2 * part.num_layers * positions * part.attention_width
            for part, positions in transformers
        ),
        f"attention among {tokens} tokens": max(
            4 * positions * (2 * part.num_heads * positions + _widths(part))
            for part, positions in transformers
        ),
    }


def check_memory(config: ModelConfig, weight_bytes: int, where: str, passes: int = 1) -> None:
    """Checks that a model takes no more than its weights' size warrants.

    Args:
        where: the bundle, for messages.

    Raises:
        BundleError: it takes more; the message says what of it takes most.
    """
    parts, limit = memory_parts(config, passes), memory_limit(weight_bytes)
    if (total := sum(parts.values())) > limit:
        most = max(parts, key=lambda name: parts[name])
        raise BundleError(
            f"{where}: expected a model that takes at most {_mebibytes(limit)} besides its weights, which is "
            f"what {weight_bytes} bytes of them warrant, found sizes that take about {_mebibytes(total)}: "
            f"{most} alone {_mebibytes(parts[most])}; export it with smaller sizes"
        )


def _pages(config: TransformerConfig) -> int:
    """Pages to allocate for one session, with the next and one that is blank."""
    return CHUNK_PAGES * math.ceil((config.window + 1) / CHUNK_PAGES) + 1


def _widths(config: TransformerConfig) -> int:
    """Numbers of one position that a layer holds at once."""
    past = 4 * config.window * config.attention_width
    return 4 * config.width + 8 * config.attention_width + 3 * config.mlp_width + past


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB" if count < 1 << 60 else "more than any machine has"

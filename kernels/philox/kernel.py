"""Philox4x32-10 on the device, for kernels to call: the numbers of `kernels/philox/reference.py`."""

import triton
import triton.language as tl


@triton.jit
def words(seed, token, pass_index, frame, stream):
    """Four 32-bit words of the counter (token, pass, frame, stream) under a 64-bit key.

    Args:
        seed: int64, the key's bits; its low word is the first key word.
        token, pass_index, frame, stream: integers of any width, of which the low 32 bits count. Blocks, or
            scalars beside blocks.

    Returns:
        Four blocks of uint32.
    """
    return tl.philox(
        seed,
        tl.cast(token, tl.uint32),
        tl.cast(pass_index, tl.uint32),
        tl.cast(frame, tl.uint32),
        tl.cast(stream, tl.uint32),
    )


@triton.jit
def uniform_pair(seed, token, pass_index, frame, stream):
    """The first two words as uniforms: `u = (word >> 8) * 2**-24`, fp32 in [0, 1), both exact."""
    first, second, _, _ = words(seed, token, pass_index, frame, stream)
    # below 2**24, so that int32 and fp32 hold them exactly
    u = (first >> 8).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08
    noise_u = (second >> 8).to(tl.int32).to(tl.float32) * 5.9604644775390625e-08
    return u, noise_u

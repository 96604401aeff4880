"""Out of memory in a training step becomes one line that says what to make smaller."""

import contextlib
from collections.abc import Iterator

import torch

from genie_rt.errors import DeviceError

_SIGNS = ("not enough memory", "out of memory", "can't allocate memory", "cannot allocate memory")
"""How torch says it in a RuntimeError: its allocator on a CPU has no exception of its own."""


class OutOfMemoryError(DeviceError):
    """A training step needs more memory than there is.

    Attributes:
        needed: what was expected and found, without the advice that the message ends with.
    """

    def __init__(self, needed: str, advice: str) -> None:
        super().__init__(f"{needed}; {advice}")
        self.needed = needed


@contextlib.contextmanager
def explained_out_of_memory(step: int, batch: int, clip: int, device: torch.device) -> Iterator[None]:
    """Within its block, where memory runs out, raise an OutOfMemoryError that names the flags to change.

    Args:
        step: number of the step that runs, from 1.
        batch: clips of a step, all processes together; what `--batch` said.
        clip: frames of a clip; what `--clip` said.
        device: where the step runs.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own OutOfMemoryError is a RuntimeError
        text = str(error).lower()
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(s in text for s in _SIGNS):
            raise
        smaller = f"try --batch {batch // 2}, or a shorter --clip" if batch > 1 else "try a shorter --clip"
        raise OutOfMemoryError(
            f"step {step}: expected enough memory on {device.type} for --batch {batch} and --clip {clip}, "
            f"found too little",
            smaller,
        ) from error

"""What is tried: files that take the place of a sample's, and what has to become of them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

PIPE, FOLDER, ENDLESS, DANGLING, LOOP, GONE = "pipe", "folder", "endless", "dangling", "loop", "gone"
KINDS = (PIPE, FOLDER, ENDLESS, DANGLING, LOOP, GONE)
"""What may lie in place of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One input.

    Attributes:
        target: of `targets.TARGETS`.
        what: was done, in words.
        files: bytes, or one of `KINDS`, by path within the sample.
        must_refuse: whether accepting it would be wrong, however harmless what then happens.
    """

    target: str
    what: str
    files: dict[str, bytes | str] = field(default_factory=dict)
    must_refuse: bool = False

    def write(self, folder: Path) -> None:
        """Puts the files in place of those of a copy of the sample."""
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            if isinstance(content, bytes):
                path.write_bytes(content)
            elif content == PIPE:
                os.mkfifo(path)
            elif content == FOLDER:
                path.mkdir()
            elif content != GONE:
                path.symlink_to({ENDLESS: "/dev/zero", DANGLING: "nowhere", LOOP: path.name}[content])

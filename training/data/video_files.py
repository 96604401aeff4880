"""Which files an import reads: containers, folders, files that are given twice, and names fit to be shown."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from genie_rt.errors import InputError
from genie_rt.runtime.units import plural

CONTAINERS = "mov,matroska,avi,mpegts,mpeg,ogg,flv,gif,apng,asf,yuv4mpegpipe,h264,hevc"
"""ffmpeg's names of what is opened; "mov" covers mp4, "matroska" webm, "asf" wmv and "yuv4mpegpipe" y4m."""

KINDS = "mp4, mov, mkv, webm, avi, wmv, ts, mpg, ogg, flv, y4m, gif, apng, h264 or hevc"
"""The same as people say it, for help and messages."""

ENDINGS = frozenset({
    ".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".wmv", ".asf", ".ts", ".mts",
    ".m2ts", ".mpg", ".mpeg", ".vob", ".ogg", ".ogv", ".flv", ".f4v", ".y4m", ".gif", ".apng",
    ".h264", ".264", ".avc", ".hevc", ".h265", ".265",
})  # fmt: skip
"""Endings, in lower case, of the files that are taken from a folder. A file that is named may have any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFiles:
    """Files to import, each content once, and notes about what was found and left out."""

    files: tuple[Path, ...]
    notes: tuple[str, ...]


def find_videos(paths: Sequence[Path]) -> VideoFiles:
    """Replace folders by the videos in them and below, in the order of their names; drop what comes twice.

    Hidden files and folders are passed over, and links to folders are not followed. Files are read only where
    others have the same size.

    Raises:
        InputError: there are no paths, or a folder holds no video.
    """
    if not paths:
        raise InputError("expected at least one video file or folder, got none")
    files: list[Path] = []
    notes: list[str] = []
    for path in paths:
        if os.path.isdir(path):  # noqa: PTH112 (Path's raises for a name that is too long)
            found = sorted(_below(path), key=os.fsencode)
            if not found:
                raise InputError(
                    f"{shown_name(path)}: expected a folder with videos ({KINDS}), found none in it or below"
                )
            notes.append(f"{shown_name(path)}: {plural(len(found), 'video')} found")
            files += found
        else:
            files.append(path)
    first = _first_of_same(files)
    notes += [
        f"{shown_name(file)}: the same as {shown_name(files[earlier])}, imported once"
        for number, (file, earlier) in enumerate(zip(files, first, strict=True))
        if earlier != number
    ]
    kept = tuple(file for number, file in enumerate(files) if first[number] == number)
    return VideoFiles(files=kept, notes=tuple(notes))


def shown_name(path: Path) -> str:
    r"""Return the path as text that every encoding and terminal can take: "M\xfcn.mp4" of bytes not UTF-8.

    Letters of all languages stay; control characters and bytes that are no text are escaped.
    """
    return "".join(c if c.isprintable() else _escaped(c) for c in str(path))


def _escaped(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # how Python keeps a byte that it could not decode
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = Path(place, name)
            if path.suffix.lower() in ENDINGS and not name.startswith(".") and path.is_file():
                yield path


def _first_of_same(files: Sequence[Path]) -> list[int]:
    """The place in the list of the first file with the same content, for each file."""
    by_size: dict[int, list[int]] = defaultdict(list)
    first = list(range(len(files)))
    for number, file in enumerate(files):
        if os.path.isfile(file):  # noqa: PTH113 (as above). Opening a pipe could wait forever.
            by_size[file.stat().st_size].append(number)
    for numbers in by_size.values():
        if len(numbers) > 1:
            seen: dict[bytes, int] = {}
            digests = _digests(files[number] for number in numbers)
            for number, digest in zip(numbers, digests, strict=True):
                first[number] = seen.setdefault(digest, number)
    return first


def _digests(files: Iterable[Path]) -> Iterator[bytes]:
    """The hash of each file's content; of one that cannot be read, of its path: the import says why not."""
    by_place: dict[Path, bytes] = {}
    for file in files:
        place = file.resolve()
        if place not in by_place:
            try:
                with file.open("rb") as data:
                    by_place[place] = hashlib.file_digest(data, "sha256").digest()
            except OSError:
                by_place[place] = os.fsencode(place)
        yield by_place[place]

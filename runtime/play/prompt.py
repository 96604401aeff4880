"""Pictures to start from, under the names by which an action log finds them again."""

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from genie_rt.errors import InputError
from genie_rt.runtime.images import fit_image, load_image
from genie_rt.runtime.play.playable import Frame


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A picture as the model takes it: `[H, W, 3]` uint8. `name`: a bundle's file name, or a path."""

    name: str
    image: Frame


def load_prompts(paths: Iterable[Path]) -> tuple[Prompt, ...]:
    """The pictures of a bundle, which have the model's size already."""
    return tuple(Prompt(name=path.name, image=load_image(path)) for path in paths)


def find_prompt(
    prompts: tuple[Prompt, ...], wanted: int | str | Path, size: tuple[int, int]
) -> tuple[tuple[Prompt, ...], int]:
    """The pictures with the wanted one among them, and its index.

    Args:
        prompts: of the bundle.
        wanted: an index, the name of one of them, or any other picture's path. Such a picture is cropped to
            the model's aspect, scaled to its size and put first.
        size: height and width of the model's pictures.

    Raises:
        InputError: no such index, or no such picture.
    """
    if isinstance(wanted, int):
        if not 0 <= wanted < len(prompts):
            have = f"a whole number from 0 to {len(prompts) - 1}" if prompts else "a picture's path"
            raise InputError(f"prompt: expected {have}, found {wanted}")
        return prompts, wanted
    for index, prompt in enumerate(prompts):
        if prompt.name == str(wanted):
            return prompts, index
    picture = Prompt(name=str(wanted), image=fit_image(load_image(wanted), *size))
    return (picture, *prompts), 0


def prompt_of_log(prompts: Iterable[Prompt], named: str, folder: Path) -> str | Path:
    """What an action log means by the name of its picture, for `find_prompt`.

    One of the bundle's own, else a file: a relative path is looked up in the log's folder first, then in the
    current one.

    Args:
        prompts: of the bundle.
        named: in the log.
        folder: that the log lies in.

    Raises:
        InputError: there is no such file.
    """
    if any(prompt.name == named for prompt in prompts):
        return named
    for path in (folder / named, Path(named)):
        with contextlib.suppress(OSError, ValueError):  # a name that no file can have
            if path.is_file():
                return path
    raise InputError(
        f"the log begins with the picture {named!r}: expected it in the log's folder {folder.absolute()} or "
        "in the current one, found no such file; name it with --prompt FILE"
    )

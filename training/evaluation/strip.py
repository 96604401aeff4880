"""Drawing of frames: branches as a strip of pictures, a GIF and a table, and a labelled row of frames."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.console import Console
from rich.table import Table

from genie_rt.runtime.atomic import atomic_file
from genie_rt.runtime.units import plural
from genie_rt.training.data.store import Frames
from genie_rt.training.evaluation.branches import Branch
from genie_rt.training.evaluation.metrics import decibels, psnr

PAPER, INK, FAINT = (16, 18, 22), (232, 234, 238), (150, 154, 162)
GAP = 4
MARGIN = 10


def print_steps(console: Console, branches: Sequence[Branch]) -> None:
    """Print the PSNR of every step, the model's beside that of copying the last real frame."""
    for branch in branches:
        table = Table(title=_runs(branch.actions), title_justify="left", title_style="bold")
        for name in ("step", "action", "model dB", "copy dB"):
            table.add_column(name, justify="left" if name == "action" else "right")
        errors, copied = branch.errors, branch.copy_errors
        rows = zip(branch.actions, decibels(errors.mean), decibels(copied.mean), strict=True)
        for step, (action, model_db, copy_db) in enumerate(rows, 1):
            table.add_row(str(step), action, f"{model_db:.2f}", f"{copy_db:.2f}")
        model, copy = psnr(errors), psnr(copied)
        table.add_section()
        table.add_row("", "mean of dB", f"{model.mean_db:.2f}", f"{copy.mean_db:.2f}")
        table.add_row("", "pooled", f"{model.pooled_db:.2f}", f"{copy.pooled_db:.2f}")
        console.print(table)
        if branch.cut:
            console.print(
                f"the game ended the level after {plural(len(branch.actions), 'step')}; the comparison "
                "stops there"
            )


def draw_strip(branches: Sequence[Branch], columns: int = 12, scale: int = 2) -> Frames:
    """Draw rows of real and generated frames, with the actions and the PSNR under them.

    Args:
        branches: at least one.
        columns: most frames in a row, at least 2; of longer branches every second, third, ... frame is shown
        scale: enlargement of the frames.

    Returns:
        `[h, w, 3]` uint8.
    """
    longest = max(len(branch.actions) for branch in branches)
    stride = -(-longest // (columns - 1))
    columns = longest // stride + 1
    height, width = (side * scale for side in branches[0].real.shape[1:3])
    size = max(10, width // 11)
    small, large = ImageFont.load_default(size), ImageFont.load_default(round(1.2 * size))
    line, header = round(1.4 * size), round(2.6 * size)
    label = round(small.getlength("real game")) + 2 * MARGIN
    block = header + 2 * height + GAP + 4 * line + MARGIN
    canvas = Image.new(
        "RGB", (label + columns * (width + GAP) - GAP + MARGIN, len(branches) * block + MARGIN), PAPER
    )
    draw = ImageDraw.Draw(canvas)
    for index, branch in enumerate(branches):
        top = index * block
        title = _runs(branch.actions) + (" (then the level ends)" if branch.cut else "")
        draw.text((MARGIN, top + header // 2), title, fill=INK, font=large, anchor="lm")
        rows = (top + header, top + header + height + GAP)
        for y, name in zip(rows, ("real game", "model"), strict=True):
            draw.text((MARGIN, y + height // 2), name, fill=INK, font=small, anchor="lm")
        shown = range(0, len(branch.real), stride)
        quality, copied = branch.psnr_db, decibels(branch.copy_errors.mean)
        for column, step in enumerate(shown):
            x = label + column * (width + GAP)
            for y, frames in zip(rows, (branch.real, branch.model), strict=True):
                canvas.paste(Image.fromarray(_enlarge(frames[step], scale)), (x, y))
            taken = branch.actions[shown[column - 1] : step] if column else ()
            texts = (
                f"step {step}" if column else "start",
                _fitting(_runs(taken), small, width) if column else "prompt",
                f"{quality[step - 1]:.1f} dB" if column else "",
                f"copy {copied[step - 1]:.1f}" if column else "",
            )
            for row, (text, colour) in enumerate(zip(texts, (FAINT, INK, INK, FAINT), strict=True)):
                y = rows[1] + height + GAP + row * line
                draw.text((x + width // 2, y), text, fill=colour, font=small, anchor="ma")
    return np.array(canvas)


def draw_gif_frames(branches: Sequence[Branch], scale: int = 4) -> list[Frames]:
    """Real and generated side by side, a row a branch, with the step's action and PSNR under each pair.

    Branches that are over keep their last frame.
    """
    height, width = (side * scale for side in branches[0].real.shape[1:3])
    font_size = max(12, width // 16)
    font, line = ImageFont.load_default(font_size), round(1.7 * font_size)
    size = (2 * width + GAP, line + len(branches) * (height + line))
    pages = []
    for step in range(max(len(branch.real) for branch in branches)):
        canvas = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(canvas)
        for x, name in ((0, "real game"), (width + GAP, "model")):
            draw.text((x + width // 2, line // 2), name, fill=INK, font=font, anchor="mm")
        for index, branch in enumerate(branches):
            at = min(step, len(branch.actions))
            top = line + index * (height + line)
            for x, frames in ((0, branch.real), (width + GAP, branch.model)):
                canvas.paste(Image.fromarray(_enlarge(frames[at], scale)), (x, top))
            middle = top + height + line // 2
            text = f"{at}  {branch.actions[at - 1]}" if at else "start"
            draw.text((MARGIN, middle), text, fill=INK, font=font, anchor="lm")
            if at:
                quality = f"{branch.psnr_db[at - 1]:.1f} dB"
                draw.text((size[0] - MARGIN, middle), quality, fill=FAINT, font=font, anchor="rm")
        pages.append(np.array(canvas))
    return pages


def draw_row(frames: Frames, labels: Sequence[str], scale: int = 2) -> Frames:
    """Draw frames `[n, H, W, 3]` uint8 side by side, a label under each: `[h, w, 3]` uint8."""
    height, width = (side * scale for side in frames.shape[1:3])
    size = max(10, width // 9)
    font, line = ImageFont.load_default(size), round(1.6 * size)
    canvas = Image.new("RGB", (len(frames) * (width + GAP) - GAP, height + line), PAPER)
    draw = ImageDraw.Draw(canvas)
    for column, (frame, label) in enumerate(zip(frames, labels, strict=True)):
        x = column * (width + GAP)
        canvas.paste(Image.fromarray(_enlarge(frame, scale)), (x, 0))
        draw.text((x + width // 2, height + line // 2), label, fill=INK, font=font, anchor="mm")
    return np.array(canvas)


def write_png(path: Path, picture: Frames) -> None:
    """Write a picture atomically. Raises `InputError` where the file cannot be written."""
    with atomic_file(path) as temporary:
        Image.fromarray(picture).save(temporary, format="PNG", optimize=True)


def _enlarge(frame: Frames, scale: int) -> Frames:
    return frame.repeat(scale, axis=0).repeat(scale, axis=1)


def _runs(actions: Sequence[str]) -> str:
    """`right right jump` as `right*2 jump`."""
    counts = [(name, len(list(group))) for name, group in groupby(actions)]
    return " ".join(name if count == 1 else f"{name}*{count}" for name, count in counts)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """The text, cut so that it is no wider than `width` pixels."""
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"

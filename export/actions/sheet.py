"""A picture of what each action does: a row an action, from several starts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from genie_rt.runtime.world import World

Pixels = NDArray[np.uint8]

PAPER, INK, FAINT = (16, 18, 22), (232, 234, 238), (150, 154, 162)
GAP, MARGIN = 4, 10
SHORT_SIDE = 96


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldAction:
    """One action, held.

    Attributes:
        title: what stands before the row, such as the action's name.
        note: what stands below the title, such as how often it is used.
        frames: `[starts, steps + 1, H, W, 3]` uint8, the first of each start without the action.
    """

    title: str
    note: str
    frames: Pixels


def hold(world: World, action: int, prompts: Sequence[Pixels], steps: int, seed: int) -> Pixels:
    """Hold an action from several pictures: `[starts, steps + 1, H, W, 3]` uint8.

    Args:
        action: index of the dynamics' action.
        prompts: pictures of the world's size.
    """
    session = world.session(seed=seed)
    name = world.bundle.action_codes.index(action)
    return np.stack(
        [np.stack([session.reset(prompt), *(session.step(name) for _ in range(steps))]) for prompt in prompts]
    )


def draw(rows: Sequence[HeldAction], shown: Sequence[int]) -> Pixels:
    """Draw the rows below each other, with the number of steps above each picture.

    Args:
        rows: at least one, all of as many starts.
        shown: the steps that are drawn, such as 0, 2, 4, 8.

    Returns:
        `[h, w, 3]` uint8.
    """
    starts, _, height, width = rows[0].frames.shape[:4]
    scale = max(1, SHORT_SIDE // min(height, width))
    height, width = height * scale, width * scale
    font, small = ImageFont.load_default(16), ImageFont.load_default(12)
    texts = [row.title for row in rows] + [row.note for row in rows]
    label = round(max(font.getlength(text) for text in texts)) + 2 * MARGIN
    block = len(shown) * (width + GAP) + 2 * GAP
    header = 24
    canvas = Image.new(
        "RGB", (label + starts * block + MARGIN, header + len(rows) * (height + GAP) + MARGIN), PAPER
    )
    pen = ImageDraw.Draw(canvas)
    for start in range(starts):
        for column, step in enumerate(shown):
            x = label + start * block + column * (width + GAP)
            text = "start" if step == 0 else str(step)
            pen.text((x + width // 2, header // 2), text, fill=FAINT, font=small, anchor="mm")
    for index, row in enumerate(rows):
        top = header + index * (height + GAP)
        pen.text((MARGIN, top + height // 2 - 9), row.title, fill=INK, font=font, anchor="lm")
        pen.text((MARGIN, top + height // 2 + 11), row.note, fill=FAINT, font=small, anchor="lm")
        for start in range(starts):
            for column, step in enumerate(shown):
                frame = row.frames[start, step].repeat(scale, axis=0).repeat(scale, axis=1)
                place = (label + start * block + column * (width + GAP), top)
                canvas.paste(Image.fromarray(frame), place)
    return np.array(canvas)

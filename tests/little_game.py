"""A stranger's game, in NumPy: a red square that runs and jumps among blocks; filmed, and its keys forgotten.

    python tests/little_game.py OUT.mp4 [--minutes 8] [--fps 10]

writes a film to train on. The world is 200 blocks wide and scrolls with the player.
"""

import argparse
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

KEYS = ("left", "right", "stay", "jump")
SIDE, BLOCK, COLUMNS, ROWS = 64, 8, 200, 8
SKY, GROUND, BRICK, PLAYER = (120, 180, 240), (70, 140, 60), (150, 90, 50), (220, 40, 40)


class LittleGame:
    """One player in one world; `step` takes a key and gives the next picture."""

    def __init__(self, seed: int) -> None:
        random = np.random.default_rng(seed)
        self.solid = np.zeros((ROWS, COLUMNS), bool)
        self.solid[-1] = True
        for column in range(6, COLUMNS, 1):
            if random.random() < 0.25:
                self.solid[-1 - random.integers(1, 3), column] = True
        self.shade = random.integers(-20, 21, (ROWS, COLUMNS))
        self.x, self.y = 3.0 * BLOCK, (ROWS - 2.0) * BLOCK
        self.fall = 0.0

    def _free(self, x: float, y: float) -> bool:
        columns = (int(x) // BLOCK, int(x + BLOCK - 2) // BLOCK)
        rows = (int(y) // BLOCK, int(y + BLOCK - 1) // BLOCK)
        inside = x >= 0 and columns[1] < COLUMNS
        return inside and not any(
            self.solid[row, column] for row in rows for column in columns if 0 <= row < ROWS
        )

    def step(self, key: str) -> NDArray[np.uint8]:
        """One frame on: `[64, 64, 3]` uint8."""
        move = {"left": -3.0, "right": 3.0}.get(key, 0.0)
        if self._free(self.x + move, self.y):
            self.x += move
        standing = not self._free(self.x, self.y + 1)
        if key == "jump" and standing:
            self.fall = -7.0
        for _ in range(int(abs(self.fall))):
            if not self._free(self.x, self.y + np.sign(self.fall)):
                self.fall = 0.0
                break
            self.y += float(np.sign(self.fall))
        self.fall = min(self.fall + 1.0, 6.0) if self._free(self.x, self.y + 1) else 0.0
        return self.picture()

    def picture(self) -> NDArray[np.uint8]:
        """What is seen now, `[64, 64, 3]` uint8."""
        left = int(np.clip(self.x - SIDE // 2, 0, COLUMNS * BLOCK - SIDE))
        canvas = np.empty((ROWS * BLOCK, SIDE, 3), np.int64)
        canvas[:] = SKY
        columns = (np.arange(SIDE) + left) // BLOCK
        for row in range(ROWS):
            colour = GROUND if row == ROWS - 1 else BRICK
            shown = self.solid[row, columns]
            shaded = np.array(colour) + self.shade[row, columns][:, None]
            canvas[row * BLOCK : (row + 1) * BLOCK, shown] = shaded[shown]
        x, y = int(self.x) - left, int(self.y)
        canvas[max(0, y) : y + BLOCK, x : x + BLOCK - 1] = PLAYER
        return canvas.clip(0, 255).astype(np.uint8)


def film(num_frames: int, seed: int = 0) -> tuple[NDArray[np.uint8], list[str]]:
    """Play at random, mostly to the right: frames `[T, 64, 64, 3]`, and the key that led to each."""
    random = np.random.default_rng(seed)
    game, frames, keys, key = LittleGame(seed), [], [], "stay"
    for _ in range(num_frames):
        if random.random() < 0.25:
            key = str(random.choice(KEYS, p=(0.2, 0.4, 0.15, 0.25)))
        frames.append(game.step(key))
        keys.append(key)
        if game.x > (COLUMNS - 4) * BLOCK:
            game = LittleGame(int(random.integers(1 << 30)))
    return np.stack(frames), keys


def write_film(path: Path, num_frames: int, *, fps: int = 10, scale: int = 2, seed: int = 0) -> None:
    """Write the film as H.264, enlarged as a screen recording would be."""
    import av

    frames, _ = film(num_frames, seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "12"})
        stream.width = stream.height = SIDE * scale
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            large = frame.repeat(scale, 0).repeat(scale, 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, "rgb24")))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--fps", type=int, default=10)
    asked = parser.parse_args()
    write_film(asked.out, round(asked.minutes * 60 * asked.fps), fps=asked.fps)

"""The commands that make clip stores. Each imports its engine, procgen or PyAV, when it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from genie_rt.errors import InputError
from genie_rt.runtime.flags import check_folder

if TYPE_CHECKING:
    from genie_rt.training.data.store import ClipStore


@dataclass(frozen=True, kw_only=True)
class CoinrunCommand:
    """Record CoinRun, or another procgen game, into a clip store to train on."""

    out: Path
    """Folder of the new store."""
    frames: int = 500_000
    """About how many frames to record; a twentieth of them on held-out levels."""
    env: str = "coinrun"
    """procgen's name of the game."""
    visuals: Literal["plain", "full"] = "plain"
    """plain: easy levels of one theme without backgrounds; full: hard levels of all themes."""
    seed: int = 0
    """The same seed and options record the same frames."""
    num_envs: int = 64
    """How many copies of the game to play side by side."""
    verify: bool = False
    """Play the recording again from its action log and compare every frame."""

    def run(self) -> None:
        """Record, and print what the store holds."""
        from genie_rt.training.data.coinrun import record, replay

        check_folder("--out", self.out)
        store = record(
            self.out,
            frames=self.frames,
            env=self.env,
            visuals=self.visuals,
            seed=self.seed,
            num_envs=self.num_envs,
        )
        print(summary(store))
        if self.verify:
            print(f"{replay(store)} frames equal the game's, bit for bit")


@dataclass(frozen=True, kw_only=True)
class VideoCommand:
    """Import videos into a clip store to train on. Files that cannot be read are named and skipped."""

    files: tyro.conf.Positional[tuple[Path, ...]]
    """The videos: mp4, mov, mkv, webm, avi, ts, ogg, flv or gif."""
    out: Path
    """Folder of the new store."""
    height: int = 64
    """Height to store, pixels."""
    width: int = 64
    """Width to store, pixels; the picture is cropped at the centre where its shape differs."""
    fps: float = 10.0
    """Frames per second to store."""
    cut_threshold: float = 40.0
    """A scene ends where neighbouring frames differ by more than this in the mean, of 255."""
    static_threshold: float = 0.5
    """Scenes are dropped where neighbouring frames differ by less than this in the mean, of 255."""
    min_frames: int = 16
    """Scenes with fewer stored frames are dropped."""
    max_seconds: float = 14_400.0
    """What comes later in a video is not read."""

    def run(self) -> None:
        """Import, and print what became of each file and what the store holds."""
        from genie_rt.training.data.video import VideoOptions, import_videos

        check_folder("--out", self.out)
        options = VideoOptions(
            height=self.height,
            width=self.width,
            fps=self.fps,
            cut_threshold=self.cut_threshold,
            static_threshold=self.static_threshold,
            min_frames=self.min_frames,
            max_seconds=self.max_seconds,
        )
        report = import_videos(self.files, self.out, options=options)
        for result in report.results:
            if result.problem is None:
                print(result)
        print(summary(report.store))


@dataclass(frozen=True, kw_only=True)
class PromptsCommand:
    """Save held-out frames of a clip store as PNG files, to start a bundle's sessions from."""

    data: tyro.conf.Positional[Path]
    """The clip store."""
    out: Path
    """Folder for prompt-0.png and so on."""
    count: int = 8
    """How many, each from another episode."""
    frame: int = 12
    """Which frame of its episode."""

    def run(self) -> None:
        """Write the pictures, spread evenly over the held-out episodes that are long enough."""
        from PIL import Image

        from genie_rt.runtime.atomic import atomic_file
        from genie_rt.training.data.store import ClipStore

        check_folder("--out", self.out)
        store = ClipStore.open(self.data)
        long_enough = [
            index
            for index, episode in enumerate(store.episodes)
            if episode.split == "heldout" and episode.length > self.frame
        ]
        if not 1 <= self.count <= len(long_enough):
            raise InputError(
                f"expected a count from 1 to {len(long_enough)}, the held-out episodes of {self.data} with "
                f"more than {self.frame} frames; found {self.count}"
            )
        for number in range(self.count):
            episode = long_enough[number * len(long_enough) // self.count]
            path = self.out / f"prompt-{number}.png"
            with atomic_file(path) as temporary:
                Image.fromarray(store.episode_frames(episode)[self.frame]).save(temporary, format="PNG")
        print(f"{self.count} pictures in {self.out}")


def summary(store: ClipStore) -> str:
    """A few lines that say what a store holds."""
    from genie_rt.training.data.store import SPLITS

    lines = [f"{store.path}: {store.num_frames} frames of {store.width}x{store.height} from {store.source}"]
    for split in SPLITS:
        lengths = [entry.length for entry in store.episodes if entry.split == split]
        lines.append(f"  {split}: {sum(lengths)} frames in {len(lengths)} episodes")
    if store.action_names:
        lines.append(f"  actions: {', '.join(store.action_names)}")
    return "\n".join(lines)

"""The commands that make clip stores. Each imports its engine, procgen or PyAV, when it runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from genie_rt.parsing import shown
from genie_rt.runtime.flags import check_folder
from genie_rt.training.data.video_files import KINDS

if TYPE_CHECKING:
    from genie_rt.training.data.store import ClipStore


@dataclass(frozen=True, kw_only=True)
class CoinrunCommand:
    """Record CoinRun, or another procgen game, into a clip store to train on.

    Examples:
        genie-rt data coinrun --out data/coinrun --frames 100000
        genie-rt data coinrun --out data/coinrun --visuals full --verify
    """

    out: Path
    """Folder of the new clip store."""
    frames: int = 500_000
    """Approximate number of frames to record; 5% of them come from held-out levels."""
    env: str = "coinrun"
    """Name of the game in procgen."""
    visuals: Literal["plain", "full"] = "plain"
    """plain: easy levels, one theme, no backgrounds; full: hard levels, all themes."""
    seed: int = 0
    """Random seed. The same seed and options record the same frames."""
    num_envs: int = 64
    """Number of games played in parallel."""
    verify: bool = False
    """Replay the recording from its action log and compare every frame."""

    def run(self) -> None:
        """Record, and print what the store holds."""
        from genie_rt.runtime.units import plural
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
            print(f"{plural(replay(store), 'frame')} replayed, bit for bit the same")
        print(f"next: {train_command(store)}")


@dataclass(frozen=True, kw_only=True)
class VideoCommand:
    """Import videos into a clip store to train on. Files that cannot be read are reported and skipped.

    About a tenth of the frames is held out, chosen by what the videos show.

    Examples:
        genie-rt data video videos --out data/mine
        genie-rt data video game.mp4 --out data/mine --height 90 --width 160
    """

    files: tyro.conf.Positional[
        Annotated[
            tuple[Path, ...],
            tyro.conf.arg(
                metavar="FILE ...",
                help=f"Videos to import, or folders with videos: {KINDS}.",
                help_behavior_hint="(required)",
            ),
        ]
    ]
    out: Path
    """Folder of the new clip store."""
    height: int = 64
    """Height of stored frames, in pixels."""
    width: int = 64
    """Width of stored frames, in pixels. Frames with another aspect ratio are cropped at the centre."""
    fps: float = 10.0
    """Frames per second to store. Frames of slower videos are repeated, with a note."""
    cut_threshold: float = 40.0
    """Mean difference between neighbouring frames, of 255, above which a new scene begins."""
    static_threshold: float = 0.5
    """Mean difference between neighbouring frames, of 255, below which a scene is dropped."""
    min_frames: int = 16
    """Shortest scene to keep, in stored frames."""
    max_seconds: float = 14_400.0
    """Length after which the rest of a video is ignored, in seconds."""

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
        print(f"next: {train_command(report.store)}")


@dataclass(frozen=True, kw_only=True)
class PromptsCommand:
    """Save held-out frames of a clip store as PNG files, for use as a bundle's prompt images.

    Examples:
        genie-rt data prompts data/mine --out prompts
        genie-rt data prompts data/mine --out prompts --count 4 --frame 8
    """

    data: tyro.conf.Positional[Annotated[Path, shown(metavar="STORE")]]
    """Clip store to take frames from."""
    out: Path
    """Folder for prompt-0.png, prompt-1.png and so on."""
    count: Annotated[int | None, shown(default="8, or as many as there are held-out frames")] = None
    """Number of images, each from another episode where there are enough."""
    frame: Annotated[int | None, shown(default="12, or less in short episodes")] = None
    """Index of the first frame to take of an episode."""

    def run(self) -> None:
        """Write the pictures, spread evenly over the held-out episodes."""
        from genie_rt.runtime.units import plural
        from genie_rt.training.data.prompts import write_prompts
        from genie_rt.training.data.store import ClipStore

        check_folder("--out", self.out)
        written = write_prompts(ClipStore.open(self.data), self.out, count=self.count, frame=self.frame)
        print(f"{plural(len(written), 'image')} in {self.out}")
        print(f"next: genie-rt export RUN --out my-world --prompt {shlex.quote(str(self.out))}/*.png")


def train_command(store: ClipStore) -> str:
    """The command that makes a world of a store."""
    data, out = shlex.quote(str(store.path)), shlex.quote(f"runs/{store.path.resolve().name}")
    return f"genie-rt train all --data {data} --out {out} --minutes 60"


def summary(store: ClipStore) -> str:
    """Summarise the contents of a store in a few lines."""
    from genie_rt.runtime.units import plural
    from genie_rt.training.data.store import SPLITS

    frames = plural(store.num_frames, "frame")
    lines = [f"{store.path}: {frames} of {store.width}x{store.height} from {store.source}"]
    for split in SPLITS:
        lengths = [entry.length for entry in store.episodes if entry.split == split]
        lines.append(f"  {split}: {plural(sum(lengths), 'frame')} in {plural(len(lengths), 'episode')}")
    if store.action_names:
        lines.append(f"  actions: {', '.join(store.action_names)}")
    return "\n".join(lines)

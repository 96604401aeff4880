"""Settings for turning videos into episodes."""

from dataclasses import dataclass

from genie_rt.errors import InputError

MAX_SIDE = 1024
MAX_SOURCE_HZ = 240
MAX_EPISODE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOptions:
    """Settings for turning videos into episodes.

    Attributes:
        height, width: size to store, pixels; the picture is shrunk to cover it and cropped at the centre.
        fps: frames per second to store: the first at or after each tick, repeated where the video is slower.
        cut_threshold: a scene cut is where neighbouring stored frames differ by more than this in the mean
            over pixels and channels, of 255. Motion in a game stays below 30, most cuts exceed 50.
        static_threshold: an episode is dropped where its mean difference between neighbours is below this.
        min_frames, max_frames: shorter episodes are dropped and longer ones are cut.
        max_pixels: videos with more pixels a frame are refused.
        max_seconds: what comes later in a video is not read.
    """

    height: int = 64
    width: int = 64
    fps: float = 10.0
    cut_threshold: float = 40.0
    static_threshold: float = 0.5
    min_frames: int = 16
    max_frames: int = 512
    max_pixels: int = 7680 * 4320
    max_seconds: float = 4 * 3600.0

    def __post_init__(self) -> None:
        for flag, side in (("--height", self.height), ("--width", self.width)):
            if not 8 <= side <= MAX_SIDE:
                raise InputError(f"{flag}: expected 8 to {MAX_SIDE} pixels, found {side}")
        if not 0 < self.fps <= MAX_SOURCE_HZ:
            raise InputError(f"--fps: expected more than 0 and at most {MAX_SOURCE_HZ}, found {self.fps}")
        if not self.max_seconds > 0:
            raise InputError(f"--max-seconds: expected more than 0, found {self.max_seconds}")
        longest = min(self.max_frames, MAX_EPISODE_BYTES // (self.height * self.width * 3))
        if not 2 <= self.min_frames <= longest:
            raise InputError(f"--min-frames: expected 2 to {longest}, found {self.min_frames}")
        object.__setattr__(self, "max_frames", longest)

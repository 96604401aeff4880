"""Records what a player sees and writes it beside the game, without holding it up."""

import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue

from genie_rt.errors import GenieError
from genie_rt.runtime.play.action_log import ActionLog, write_log
from genie_rt.runtime.play.clip import check_clip_path, write_clip
from genie_rt.runtime.play.playable import Frame

_MAX_BYTES = 512 * 2**20


class Recorder:
    """At most one recording at a time.

    Args:
        fps: of the clips.
        scale: enlargement of the clips; None as `write_clip` finds it.
    """

    def __init__(self, *, fps: float, scale: int | None = None) -> None:
        self._fps = fps
        self._scale = scale
        self._path: Path | None = None
        self._frames: list[Frame] = []
        self._captions: list[str] = []
        self._num_bytes = 0
        self._writers: list[threading.Thread] = []
        self._news: SimpleQueue[str] = SimpleQueue()

    @property
    def active(self) -> bool:
        return self._path is not None

    @property
    def full(self) -> bool:
        """Whether 512 MiB of frames have come together: time to stop."""
        return self._num_bytes >= _MAX_BYTES

    def start(self, path: Path) -> None:
        """Begins a clip. Raises `InputError` for an ending that no writer knows."""
        check_clip_path(path)
        self._path, self._frames, self._captions, self._num_bytes = path, [], [], 0

    def add(self, frame: Frame, caption: str) -> None:
        """Keeps a copy of the frame if a recording runs."""
        if self.active:
            self._frames.append(frame.copy())
            self._captions.append(caption)
            self._num_bytes += frame.nbytes

    def stop(self, log: ActionLog | None = None) -> None:
        """Ends the clip; a thread writes it, and the log under the same name with `.json`."""
        if self._path is None:
            return
        path, frames, captions = self._path, self._frames, self._captions
        self._path, self._frames, self._captions, self._num_bytes = None, [], [], 0

        def write() -> None:
            write_clip(path, frames, fps=self._fps, scale=self._scale, captions=captions)
            if log is not None:
                write_log(path.with_suffix(".json"), log)

        writer = threading.Thread(target=self._report, args=(write, path), name="genie-rt clip writer")
        writer.start()
        self._writers.append(writer)

    def news(self) -> list[str]:
        """What the writers had to say since the last call, for the player to read."""
        return [self._news.get() for _ in range(self._news.qsize())]

    def join(self) -> None:
        """Waits until every clip is on disk."""
        for writer in self._writers:
            writer.join()
        self._writers.clear()

    def _report(self, write: Callable[[], None], path: Path) -> None:
        try:
            write()
        except GenieError as error:
            self._news.put(f"not saved: {error}")
        else:
            self._news.put(f"saved {path}")

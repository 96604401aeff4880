"""A session without a model: a square that goes where the actions say, over a scrolling ground."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

from genie_rt.errors import StateError
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.play.loop import PlayLoop
from genie_rt.runtime.play.player import Player
from genie_rt.runtime.play.prompt import Prompt
from genie_rt.runtime.play.recorder import Recorder

COINRUN = ("left", "right", "stay", "jump", "left+jump", "right+jump")
Frame = npt.NDArray[np.uint8]


class FakeSession:
    """Frames depend on the picture, the actions since the reset and the passes of each step."""

    def __init__(self, side: int = 64) -> None:
        self.plan = Plan(passes=4)
        self.side = side
        self.steps: list[int] = []
        self.cold = False
        self.num_commits = 0
        self._committed = False
        self._ground = np.zeros((side, side, 3), np.uint8)
        self._state = (side // 2, side // 2, 0)  # x, y, what chance made of it

    @property
    def stats(self) -> FrameStats | None:
        return FrameStats(passes=self.plan.passes, tokens=0, cold=self.cold) if self.steps else None

    @property
    def passes(self) -> int:
        return self.plan.passes

    @property
    def passes_range(self) -> range:
        return range(1, 257)

    @property
    def frame(self) -> Frame:
        x, y, chance = self._state
        frame = np.roll(self._ground, -x, axis=1)
        frame[y : y + self.side // 8, self.side // 2 : self.side // 2 + self.side // 8] = (250, 200, 60)
        frame[0, 0] = (chance & 255, chance >> 8 & 255, 7)
        return frame

    def reset(self, image: Frame, /) -> Frame:
        self._ground = image.copy()
        self._state = (0, self.side // 2, 0)
        self._committed = False
        return self.frame

    def step(self, action: int, /) -> Frame:
        if not self._committed:
            self.commit()
        x, y, chance = self._state
        name = COINRUN[action]
        x += ("right" in name) * 2 - ("left" in name) * 2
        y = self.side // 4 if "jump" in name else self.side // 2
        self._state = (x, y, (chance * 31 + action * 7 + self.plan.passes) & 0xFFFF)
        self.steps.append(action)
        self._committed = False
        return self.frame

    def commit(self) -> None:
        if self._committed:
            raise StateError("this frame is committed already")
        self._committed = True
        self.num_commits += 1

    def snapshot(self) -> object:
        return self._state, self._committed, self._ground

    def restore(self, snapshot: object, /) -> None:
        self._state, self._committed, self._ground = snapshot  # type: ignore[misc]


@dataclass
class FakeClock:
    """Time that passes only when a test says so."""

    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def make_ground(side: int, seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    ground = np.empty((side, side, 3), np.uint8)
    ground[:] = rng.integers(40, 120, (1, side, 3))
    ground[side * 5 // 8 :] = rng.integers(60, 200, (1, 1, 3)) // np.array([3, 1, 3])
    return ground


@pytest.fixture
def action_names() -> tuple[str, ...]:
    return COINRUN


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def session() -> FakeSession:
    return FakeSession()


@pytest.fixture
def prompts() -> tuple[Prompt, ...]:
    return tuple(Prompt(name=f"{index:02}.png", image=make_ground(64, index)) for index in range(3))


@pytest.fixture
def loop(session: FakeSession, prompts: tuple[Prompt, ...], clock: FakeClock) -> PlayLoop:
    return PlayLoop(session, prompts, undo_steps=8, clock=clock)


@pytest.fixture
def make_player(loop: PlayLoop, clock: FakeClock, tmp_path) -> Callable[..., Player]:
    def make(**options) -> Player:
        options = {"clock": clock, "folder": tmp_path} | options
        return Player(loop, COINRUN, Recorder(fps=15), **options)

    return make


@pytest.fixture
def player(make_player: Callable[..., Player]) -> Player:
    return make_player()

"""The real game behind CoinRun data: procgen levels that can be stepped, watched, saved and branched."""

import contextlib
import io
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from genie_rt.errors import InputError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.training.data.store import Frames

Visuals = Literal["plain", "full"]
VISUALS: dict[Visuals, dict[str, Any]] = {
    "plain": {"use_backgrounds": False, "restrict_themes": True, "distribution_mode": "easy"},
    "full": {"use_backgrounds": True, "restrict_themes": False, "distribution_mode": "hard"},
}

# procgen's other nine combinations hold down, which only drops through crates, or letters without effect.
COINRUN_KEYS: tuple[tuple[str, ...], ...] = (
    ("LEFT",),
    ("RIGHT",),
    (),
    ("UP",),
    ("LEFT", "UP"),
    ("RIGHT", "UP"),
)


FORCE_RESET = -1
"""procgen's action that ends a level at once."""


def action_name(env: str, keys: tuple[str, ...]) -> str:
    """Name the keys held down: joined by "+", "stay" for none; in CoinRun the up key is called "jump"."""
    words = [key.lower() for key in keys]
    if env == "coinrun":
        words = ["jump" if word == "up" else word for word in words]
    return "+".join(words) or "stay"


class RealGame:
    """`num_envs` copies of a procgen game, stepped together.

    A copy that dies or wins starts a new level by itself; `first` tells. All frames follow from the arguments
    and the actions, bit for bit, in every process and with any number of threads.

    Args:
        env: procgen's name of the game.
        visuals: "plain" is easy levels of one theme without backgrounds, "full" is hard levels of all themes.
        start_level, num_levels: levels are drawn from `[start_level, start_level + num_levels)`.
        num_envs: B, the number of copies.
        seed: decides which levels are drawn, 0 to 2**31 - 1.
        num_threads: threads that step the copies; 0 steps them in the caller's.

    Raises:
        UnsupportedError: if procgen is not installed.
        InputError: if procgen has no such game or an argument is out of range.
    """

    def __init__(
        self,
        env: str = "coinrun",
        *,
        visuals: Visuals = "plain",
        start_level: int = 0,
        num_levels: int = 10_000,
        num_envs: int = 1,
        seed: int = 0,
        num_threads: int = 2,
    ) -> None:
        procgen = import_procgen()
        if env not in procgen.env.ENV_NAMES:
            raise InputError(f"procgen has no game {env!r}; it has {', '.join(procgen.env.ENV_NAMES)}")
        if visuals not in VISUALS:
            raise InputError(f"visuals must be one of {', '.join(VISUALS)}, got {visuals!r}")
        if num_envs < 1 or num_levels < 1 or start_level < 0 or not 0 <= seed < 2**31:
            # procgen ignores start_level when num_levels is 0, which would let held-out levels leak in.
            raise InputError(
                "expected num_envs >= 1, num_levels >= 1, start_level >= 0 and 0 <= seed < 2**31, got "
                f"{num_envs}, {num_levels}, {start_level} and {seed}"
            )
        self._env = procgen.ProcgenGym3Env(
            num=num_envs,
            env_name=env,
            start_level=start_level,
            num_levels=num_levels,
            rand_seed=seed,
            num_threads=num_threads,
            **VISUALS[visuals],
        )
        combos = [tuple(keys) for keys in self._env.get_combos()]
        keys = COINRUN_KEYS if env == "coinrun" else tuple(combos)
        self._combo_of_action = np.array([combos.index(key) for key in keys], dtype=np.int32)
        self.env = env
        self.num_envs = num_envs
        self.procgen_version = str(procgen.__version__)
        self.action_names: tuple[str, ...] = tuple(action_name(env, key) for key in keys)

    def observe(self) -> Frames:
        """The frame that each copy shows now, [B, 64, 64, 3] uint8, a copy."""
        _, observation, _ = self._env.observe()
        return cast(Frames, np.array(observation["rgb"], dtype=np.uint8))

    @property
    def first(self) -> NDArray[np.bool_]:
        """Whether the frame shown now is the first of a level, [B]."""
        _, _, first = self._env.observe()
        return np.array(first, dtype=np.bool_)

    @property
    def level_seeds(self) -> list[int]:
        """The level that each copy is in, [B]."""
        return [int(info["level_seed"]) for info in self._env.get_info()]

    def step(self, actions: NDArray[Any], restart: NDArray[np.bool_] | None = None) -> None:
        """Advance all copies by one frame.

        Args:
            actions: [B] integers, indices into `action_names`.
            restart: [B] bool, the copies that leave their level for another one in place of acting.
        """
        if actions.shape != (self.num_envs,) or actions.dtype.kind not in "iu":
            raise InputError(f"expected {self.num_envs} integer actions, got {actions.shape} {actions.dtype}")
        if actions.min() < 0 or actions.max() >= len(self.action_names):
            raise InputError(
                f"expected actions from 0 to {len(self.action_names) - 1}, "
                f"got {actions.min()} to {actions.max()}"
            )
        combos = self._combo_of_action[actions]
        self._env.act(combos if restart is None else np.where(restart, FORCE_RESET, combos))

    def state(self) -> list[bytes]:
        """Everything that decides each copy's future, for `restore`."""
        return cast(list[bytes], self._env.callmethod("get_state"))

    def restore(self, states: list[bytes]) -> None:
        """Put all copies back to saved states; what follows equals what followed then, bit for bit.

        Only give it what `state` of an equally configured game returned: procgen does not check the bytes.
        """
        if len(states) != self.num_envs:
            raise InputError(f"expected {self.num_envs} states, got {len(states)}")
        self._env.callmethod("set_state", states)

    def close(self) -> None:
        """Give the game's memory and threads back."""
        self._env.close()


def import_procgen() -> Any:
    try:
        # procgen imports gym, which prints a notice about its own end of life.
        with contextlib.redirect_stderr(io.StringIO()):
            import procgen
            import procgen.env
    except ImportError as error:
        raise UnsupportedError(
            f"the real game needs procgen ({error}); install it with: {install_hint('coinrun')}"
        ) from error
    return procgen

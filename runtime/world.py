"""A world: weights and a back end, immutable, shared by any number of sessions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import torch

from genie_rt.errors import UnsupportedError
from genie_rt.runtime.arguments import truth
from genie_rt.runtime.backends.registry import ACTIVATIONS, BACKENDS
from genie_rt.runtime.backends.select import EVERYTHING, Choice, Holdings
from genie_rt.runtime.bundle import Bundle, load_weights, open_bundle
from genie_rt.runtime.config import check_keys
from genie_rt.runtime.loaded_world import LoadedWorld
from genie_rt.runtime.model.world_model import WorldModel, parameter_shapes
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.pool import SessionPool
from genie_rt.runtime.random_weights import random_bundle, random_model
from genie_rt.runtime.session import Session, check_seed
from genie_rt.runtime.snapshot import Snapshot, load_snapshot
from genie_rt.runtime.turn import enter_process
from genie_rt.runtime.warm_up import warm_up


class World(LoadedWorld):
    """A loaded bundle, ready to be played. Its sessions may be played in several threads, each in one.

    It belongs to the process that loaded it. Threads do not survive a fork, so in a forked worker whatever
    computes raises `StateError`: load the world in the worker and start that with "spawn".

    Examples:
        >>> world = World.load("demo")
        >>> session = world.session(seed=7)
        >>> frame = session.reset(world.prompt(0))
        >>> frame = session.step("right")
        >>> frame.shape
        (64, 64, 3)
    """

    @classmethod
    def load(
        cls,
        source: str | Path = "demo",
        *,
        backend: str = "auto",
        dtype: str = "auto",
        device: str | None = None,
        rebuild: bool = False,
        warm_up: bool = False,
    ) -> World:
        """Loads a bundle; everything in it is checked before use.

        Args:
            source: a shipped bundle's name, or a bundle folder.
            backend: one of `backends.registry.BACKENDS`, such as "reference", "cuda" or "onnx"; or "auto": on
                a CUDA device "cuda", on a CPU the fastest that is installed and finds in the bundle what it
                needs.
            dtype: to compute in, such as "float32"; `BACKENDS` lists what each back end knows. "auto":
                bfloat16 on a CUDA device, else the fastest format whose frames were measured to be as good.
            device: a torch device, "cpu" or "cuda"; unless set "cuda" for back ends that need it, else "cpu".
            rebuild: whether TensorRT builds its engines anew, in place of those that it kept.
            warm_up: whether the plan "default" is made ready too, for one session. Else its first frame takes
                seconds where a back end compiles; `World.warm_up` makes other plans and pools ready.

        Raises:
            BundleError: the bundle is missing or broken.
            UnsupportedError: there is no such back end or dtype, or this machine has no such device.
            DeviceError: the device has not enough memory.
        """
        rebuild, warm_up = truth(rebuild, "rebuild"), truth(warm_up, "warm_up")
        enter_process()
        Choice.of(backend, dtype, device, EVERYTHING)  # before a large bundle is read
        bundle = open_bundle(source, hash_weights=False)  # who reads them next does
        choice = Choice.of(backend, dtype, device, Holdings.of(bundle))
        built = choice.build(bundle, lambda: load_model(bundle, choice.dtype), rebuild=rebuild)
        world = cls(bundle, built, choice.dtype)
        if warm_up:
            world.warm_up()
        return world

    @classmethod
    def random(
        cls,
        preset: str,
        *,
        seed: int = 0,
        backend: str = "auto",
        dtype: str = "auto",
        device: str | None = None,
    ) -> World:
        """A world of a preset's sizes with random weights, to measure latency without a bundle.

        Its frames are noise. The weights are made on the device in the dtype, one after the other: beside
        them at most 64 MiB are needed, there and on the host; the back end "native" holds them twice more
        while it loads. Actions are named "a0", "a1", ...; there are no
        prompts, and one plan, "default".

        Args:
            preset: such as "coinrun"; `runtime.presets.PRESETS` lists them.
            seed: 0 to 2**64 - 1, of the weights: the same seed and kind of device give the same weights.
            backend, dtype, device: as `load` takes them; "reference", "native" or "cuda", since there are no
                graphs.

        Raises:
            ConfigError: there is no such preset.
            InputError: the seed is out of range.
            UnsupportedError: as `load`.
        """
        enter_process()
        choice = Choice.of(backend, dtype, device, Holdings(has_limits=True))
        if BACKENDS[choice.backend].runs_graphs:
            raise UnsupportedError(
                f"the back end {choice.backend!r} runs the graphs of a bundle, and random weights have none: "
                'take "reference", "native" or "cuda"'
            )
        seed = check_seed(seed)
        bundle = random_bundle(preset, seed=seed, device=choice.device)

        def model() -> WorldModel:
            return random_model(bundle.config, seed=seed, dtype=choice.activations, device=choice.device)

        return cls(bundle, choice.build(bundle, model), choice.dtype)

    def warm_up(
        self,
        plan: str | Plan = "default",
        *,
        slots: int = 1,
        peek: int = 0,
        prompt_frames: int = 1,
        **changes: Any,
    ) -> None:
        """Makes a plan ready to be played, so that its first frame takes no longer than the tenth.

        What a back end does only once (read and compile a graph, capture a frame) it does now, by playing a
        few grey frames. Sessions, their frames and seeds stay as they are. What is ready already costs a few
        frames' time.

        Args:
            plan, changes: as in `session`. With `target_ms` sessions take fewer passes too, each number of
                which is a plan of its own: `passes=...`.
            slots: of a pool whose sessions are stepped together; 1 for sessions that step on their own.
            peek: most actions that are peeked at in one call, or futures of a rollout; 0 for none.
            prompt_frames: of the prompts that sessions start from; for two and more the graph that takes in
                a prompt's frames is made ready as well.

        Raises:
            InputError: the plan is unknown, or no such number of slots, actions or frames.
            ConfigError: as in `session`.
            BundleError: a graph that the plan needs is missing or broken.
            DeviceError: there is not enough memory, or the model gave NaN or Inf.
        """
        self.home.check()
        warm_up(self, self.plan(plan, **changes), slots=slots, peek=peek, prompt_frames=prompt_frames)

    def session(
        self,
        *,
        seed: int = 0,
        plan: str | Plan = "default",
        target_ms: float | None = None,
        **changes: Any,
    ) -> Session:
        """A new session, still without a picture.

        Args:
            seed: 0 to 2**64 - 1; the same seed, prompt and actions give the same frames.
            plan: a plan of the bundle by name, or a `Plan`.
            target_ms: what a step may take, from the action to the picture on the host. Each frame then gets
                as many passes as fit, up to the plan's; `Session.passes` says how many, and a replay with
                these gives the same frames. See `Deadline`.
            changes: fields of the plan to change: passes, temperature, noise, ...

        Raises:
            InputError: the seed is out of range or the plan unknown.
            ConfigError: a change is not one that a plan can have, the model cannot decode with the plan, or
                the target is no number above 0.
        """
        self.home.check()
        plan_fields = (field.name for field in dataclasses.fields(Plan))
        check_keys(changes, ("seed", "plan", "target_ms", *plan_fields), "World.session")
        return Session(self, seed=seed, plan=self.plan(plan, **changes), target_ms=target_ms)

    def pool(self, slots: int, *, plan: str | Plan = "default", **changes: Any) -> SessionPool:
        """A pool that steps up to `slots` sessions of this world in one batch.

        Args:
            slots: at least 1.
            plan, changes: as in `session`, of the sessions that the pool makes.

        Raises:
            InputError: the plan is unknown.
            ConfigError: as in `session`, or no such number of slots.
            DeviceError: there is not enough memory for so many sessions.
        """
        self.home.check()
        pool = SessionPool(self, slots, plan=self.plan(plan, **changes))
        self.backend.reserve(slots)
        return pool

    def load_snapshot(self, source: str | Path | bytes) -> Snapshot:
        """A snapshot from `Snapshot.save` or `Snapshot.to_bytes`, to `restore` in any session of this world.

        Everything in it is checked first, so it may come from anywhere.

        Args:
            source: a path, or the bytes.

        Raises:
            InputError: no snapshot, cut short, damaged, of another bundle, dtype or version, or a state that
                no session can be in.
        """
        return load_snapshot(self, source)


def load_model(bundle: Bundle, dtype: str) -> WorldModel:
    """The bundle's model, on the CPU.

    Args:
        dtype: one of `backends.registry.ACTIVATIONS`.

    Raises:
        BundleError: the weights are not what the bundle says.
    """
    weights = load_weights(bundle, parameter_shapes(bundle.config))
    with torch.device("meta"):
        model = WorldModel(bundle.config)
    # copies, so that the file, which they are views of, is let go
    own = {name: value.to(ACTIVATIONS[dtype], copy=True) for name, value in weights.items()}
    model.load_state_dict(own, assign=True)
    return model

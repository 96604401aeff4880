"""A loaded bundle and its back end: what sessions, pools and snapshots need of a world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from genie_rt.errors import InputError
from genie_rt.runtime.arguments import as_whole, found, plain, whole_number
from genie_rt.runtime.backends.protocol import Backend
from genie_rt.runtime.bundle import Bundle, read_prompt
from genie_rt.runtime.images import Picture
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.turn import Home, Uncopied


class LoadedWorld(Uncopied):
    """Weights and a back end, immutable. `World` adds what makes sessions of it."""

    instead = "load the bundle again where it is needed, World.load(...)"

    def __init__(self, bundle: Bundle, backend: Backend, dtype: str) -> None:
        self.home = Home()
        self.bundle = bundle
        self.backend = backend
        self.dtype = dtype

    def __repr__(self) -> str:
        return f"World({self.bundle.name!r}, {self.backend.name} {self.dtype} on {self.backend.device})"

    @property
    def action_names(self) -> tuple[str, ...]:
        """Names of the actions; an action's index is its place."""
        return self.bundle.action_names

    @property
    def codes(self) -> dict[str, int]:
        """The action of the dynamics that each name stands for. `step` takes names, or places in
        `action_names`, and no codes.
        """
        return dict(zip(self.action_names, self.bundle.action_codes, strict=True))

    @property
    def output_size(self) -> tuple[int, int]:
        """Height and width of the frames that sessions return."""
        return self.bundle.config.tokenizer.output_size

    @property
    def prompts(self) -> tuple[Path, ...]:
        """Pictures of the bundle to start from."""
        return self.bundle.prompts

    def prompt(self, index: int = 0) -> Picture:
        """The bundle's picture of that index, `[H, W, 3]` uint8.

        Raises:
            InputError: there is none of that index.
        """
        if not self.prompts:
            raise InputError("this bundle has no prompts: start from a picture of your own")
        last = len(self.prompts) - 1
        return read_prompt(self.bundle, whole_number(index, 0, last, f"a prompt from 0 to {last}"))

    def action(self, action: str | int) -> int:
        """The dynamics' index of an action given by name or index.

        It is the place of the name in `action_names`, unless names were given to learned actions: then it is
        the learned action that the name stands for.

        Raises:
            InputError: the world has no such action; the message lists those it has.
        """
        return self.bundle.action_codes[self.action_index(action)]

    def action_index(self, action: str | int) -> int:
        """The place in `action_names` of an action given by name or index.

        Raises:
            InputError: the world has no such action; the message lists those it has.
        """
        names = self.action_names
        name = plain(action)
        if isinstance(name, str) and name in names:
            return names.index(name)
        index = as_whole(action)
        if index is not None and 0 <= index < len(names):
            return index
        raise InputError(
            f"unknown action {found(action)}: expected one of {', '.join(names)}, "
            f"or an index from 0 to {len(names) - 1}"
        )

    def plan(self, plan: str | Plan = "default", **changes: Any) -> Plan:
        """A plan that this world can decode with.

        Args:
            plan: one of the bundle by name, or a `Plan`.
            changes: fields of it to change: passes, temperature, noise, ...

        Raises:
            InputError: there is no such plan.
            ConfigError: a change is not one that a plan can have, or the model cannot decode with the plan.
        """
        if isinstance(plan, str):
            if plan not in self.bundle.plans:
                known = ", ".join(self.bundle.plans)
                raise InputError(f"unknown plan {found(plan)}: this bundle has {known}")
            plan = self.bundle.plans[plan]
        if not isinstance(plan, Plan):
            raise InputError(f"expected a plan's name or a Plan, found {found(plan)}")
        return plan.replace(**changes).check(self.bundle.config)

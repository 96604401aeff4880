"""`genie-rt actions`. torch is imported when the command runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from genie_rt.errors import InputError
from genie_rt.parsing import shown
from genie_rt.runtime.flags import BundleName, check_file, check_folder

if TYPE_CHECKING:
    from rich.console import Console

    from genie_rt.export.actions.key_map import LearnedKeys
    from genie_rt.runtime.bundle import Bundle
    from genie_rt.runtime.world import World

LABELS = (50, 100, 200, 500)
"""Numbers of labelled transitions whose accuracy is printed."""

UNNAMED = "-"


@dataclass(frozen=True, kw_only=True)
class ActionsCommand:
    """Show what each learned action does, and give them names that keys and `step("jump")` then use.

    Without --names, --map or --keys nothing is changed: the command draws a picture with one row an action.
    Names are written into the bundle. A shipped bundle stays as it is: say where the named one goes with
    --save-as.

    Examples:
        genie-rt actions ./my-world --names left,right,-,jump
        genie-rt actions ./my-world --map data/labelled --labels 200
    """

    bundle: BundleName = "demo"
    """Name of a shipped bundle, or path of a bundle folder."""
    names: Annotated[str | None, shown(default="none", metavar="NAME,NAME,...")] = None
    """Names of the codes 0, 1, 2, ... in this order; "-" leaves a code as it is."""
    keys: bool = False
    """Open a window that plays one code after the other; press the key that it shall be on."""
    map: Annotated[Path | None, shown(default="none", metavar="CLIPS")] = None
    """Clip store with recorded actions; the names are learned from some of its transitions."""
    labels: int = 200
    """Number of labelled transitions to learn from, with --map."""
    lam: Annotated[Path | None, shown(default="the bundle's own")] = None
    """Run folder of the latent action model, with --map."""
    save_as: Annotated[Path | None, shown(default="the bundle itself")] = None
    """Folder for the bundle with names."""
    out: Path = Path("out/actions.png")
    """Picture to draw."""
    steps: int = 8
    """Number of steps that an action is held for in the picture."""
    starts: int = 3
    """Number of the bundle's prompt images to start from."""
    seed: int = 0
    """Random seed of the sampling and of the choice of labelled transitions."""

    def run(self) -> None:
        """Name, then draw."""
        from rich.console import Console

        from genie_rt.runtime.bundle import open_bundle
        from genie_rt.runtime.world import World

        self._check()
        check_file("--out", self.out)
        check_folder("--save-as", self.save_as)
        console = Console(highlight=False, markup=False)
        bundle = self._named(console, open_bundle(self.bundle))
        world = World.load(bundle.path)
        if world.prompts:
            self._draw(console, world)
        else:
            console.print(
                "no picture: the bundle has no prompt images to start from; export it again with --prompt "
                "FILE, from `genie-rt data prompts`"
            )

    def _check(self) -> None:
        from genie_rt.runtime.bundle import shipped_bundles

        ways = (("--names", self.names), ("--map", self.map), ("--keys", self.keys))
        given = [flag for flag, value in ways if value]
        if len(given) > 1:
            raise InputError(f"expected one of --names, --map and --keys, found {' and '.join(given)}")
        if given and self.save_as is None and self.bundle in shipped_bundles():
            raise InputError(
                f"{self.bundle!r} came with the package and stays as it is: name a folder for the bundle "
                "with names, with --save-as"
            )
        for flag, value, most in (("--steps", self.steps, 256), ("--starts", self.starts, 16)):
            if not 1 <= value <= most:
                raise InputError(f"{flag}: expected a number from 1 to {most}, found {value}")
        if self.lam is not None and self.map is None:
            raise InputError("--lam: expected --map too, which is what it is for")
        if self.labels < 1:
            raise InputError(f"--labels: expected at least 1, found {self.labels}")

    def _named(self, console: Console, bundle: Bundle) -> Bundle:
        """The bundle with names, where some are given."""
        from genie_rt.export.actions.key_map import named_codes
        from genie_rt.export.actions.rename import rename_actions

        num_codes = bundle.config.dynamics.num_actions
        if self.names is not None:
            keys, codes = _kept_names(bundle, *_parse_names(self.names, num_codes))
        elif self.map is not None:
            keys, codes = self._learn(console, bundle, self.map)
        elif self.keys:
            keys, codes = _kept_names(bundle, *_ask_keys(bundle, self.seed))
        else:
            return bundle
        names, all_codes = named_codes(keys, codes, num_codes)
        renamed = rename_actions(bundle, self.save_as or bundle.path, names, all_codes)
        pairs = ", ".join(f"{name} = {code}" for name, code in zip(keys, codes, strict=True))
        console.print(f"{renamed.path}: {pairs}")
        console.print(f"next: genie-rt play {shlex.quote(str(renamed.path))}")
        return renamed

    def _learn(self, console: Console, bundle: Bundle, store: Path) -> tuple[list[str], list[int]]:
        """Names and codes from labelled transitions."""
        from genie_rt.export.actions.key_map import accuracies, learn_keys
        from genie_rt.export.actions.labels import labelled_transitions

        if bundle.config.lam is None:
            raise InputError(
                f"--map: expected a world of latent actions, found {bundle.name!r}, whose are logged"
            )
        count = 8 * max(self.labels, LABELS[-1])
        found = labelled_transitions(bundle, store, self.lam, count=count, seed=self.seed)
        names, num_codes = found.key_names, bundle.config.dynamics.num_actions
        if len(found.codes) < self.labels:
            raise InputError(
                f"--labels: expected at most {len(found.codes)}, the transitions of {store}, "
                f"found {self.labels}"
            )
        learned = learn_keys(found.codes[: self.labels], found.keys[: self.labels], num_codes, len(names))
        console.print(_lift_table(learned, names))
        rows = accuracies(found.codes, found.keys, num_codes, len(names), LABELS, self.seed)
        for row in rows:
            console.print(
                f"{row.labels} labelled transitions tell the key of another right in {row.balanced:.1%} "
                f"± {row.spread:.1%}, balanced over keys; chance is {row.chance:.1%}"
            )
        return list(names), learned.codes.tolist()

    def _draw(self, console: Console, world: World) -> None:
        from genie_rt.export.actions.sheet import HeldAction, draw, hold
        from genie_rt.runtime.action_health import health_of
        from genie_rt.training.evaluation.strip import write_png

        bundle = world.bundle
        prompts = [world.prompt(index) for index in range(min(self.starts, len(world.prompts)))]
        health = health_of(bundle.provenance) if bundle.config.lam is not None else None
        rows = []
        for code in sorted(set(bundle.action_codes)):
            note = f"code {code}"
            if health is not None and code < len(health.shares):
                note += f", {health.shares[code]:.0%} of steps"
            title = bundle.code_names[code]
            frames = hold(world, code, prompts, self.steps, self.seed)
            rows.append(HeldAction(title=title, note=note, frames=frames))
            console.print(f"{note}: {title}")
        shown = sorted({0, max(1, self.steps // 4), max(1, self.steps // 2), self.steps})
        write_png(self.out, draw(rows, shown))
        console.print(f"wrote {self.out}: what each code does, held for {self.steps} steps")


def _parse_names(text: str, num_codes: int) -> tuple[list[str], list[int]]:
    names = [name.strip() for name in text.split(",")]
    if len(names) > num_codes:
        raise InputError(f"--names: expected at most {num_codes}, one per code, found {len(names)}")
    named = [(name, code) for code, name in enumerate(names) if name != UNNAMED]
    return [name for name, _ in named], [code for _, code in named]


def _kept_names(bundle: Bundle, names: list[str], codes: list[int]) -> tuple[list[str], list[int]]:
    """The new names, and the old ones of codes that get none."""
    from genie_rt.runtime.manifest import unnamed_action

    for name, code in zip(bundle.action_names, bundle.action_codes, strict=True):
        if code not in codes and name not in names and name != unnamed_action(code):
            names, codes = [*names, name], [*codes, code]
    return names, codes


def _ask_keys(bundle: Bundle, seed: int) -> tuple[list[str], list[int]]:
    from genie_rt.runtime.play.name_keys import KeyNaming, name_in_window
    from genie_rt.runtime.world import World

    world = World.load(bundle.path, warm_up=True)
    naming = KeyNaming(world, seed=seed)
    name_in_window(naming, title=f"genie-rt actions {bundle.name}")
    if not naming.names:
        raise InputError("--keys: expected at least one key to be pressed, found none: nothing was changed")
    return list(naming.names), list(naming.names.values())


def _lift_table(learned: LearnedKeys, names: tuple[str, ...]) -> str:
    lines = ["lift P(code | key) / P(code); the largest of a row is the key's code"]
    for name, row, code in zip(names, learned.lift, learned.codes, strict=True):
        lines.append(f"  {name:12}" + " ".join(f"{value:5.2f}" for value in row) + f"   -> {code}")
    return "\n".join(lines)

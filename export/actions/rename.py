"""Giving a bundle's actions other names. All else stays as it is."""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genie_rt.export.bundle import write_bundle
from genie_rt.export.graph_writer import KeptGraphs
from genie_rt.export.source import read_source
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.play.keys import IDLE_WORDS

_ACTIONS_LINE = re.compile(r"^Actions: .*$", re.MULTILINE)


def rename_actions(bundle: Bundle, out: Path, names: Sequence[str], codes: Sequence[int]) -> Bundle:
    """Write the bundle with other names of its actions.

    Args:
        bundle: as it is.
        out: where to; the bundle's own folder replaces it once the new one is whole.
        names: of the actions.
        codes: the action of the dynamics that each name stands for.

    Raises:
        ConfigError: a name is none that a bundle can have, or there is no such code.
        BundleError: the folder cannot be written, or is not free.
    """
    source = read_source(bundle.path)
    listed = ", ".join(f"`{name}`" for name in names)
    changed = replace(
        source,
        action_names=tuple(names),
        action_codes=() if list(codes) == list(range(len(names))) else tuple(codes),
        default_action=_idle(bundle, names, codes),
    )
    graphs = None
    if source.graphs is not None:
        graphs = KeptGraphs(bundle=bundle, graphs=source.graphs, plans=source.plans)
    card = _ACTIONS_LINE.sub(lambda _: f"Actions: {listed}.", source.card or "", count=1)
    return write_bundle(
        out,
        name=bundle.name,
        preset=bundle.preset,
        config=bundle.config,
        weights=source.weights,
        action_names=changed.action_names,
        default_action=changed.default_action,
        plans=source.plans,
        prompts=source.prompts,
        provenance=bundle.provenance,
        model_card=card or f"# {bundle.name}\n",
        dtype=source.dtype or "bf16",
        graphs=graphs,
        action_codes=changed.action_codes,
        lam=source.lam,
        int8=source.int8,
        overwrite=out.resolve() == bundle.path,
    )


def _idle(bundle: Bundle, names: Sequence[str], codes: Sequence[int]) -> str:
    """What is meant when no key is pressed: a name that says so, else what was meant before."""
    idle = [name for name in names if name.casefold() in IDLE_WORDS]
    before = bundle.action_codes[bundle.action_names.index(bundle.default_action)]
    same = [name for name, code in zip(names, codes, strict=True) if code == before]
    return (idle or same or list(names))[0]

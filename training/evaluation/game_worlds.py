"""Worlds that can be played beside the real CoinRun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from genie_rt.errors import InputError

if TYPE_CHECKING:
    from genie_rt.runtime.bundle import Bundle
    from genie_rt.training.data.game import Visuals


def game_visuals(bundle: Bundle) -> Visuals:
    """Return the visual style that a bundle was trained on; "plain" if its provenance does not say."""
    data = bundle.provenance.get("data")
    return "full" if isinstance(data, dict) and data.get("visuals") == "full" else "plain"


def check_game_size(bundle: Bundle) -> None:
    """Refuse a world whose pictures are not of the game's size."""
    config = bundle.config.tokenizer
    if (config.height, config.width) != (64, 64):
        raise InputError(
            f"expected a world of 64x64 pictures, as the game's are, found {config.height}x{config.width}; "
            "`genie-rt evaluate --data STORE` measures other worlds"
        )


def check_game_actions(bundle: Bundle) -> None:
    """Refuse a world of logged actions that cannot be told what the game's prompts were played with."""
    from genie_rt.training.data.game import COINRUN_KEYS, action_name

    names = [action_name("coinrun", keys) for keys in COINRUN_KEYS]
    missing = [name for name in names if name not in bundle.action_names]
    if bundle.config.lam is None and missing:
        raise InputError(
            f"--game: expected a world with the game's actions ({', '.join(names)}), found one without "
            f"{', '.join(missing)}; leave --game out"
        )

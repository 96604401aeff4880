"""The plans that a bundle recommends, as `genie-rt bench quality` chose them."""

import json
from pathlib import Path
from typing import Any

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.config import from_dict
from genie_rt.runtime.plan import Plan

SCHEMA = "genie-rt/quality"
MAX_BYTES = 16 * 2**20


def read_recommended(path: Path) -> dict[str, Plan]:
    """The plans by use, such as "quality", "balanced" and "fast".

    Args:
        path: the JSON file that `genie-rt bench quality` writes beside its CSV.

    Raises:
        InputError: there is no such file, or it is no such record, or recommends nothing.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise InputError(f"{path}: expected a record of at most {MAX_BYTES} bytes, found more")
        record: Any = json.loads(path.read_bytes())
        if not isinstance(record, dict) or record.get("schema") != SCHEMA:
            raise ValueError(f"no {SCHEMA!r} in it")
        recommended = record.get("recommended")
        if not isinstance(recommended, dict) or not recommended:
            raise ValueError("no plans that it recommends")
        return {str(name): from_dict(Plan, plan) for name, plan in recommended.items()}
    except InputError:
        raise
    except (OSError, ValueError, TypeError, RecursionError, ConfigError) as error:
        raise InputError(
            f"{path}: expected the JSON record of `genie-rt bench quality`, found {error}"
        ) from error

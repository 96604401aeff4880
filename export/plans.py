"""The plans that a bundle recommends, as `genie-rt bench quality` chose them."""

from pathlib import Path

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.config import from_dict
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.untrusted import brief
from genie_rt.runtime.untrusted_json import read_json

SCHEMA = "genie-rt/quality"
MAX_BYTES = 16 * 2**20
EXPECTED = "the JSON record of `genie-rt bench quality`"


def read_recommended(path: Path) -> dict[str, Plan]:
    """The plans by use, such as "quality", "balanced" and "fast".

    Args:
        path: the JSON file that `genie-rt bench quality` writes beside its CSV.

    Raises:
        InputError: there is no such file, or it is no such record, or recommends nothing.
    """
    record = read_json(path, max_bytes=MAX_BYTES, expected=EXPECTED)
    schema = record["schema"]
    if schema.text() != SCHEMA:
        raise schema.wrong(f'"{SCHEMA}"')
    recommended = record["recommended"]
    if not recommended.object():
        raise recommended.wrong("plans that it recommends")
    try:
        return {name: from_dict(Plan, plan.value, plan.key) for name, plan in recommended.items()}
    except ConfigError as error:
        raise InputError(f"{path}: {brief(error)}; it is not {EXPECTED}") from error

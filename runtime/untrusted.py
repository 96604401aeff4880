"""Reading what nobody vouches for: JSON without double meanings, and errors that quote little of it."""

from collections import Counter
from typing import Any


def no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """For `json.loads(object_pairs_hook=...)`: two readers could each believe another one of two values.

    Raises:
        ValueError: a key stands there more than once.
    """
    values = dict(pairs)
    if len(values) != len(pairs):
        key, _ = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {key!r} more than once")
    return values


def brief(message: object) -> str:
    """A message that quotes a file, cut: the file chose its length."""
    text = str(message)
    return text if len(text) <= 400 else f"{text[:400]}..."

"""Errors that quote what nobody vouches for."""

MAX_COMPARED = 200
"""Characters of a name that is compared with known ones: a file may have one of megabytes."""


def brief(message: object) -> str:
    """A message that quotes a file, cut: the file chose its length."""
    text = str(message)
    return text if len(text) <= 400 else f"{text[:400]}..."

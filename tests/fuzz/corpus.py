"""Inputs that once got through, smallest form first: each is tried again in every run of the tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from fuzz.case import Case

CORPUS: dict[str, Callable[[Path], Case]] = {}

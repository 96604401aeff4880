"""Numbers of any library are taken as what they say; what is none is refused by type."""

import decimal
import enum
import fractions
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.arguments import (
    as_real,
    as_whole,
    check_path,
    found,
    plain,
    real_number,
    sequence,
    truth,
    whole_number,
)


class Five(enum.IntEnum):
    FIVE = 5


class Index:
    def __index__(self) -> int:
        return 5


class Hostile:
    def __index__(self) -> int:
        raise KeyError("no")

    def __float__(self) -> float:
        raise KeyError("no")

    def __repr__(self) -> str:
        raise KeyError("no")


FIVES: list[Any] = [
    5, np.int8(5), np.uint64(5), np.int64(5), np.array(5), np.array(5, object), torch.tensor(5),
    torch.tensor(5, dtype=torch.uint8), Five.FIVE, Index(),
]  # fmt: skip

NO_NUMBERS: list[Any] = [
    None, True, False, np.True_, np.array(True), torch.tensor(True), "5", b"5", np.str_("5"), [], [5], (5,),
    {}, object(), Hostile(), np.complex64(5), np.array([5]), np.array([[5]]), torch.tensor([5]), np.ma.masked,
    np.ma.array(5, mask=True), np.ma.array(5), np.timedelta64(5), np.timedelta64(5, "s"),
    np.datetime64("2020-01-01"), np.array(np.timedelta64(5, "s")), torch.empty((), device="meta"),
    torch.tensor(5j), 5j, (x for x in [5]), decimal.Decimal(5), np.void(b"5"),
]  # fmt: skip


@pytest.mark.parametrize("value", FIVES, ids=lambda value: type(value).__name__)
def test_a_whole_number_of_any_library_becomes_an_int(value: Any) -> None:
    number = whole_number(value, 0, 9, "a digit")
    assert number == 5 and type(number) is int


@pytest.mark.parametrize(
    "value", [0.5, np.float16(0.5), np.float64(0.5), np.longdouble(0.5), np.array(0.5), torch.tensor(0.5),
              torch.tensor(0.5, dtype=torch.bfloat16), fractions.Fraction(1, 2)],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_a_real_number_of_any_library_becomes_a_float(value: Any) -> None:
    number = real_number(value, 0, 1, "a share")
    assert number == 0.5 and type(number) is float
    assert as_whole(value) is None


def test_a_whole_number_is_a_real_one() -> None:
    for five in FIVES[:9]:
        assert as_real(five) == 5.0 and type(as_real(five)) is float


@pytest.mark.parametrize("value", NO_NUMBERS, ids=lambda value: type(value).__name__)
def test_what_is_no_number_is_none(value: Any) -> None:
    assert as_whole(value) is None
    assert as_real(value) is None
    with pytest.raises(InputError, match=r"^expected a digit, found "):
        whole_number(value, 0, 9, "a digit")
    with pytest.raises(ConfigError, match=r"^share: expected 0 to 1, found "):
        real_number(value, 0, 1, "share: expected 0 to 1")


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), -np.inf, np.float32("nan"), 10**400, -(10**400)]
)
def test_what_is_not_finite_is_no_real_number(value: Any) -> None:
    assert as_real(value) is None


def test_bounds_are_part_of_the_range() -> None:
    assert [whole_number(value, 0, 9, "a digit") for value in (0, 9)] == [0, 9]
    for value in (-1, 10, 10**400, np.int64(10)):
        with pytest.raises(InputError, match="a digit"):
            whole_number(value, 0, 9, "a digit")
    assert [real_number(value, 0, 1, "a share") for value in (0, 1)] == [0.0, 1.0]
    for value in (-0.001, np.nextafter(1.0, 2)):
        with pytest.raises(ConfigError, match="a share"):
            real_number(value, 0, 1, "a share")


def test_a_message_names_the_type_where_the_value_does_not_tell_it() -> None:
    assert found(np.int64(5)).endswith("(numpy.int64)")
    assert found([5]) == "[5] (list)"
    assert [found(value) for value in (None, True, 5, 0.5, "5")] == ["None", "True", "5", "0.5", "'5'"]
    assert "one that cannot be shown" in found(Hostile())
    assert len(found("x" * 10**6)) < 100 and "\n" not in found(np.zeros((9, 9)))


def test_text_without_axes_is_text() -> None:
    assert plain(np.array("left")) == plain(np.str_("left")) == "left"


def test_truth_is_true_or_false() -> None:
    for value in (True, np.True_, np.array(True), torch.tensor(True)):
        assert truth(value, "frames") is True
    for value in (None, 1, 0, "no", [], np.array([True])):
        with pytest.raises(InputError, match=r"^frames: expected True or False"):
            truth(value, "frames")


def test_a_path_is_text_or_path_like() -> None:
    assert check_path("a/b", "a file") == check_path(Path("a/b"), "a file") == Path("a/b")
    for value in (None, 5, b"a", "", [], object()):
        with pytest.raises(InputError, match="the path of a file"):
            check_path(value, "a file")


def test_a_sequence_is_no_text() -> None:
    for value in ([0], (0,), range(1), iter([0]), np.array([0]), torch.tensor([0]), {0: 1}.keys()):
        accepted = sequence(value, "a list", ordered=False)
        assert [int(x) for x in accepted] == [0]  # type: ignore[call-overload]
    for value in (
        None,
        5,
        "right",
        b"right",
        {0: 1},
        object(),
        np.array(5),
        torch.tensor(5),
        {0},
        frozenset(),
    ):
        with pytest.raises(InputError, match=r"^expected a list, found"):
            sequence(value, "a list")
    assert sequence({0}, "a list", ordered=False) == {0}

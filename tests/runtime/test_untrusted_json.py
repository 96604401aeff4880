"""JSON from outside is read in one way, and what is wrong in it is one line that says where."""

import os
from pathlib import Path

import pytest

from genie_rt.errors import BundleError, InputError
from genie_rt.runtime.untrusted_json import MAX_DEPTH, JsonValue, json_value, parse_json, read_json

DEEPEST = "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": [1, 2.5, null, true, "\\u00e9"]}', {"a": [1, 2.5, None, True, "é"]}),
        ("1e308", 1e308),
        ("1e-400", 0.0),
        ("9" * 40, int("9" * 40)),
        ('"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (f'"{"1" * 50}e999"', f"{'1' * 50}e999"),
        (DEEPEST, None),
    ],
)
def test_what_json_is_meant_to_hold_is_read(text: str, value: object) -> None:
    assert parse_json(text) == value or text is DEEPEST
    assert parse_json(text.encode()) == value or text is DEEPEST


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"NaN", "the number NaN, which is not finite"),
        (b"[-Infinity]", "the number -Infinity, which is not finite"),
        (b"1e400", "the number 1e400, which is not finite"),
        (b"-1E+000999", "not finite"),
        (b"1" + b"0" * 400 + b".0", "not finite"),
        (b"1" + b"0" * 400, "a whole number of 401 digits"),
        (b"1" * 5000, "a whole number of 5000 digits"),
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the key 'c' more than once"),
        (f"[{DEEPEST}]".encode(), "more than 64 levels of nesting"),
        (b"[" * 1_000_000, "more than 64 levels of nesting"),
        (b'{"a":' * 200_000, "more than 64 levels of nesting"),
        (b"\xff\xfe", "bytes that are not UTF-8 at offset 0"),
        ('{"a": 1}'.encode("utf-16"), "bytes that are not UTF-8"),
        (b'{"\\ud800": 1}', "half of a surrogate pair"),
        (b"", "no JSON"),
        (b"{}{}", "no JSON"),
        (b'{"a": 01}', "no JSON"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(data: bytes, found: str) -> None:
    with pytest.raises(ValueError, match=r"^(?s:.*)$") as raised:
        parse_json(data)
    assert found in str(raised.value)
    assert len(str(raised.value)) < 200


def test_a_file_is_named_with_what_it_should_be(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_text("[NaN]")
    with pytest.raises(BundleError) as raised:
        read_json(path, max_bytes=100, expected="a record", error=BundleError)
    assert str(raised.value) == f"{path}: expected a record, found the number NaN, which is not finite"
    path.write_text(" " * 101)
    with pytest.raises(InputError, match="of at most 100 bytes, found 101"):
        read_json(path, max_bytes=100, expected="a record")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(InputError, match="expected a record, found a named pipe"):
        read_json(path, max_bytes=100, expected="a record")


def record(text: str) -> JsonValue:
    return json_value(text, "r.json", expected="a record")


def test_values_are_what_was_asked_for() -> None:
    rows = record('{"rows": [{"a": 1, "b": null}, {"a": 2.5}], "name": "x"}')["rows"].list(least=2)
    assert [row["a"].number() for row in rows] == [1.0, 2.5]
    assert rows[0].get("b") is None and rows[0].get("c") is None
    assert rows[0]["a"].whole(0, 1) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "r.json: expected an object, found a list of 0; it is not a record"),
        ("{}", "r.json: expected the key 'rows', found an empty object; it is not a record"),
        ('{"row": 1}', "r.json: expected the key 'rows', found the keys row; it is not a record"),
        ('{"rows": 3}', "r.json: rows: expected a list, found 3; it is not a record"),
        ('{"rows": []}', "r.json: rows: expected a list of 1 or more, found 0 entries; it is not a record"),
        ('{"rows": [null]}', "r.json: rows[0]: expected an object, found null; it is not a record"),
        ('{"rows": [{"a": 5}]}', "r.json: rows[0].a: expected a text, found 5; it is not a record"),
        ('{"rows": [{"a": true}]}', "r.json: rows[0].a: expected a text, found true; it is not a record"),
    ],
)
def test_what_is_not_so_is_one_line_with_file_key_expected_and_found(text: str, message: str) -> None:
    with pytest.raises(InputError) as raised:
        record(text)["rows"].list(least=1)[0]["a"].text()
    assert str(raised.value) == message


@pytest.mark.parametrize("text", ["true", "null", '"1"', "11", "-1", "[1]"])
def test_a_number_has_its_type_and_its_bounds(text: str) -> None:
    with pytest.raises(InputError, match=r"expected a number from 0 to 10, found"):
        record(text).number(0, 10)
    with pytest.raises(InputError, match=r"expected a whole number from 0 to 10, found"):
        record(text).whole(0, 10)


def test_a_message_quotes_little() -> None:
    with pytest.raises(InputError) as raised:
        record('{"' + "k" * 9000 + '": "' + "v" * 9000 + '"}')["k" * 9000].number()
    assert len(str(raised.value)) < 500

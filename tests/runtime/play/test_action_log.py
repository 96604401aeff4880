"""A log reads back as it was written, and anything else is refused."""

import dataclasses
import json
from pathlib import Path

import pytest

from genie_rt.errors import ConfigError, InputError
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.play import action_log, script
from genie_rt.runtime.play.action_log import ActionLog, read_actions, read_log, write_log

LOG = ActionLog(
    bundle="demo",
    bundle_sha256="ab" * 32,
    backend="tensorrt-rtx",
    dtype="float32",
    seed=2**63 + 5,
    plan=Plan(passes=3, temperature=0.1 + 0.2),
    prompt="00.png",
    prompt_crc32=17,
    actions=("right", "jump"),
    passes=(3, 4),
    frames_crc32=(1, 2, 2**32 - 1),
)


def test_round_trip_is_exact(tmp_path: Path) -> None:
    write_log(tmp_path / "new" / "log.json", LOG)
    assert read_log(tmp_path / "new" / "log.json") == LOG
    unknown = dataclasses.replace(LOG, bundle_sha256=None, backend=None, dtype=None)
    write_log(tmp_path / "log.json", unknown)
    assert read_log(tmp_path / "log.json") == unknown


@pytest.mark.parametrize(
    "changes",
    [
        {"schema": "genie-rt-actions/2"},
        {"seed": -1},
        {"seed": 2**64},
        {"seed": True},
        {"seed": 1.5},
        {"actions": "right"},
        {"actions": ["right", 3]},
        {"actions": ["right"]},
        {"passes": [0, 1]},
        {"passes": [1, 10**9]},
        {"plan": {"passes": 0}},
        {"plan": {"order": "sorted"}},
        {"plan": {"pases": 3}},
        {"prompt": None},
        {"backend": 3},
        {"backend": "CUDA\x1b[2J"},
        {"dtype": "x" * 33},
        {"dtype": ""},
        {"surprise": 1},
    ],
)
def test_wrong_values_are_refused_by_name(tmp_path: Path, changes: dict[str, object]) -> None:
    path = tmp_path / "log.json"
    write_log(path, LOG)
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=r"log\.json: expected an action log"):
        read_log(path)


@pytest.mark.parametrize(
    ("was", "now", "found"),
    [
        ('"seed": ', '"seed": 1, "seed": ', "the key 'seed' more than once"),
        ('"seed": ', '"seed": 1e999, "seen": ', "the number 1e999, which is not finite"),
        ('"seed": ', f'"seed": {"9" * 400}, "seen": ', "a whole number of 400 digits"),
        ('"seed": ', f'"seed": {"[" * 70}{"]" * 70}, "seen": ', "more than 64 levels of nesting"),
    ],
)
def test_what_two_readers_could_read_differently_is_refused(
    tmp_path: Path, was: str, now: str, found: str
) -> None:
    path = tmp_path / "log.json"
    write_log(path, LOG)
    path.write_text(path.read_text().replace(was, now, 1))
    with pytest.raises(InputError, match=f"expected an action log, found: {found}"):
        read_actions(path)


def test_missing_keys_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    write_log(path, LOG)
    whole = json.loads(path.read_text())
    for key in whole.keys() - {"schema", "backend", "dtype"}:
        path.write_text(json.dumps({k: v for k, v in whole.items() if k != key}))
        with pytest.raises(InputError, match=key):
            read_log(path)


def test_a_log_from_before_back_ends_were_kept_is_read(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    write_log(path, LOG)
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in whole.items() if k not in ("backend", "dtype")}))
    assert read_log(path) == dataclasses.replace(LOG, backend=None, dtype=None)
    assert (LOG.computed_by, read_log(path).computed_by) == ("tensorrt-rtx float32", None)


@pytest.mark.parametrize("name", ["log.json", "log.txt", "log"])
def test_a_file_is_told_by_what_it_holds_not_by_its_name(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    write_log(path, LOG)
    path.write_text(" \n" + path.read_text(), encoding="utf-8-sig")
    assert read_actions(path) == LOG
    path.write_text("right*2 # far\njump")
    assert str(read_actions(path)).split() == ["right*2", "jump"]


def test_a_file_that_begins_as_a_log_is_refused_as_one(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("{right")
    with pytest.raises(InputError, match=r"log\.txt: expected an action log"):
        read_actions(path)


def test_scripts_and_logs_of_any_name_have_their_own_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(script, "_MAX_FILE_BYTES", 20)
    monkeypatch.setattr(action_log, "_MAX_LOG_BYTES", 2000)
    path = tmp_path / "actions.txt"
    write_log(path, LOG)
    assert read_actions(path) == LOG
    for content, most in (("right " * 4, 20), ("{" + " " * 2000, 2000)):
        path.write_text(content)
        with pytest.raises(InputError, match=f"at most {most} bytes"):
            read_actions(path)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff", b"[" * 100_000, b"3", b'{"a": NaN}'])
def test_what_is_no_log_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"log\.json"):
        read_log(path)


def test_too_many_steps_are_refused() -> None:
    steps = 1_000_001
    with pytest.raises(ConfigError, match="1000000"):
        dataclasses.replace(LOG, actions=("a",) * steps, passes=(1,) * steps, frames_crc32=(1,) * (steps + 1))


def test_messages_stay_short(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps({"schema": "x" * 10_000}))
    with pytest.raises(InputError) as caught:
        read_log(path)
    assert len(str(caught.value)) < 1000

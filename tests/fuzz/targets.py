"""Each target opens a mutated sample as a user would, and says what has to hold where it is accepted."""

from __future__ import annotations

import shutil
from pathlib import Path
from random import Random

from fuzz.bundles import (
    WEIGHTS,
    make_graph,
    make_hashed,
    make_manifest,
    make_prompt,
    make_weights,
    open_graph,
    open_hashed,
    open_manifest,
    open_prompt,
    open_weights,
)  # fmt: skip
from fuzz.case import Case
from fuzz.mutate import mutate_bytes, mutate_json
from fuzz.pictures import make_picture, open_picture, open_video
from fuzz.runs import make_checkpoint, make_run, open_checkpoint, open_run, open_store, store_change
from fuzz.samples import RECORDS
from fuzz.saved import (
    log_change,
    make_engine,
    make_snapshot,
    open_engine,
    open_kept,
    open_log,
    open_record,
    open_snapshot,
    sealed_change,
)
from fuzz.target import SAMPLES, Target, changed_file

from genie_rt.errors import GenieError

TARGETS: dict[str, Target] = {
    "manifest": Target(sample="bundle", make=make_manifest, open=open_manifest, share=1.5),
    "hashed": Target(sample="bundle", make=make_hashed, open=open_hashed, tried_whole=(WEIGHTS,)),
    "graph": Target(
        sample="bundle",
        make=make_graph,
        open=open_graph,
        share=2,
        quick_share=0.4,
        tried_whole=("pass.onnx", "frame-whole.onnx"),
    ),
    "weights": Target(sample="bundle", make=make_weights, open=open_weights),
    "prompt": Target(sample="bundle", make=make_prompt, open=open_prompt),
    "picture": Target(
        sample="pictures", make=make_picture, open=open_picture, share=1.5, tried_whole=("RGB.png",)
    ),
    "store": Target(
        sample="store", make=changed_file("store", store_change, "*", empty=False), open=open_store
    ),
    "checkpoint": Target(sample="checkpoint", make=make_checkpoint, open=open_checkpoint),
    "resume": Target(sample="run", make=make_run, open=open_run, share=0.2, quick_share=0),
    "snapshot": Target(sample="snapshot", make=make_snapshot, open=open_snapshot),
    "log": Target(
        sample="snapshot",
        make=changed_file("log", log_change, "[ls]*.[jt]*", empty=False),
        open=open_log,
        tried_whole=("log.json", "script.txt"),
    ),
    "record": Target(
        sample="records",
        make=changed_file("record", mutate_json, "*.json"),
        open=open_record,
        tried_whole=tuple(RECORDS),
    ),
    "video": Target(
        sample="videos",
        make=changed_file("video", mutate_bytes, "*"),
        open=open_video,
        tried_whole=("a.mp4", "a.gif"),
    ),
    "engine": Target(sample="engines", make=make_engine, open=open_engine, share=0.5),
    "kept": Target(
        sample="kept",
        make=changed_file("kept", sealed_change, "*.kept", lenient=True),
        open=open_kept,
        share=0.5,
    ),
}


def case_of(target: str, seed: int, samples: Path) -> Case:
    """The input of a number; the same one for the same samples and libraries."""
    chosen = TARGETS[target]
    return chosen.make(Random(f"{target} {seed}"), samples / chosen.sample)


def sample_of(target: str, file: str, samples: Path) -> Case:
    """The sample as it is; `file` is the one that the target looks at, where it looks at one."""
    sample = samples / TARGETS[target].sample
    files: dict[str, bytes | str] = {file: (sample / file).read_bytes()} if file else {}
    return Case(target=target, what=f"{file} as it is", files=files)


def tried(case: Case, samples: Path, place: Path) -> str | None:
    """Opens an input in a folder of its own, which is removed again.

    Returns:
        Why it was refused; None where it was accepted and all held that has to.
    """
    SAMPLES[:] = [samples]
    target = TARGETS[case.target]
    folder = place / "input"
    shutil.rmtree(folder, ignore_errors=True)  # of one that was killed
    shutil.copytree(samples / target.sample, folder)
    try:
        case.write(folder)
        target.open(folder, case)
    except GenieError as error:
        text = str(error)
        assert text and len(text) < 4000, f"a message of {len(text)} characters"
        return f"{type(error).__name__}: {text}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    assert not case.must_refuse, "it was accepted"
    return None

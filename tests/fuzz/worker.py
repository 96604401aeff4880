"""The process that opens inputs: one line of JSON asks for one, another says what became of it.

    python worker.py SAMPLES PLACE

It may hang or die; whoever started it looks after that.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from fuzz.case import Case

os.environ["OMP_NUM_THREADS"] = "1"
warnings.simplefilter("ignore")


def memory_bytes(key: str) -> int:
    """VmRSS, or VmHWM, the most since `forget_peak`."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    return 0


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def opened(asked: dict[str, Any], samples: Path, place: Path) -> tuple[Case, Callable[[], str | None]]:
    """The input that is asked for, and a call that opens it and says why it was refused."""
    if "deed" in asked:
        from fuzz.deeds import DEEDS

        return Case(target="", what=asked["deed"]), DEEDS[asked["deed"]]
    import torch
    from fuzz.corpus import CORPUS
    from fuzz.targets import case_of, sample_of, tried

    torch.set_num_threads(1)
    if "corpus" in asked:
        case = CORPUS[asked["corpus"]](samples)
    elif "sample" in asked:
        case = sample_of(asked["sample"], asked["file"], samples)
    else:
        case = case_of(asked["target"], asked["seed"], samples)
    return case, lambda: tried(case, samples, place)


def main() -> None:
    samples, place = Path(sys.argv[1]), Path(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what libraries print is nobody's answer
    logging.disable(logging.WARNING)
    for line in sys.stdin:
        case, call = opened(json.loads(line), samples, place)
        answer: dict[str, Any] = {"what": case.what}
        forget_peak()
        before, started = memory_bytes("VmRSS"), time.process_time()
        print("started", file=answers, flush=True)
        try:
            answer["refused"] = call()
        except BaseException as error:
            answer["failed"] = f"{type(error).__name__}: {str(error)[:500]}"
            answer["trace"] = traceback.format_exc()[-6000:]
        answer["seconds"] = time.process_time() - started
        answer["bytes"] = memory_bytes("VmHWM") - before
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()

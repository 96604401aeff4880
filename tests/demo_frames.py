"""Hashes of what the world `demo-logged` plays, to show that a rebuild changes no bit of it.

    python tests/demo_frames.py                # plays, and compares with tests/demo_frames.json
    python tests/demo_frames.py --record      # plays, and writes that file

Bits depend on the processor, the libraries and the number of threads: record and compare on one machine.
"""

import argparse
import hashlib
import json
import platform
import random
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import genie_rt

FILE = Path(__file__).with_suffix(".json")
BACKENDS = (("reference", "float32"), ("onnx", "float32"), ("openvino", "int8"))
PLANS: dict[str, dict[str, Any]] = {
    "default": {},  # with a graph of the whole frame
    "balanced": {"plan": "balanced"},  # adaptive, with a graph of the whole frame
    "maskgit, 3 passes": {"order": "maskgit", "passes": 3},
    "adaptive, 4 passes": {"order": "adaptive", "passes": 4},
    "halton, 4 passes": {"order": "halton", "passes": 4},
    "random, 4 passes, reuse of passes": {"order": "random", "passes": 4, "reuse": "passes"},
    "maskgit, 3 passes, reuse of frames": {"order": "maskgit", "passes": 3, "reuse": "frames"},
}
FRAMES, EVERY = 256, 32


def play(world: genie_rt.World, plan: dict[str, Any]) -> list[str]:
    """The hash of all frames so far, after every `EVERY` of them; one step in eight is peeked at first."""
    session = world.session(seed=13, **plan)
    session.reset(world.prompt(2))
    chance, hashes, so_far = random.Random(7), [], hashlib.sha256()
    for index in range(1, FRAMES + 1):
        action = chance.randrange(len(world.action_names))
        if index % 8 == 0:
            for frame in session.peek([action, 0]).values():
                so_far.update(frame.tobytes())
        so_far.update(session.step(action).tobytes())
        if index % 3 == 0:
            session.commit()
        if index % EVERY == 0:
            hashes.append(so_far.hexdigest()[:16])
    return hashes


def conditions() -> dict[str, str]:
    """What the bits may depend on."""
    cpu = next((line for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line), "")
    return {
        "processor": cpu.partition(":")[2].strip() or platform.processor(),
        "threads": str(torch.get_num_threads()),
        **{name: version(name) for name in ("torch", "onnxruntime", "openvino")},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write the file")
    record = parser.parse_args().record
    known = None if record else json.loads(FILE.read_text())
    found: dict[str, Any] = {"conditions": conditions(), "hashes": {}}
    if known and known["conditions"] != found["conditions"]:
        print(f"recorded under other conditions: {known['conditions']}, here {found['conditions']}")
    wrong = 0
    for backend, dtype in BACKENDS:
        world = genie_rt.World.load("demo-logged", backend=backend, dtype=dtype)
        for name, plan in PLANS.items():
            key = f"{backend} {dtype}, {name}"
            hashes = found["hashes"][key] = play(world, plan)
            same = record or known["hashes"].get(key) == hashes
            wrong += not same
            print(f"{'same' if same else 'DIFFERENT':9} {key}: {hashes[-1]}", flush=True)
    if record:
        FILE.write_text(json.dumps(found, indent=1) + "\n")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()

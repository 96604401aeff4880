"""What is mutated: a folder per kind of file, small and valid."""

from __future__ import annotations

import contextlib
import io
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tiny_bundle import CONFIG, HEIGHT, SHAPES, WIDTH
from tiny_runs import TINY, tiny_loop, write_store

from genie_rt.cli import main
from genie_rt.export.bundle import write_bundle
from genie_rt.export.checkpoint import trained_name
from genie_rt.export.graph_writer import NewGraphs
from genie_rt.runtime import presets
from genie_rt.runtime.backends.tensorrt.cache import EngineCache, Identity
from genie_rt.runtime.backends.tensorrt.target import Target
from genie_rt.runtime.config import to_dict
from genie_rt.runtime.kept import Kept
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World
from genie_rt.training.checkpoint import save_checkpoint
from genie_rt.training.commands import TokenizerCommand
from genie_rt.training.data.writer import ClipStoreWriter

ROOT = Path(__file__).parents[2]
PLANS = {
    "default": Plan(passes=2),
    "whole": Plan(passes=1),
    "reusing": Plan(order="halton", passes=2, reuse="passes"),
}
ENGINE = Identity(
    bundle="ab" * 32, graph="pass", graph_sha256="cd" * 32, precision="float32", flavour="tensorrt",
    version="10.0.0", target=Target(gpu="A", capability=90, driver="1"),
)  # fmt: skip
WANTED = {"graph": "a" * 64, "shapes": [["index", [3]]], "options": {"threads": 2}}
RECORDS = {
    "precision.json": "docs/demo-exported.json",
    "evaluation.json": "docs/demo-evaluation.json",
    "quality.json": "docs/demo-quality.json",
    "frame.json": "bench/results/demo-cpu-k2.json",
    "verify.json": "bench/results/demo-cpu-verify.json",
    "long.json": "bench/results/cpu-long.json",
    "peek.json": "bench/results/demo-cpu-peek.json",
    "ceilings.json": "bench/results/cpu-ceilings.json",
}


def write_samples(root: Path, *, with_run: bool = True) -> Path:
    """Writes all samples.

    Args:
        with_run: whether a tokenizer is trained for two steps, which takes seconds.
    """
    root.mkdir(parents=True, exist_ok=True)
    write_sample_bundle(root / "bundle")
    _write_store(root / "store")
    _write_checkpoint(root / "checkpoint")
    if with_run:
        _write_run(root / "run")
    _write_moment(root / "bundle", root / "snapshot")
    _write_pictures(root / "pictures")
    _write_videos(root / "videos")
    _write_engine(root / "engines")
    Kept(root / "kept").keep(WANTED, bytes(range(256)) * 4)
    (root / "records").mkdir()
    for name, place in RECORDS.items():
        shutil.copy(ROOT / place, root / "records" / name)
    return root


def weights(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def write_sample_bundle(out: Path) -> Path:
    """The tiny bundle with graphs, one of them of a whole frame."""
    pictures = np.random.default_rng(0).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    write_bundle(
        out, name="tiny", config=CONFIG, weights=weights(), action_names=("left", "stay", "right"),
        default_action="stay", plans=PLANS, prompts=list(pictures), model_card="# tiny\n",
        provenance={"data": {"source": "none", "frames": 3}, "nested": {"list": [1, 2.5, None, True]}},
        graphs=NewGraphs(config=CONFIG, plans=PLANS, precisions=("float32",), frame_plans=("whole",)),
    )  # fmt: skip
    return out


def _write_store(out: Path) -> None:
    names = ("left", "right", "stay")
    random = np.random.default_rng(0)
    with ClipStoreWriter(out, source="noise", height=8, width=16, action_names=names) as writer:
        for split in ("train", "train", "heldout"):
            frames = random.integers(0, 256, (12, 8, 16, 3), dtype=np.uint8)
            writer.append_side_file("log-train.u8", bytes(12))
            writer.append(frames, np.array([-1, *random.integers(0, 3, 11)]), split=split)  # type: ignore[arg-type]


def _write_checkpoint(out: Path) -> None:
    """A run of the dynamics, as the training saves it, without the training."""
    model = {trained_name(name): weight for name, weight in weights().items()}
    optimizer = {"adamw": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]}}
    config = replace(CONFIG, lam=None)
    model = {name: weight for name, weight in model.items() if not name.startswith("lam")}
    describe = {
        "kind": "dynamics", "config": to_dict(config), "action_names": ["a", "b", "c"], "context": "clean",
        "actions": "logged", "corruption": 0.1, "clip": 4, "preset": "tiny", "data": {}, "stages": {},
    }  # fmt: skip
    state = {"describe": describe, "seconds": 1.5, "versions": {"torch": "2"}, "loop": {"steps": 2}}
    save_checkpoint(out, step=2, model=model, ema=model, optimizer=optimizer, state=state)


def _write_run(out: Path) -> None:
    presets._PRESETS["tiny"] = lambda: TINY
    write_store(out / "store")
    command = TokenizerCommand(
        data=out / "store", out=out / "tokenizer", preset="tiny", loop=tiny_loop(precision="fp32")
    )
    assert command.run() == 0


def _write_moment(bundle: Path, out: Path) -> None:
    """A snapshot, a log and a script of the sample bundle."""
    out.mkdir()
    world = World.load(bundle, backend="reference", dtype="float32")
    session = world.session(seed=5)
    session.reset(world.prompt(0))
    for action in (0, 1, 2):
        session.step(action)
    session.snapshot().save(out / "game.snapshot")
    words = ["--headless", "--actions", "left stay right", "--backend", "reference", "--prompt", "0"]
    with contextlib.redirect_stdout(io.StringIO()):
        assert main(["play", str(bundle), *words, "--log", str(out / "log.json")]) == 0
    (out / "script.txt").write_text("left*3 stay, right*4 # a comment\n0*2 ...\n")


def _write_pictures(out: Path) -> None:
    out.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 4), dtype=np.uint8)
    colour = Image.fromarray(pixels[..., :3])
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        image = Image.fromarray(pixels, "RGBA").convert("RGB" if mode in ("P", "1", "I;16") else mode)
        if mode == "I;16":
            image = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
        elif mode in ("P", "1"):
            image = image.convert(mode)
        image.save(out / f"{mode.replace(';', '')}.png")
    colour.save(out / "keyed.png", transparency=(1, 2, 3))
    colour.save(out / "a.jpg", exif=_turned())
    colour.convert("CMYK").save(out / "cmyk.jpg")
    colour.save(out / "progressive.jpg", progressive=True)
    colour.save(out / "a.webp", lossless=True)
    colour.save(out / "lossy.webp")
    colour.save(out / "a.bmp")
    colour.convert("P").save(out / "a.gif", save_all=True, append_images=[colour.convert("P")] * 2)


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def _write_videos(out: Path) -> None:
    import av

    out.mkdir()
    random = np.random.default_rng(0)
    ground = random.integers(0, 256, (32, 48, 3), dtype=np.uint8).repeat(1, 0)
    frames = [np.roll(ground, 2 * step, axis=1) for step in range(24)]
    for name, codec in (("a.mp4", "mpeg4"), ("a.avi", "mpeg4"), ("a.mkv", "mpeg4"), ("a.ts", "mpeg2video")):
        with av.open(str(out / name), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
            stream.gop_size = 6
            for picture in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
    stack = [Image.fromarray(frame).convert("P") for frame in frames]
    data = io.BytesIO()
    stack[0].save(data, "GIF", save_all=True, append_images=stack[1:], duration=40)
    (out / "a.gif").write_bytes(data.getvalue())


def _write_engine(out: Path) -> None:
    cache = EngineCache(out)
    with cache.locked(ENGINE):
        cache.store(ENGINE, bytes(range(256)) * 4)
        cache.write_aid(cache.timing_path(ENGINE), b"times" * 20)

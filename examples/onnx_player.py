"""Plays a bundle with ONNX Runtime and no genie_rt: docs/graphs.md as a program.

    python examples/onnx_player.py runtime/bundles/demo out.gif right right+jump right

Needs onnxruntime, NumPy, and Pillow for pictures. The frames are those of genie_rt's back end "onnx" in
float32, bit for bit, with the same version of ONNX Runtime, as many threads and the same seed.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image


class Graph:
    """A graph file. Its weights are read from `weights.safetensors` in the same folder."""

    def __init__(self, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads  # 0: all cores
        self.session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.shapes = {value.name: value.shape for value in self.session.get_inputs()}
        self.outputs = [value.name for value in self.session.get_outputs()]

    def run(self, **inputs):
        found = dict(zip(self.outputs, self.session.run(self.outputs, inputs), strict=True))
        if not np.isfinite(found["checksum"]).all():
            raise FloatingPointError("the graph gave NaN or Inf")
        return found

    def blank_pages(self, prefix=""):
        """Zeros for all `W - 1` ages of a past."""
        shapes = [shape for name, shape in self.shapes.items() if name.startswith(f"{prefix}past_")]
        return [np.zeros(shape, np.float32) for shape in shapes]


def past(pages, count, prefix=""):
    """Inputs of a graph: its `W - 1` pages, newest first, of which `count` are there yet."""
    if not pages:  # a window of 1 frame
        return {}
    named = {f"{prefix}past_{age}": page for age, page in enumerate(pages, 1)}
    return {f"{prefix}num_past": np.array([min(count, len(pages))]), **named}


def uniforms(seed, num_passes, num_tokens, frame, stream=0):
    """Philox4x32-10 of the counters (token, pass, frame, stream): two words as `[K, N]` float32 in [0, 1)."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c1, c0 = np.indices((num_passes, num_tokens), np.uint64)
    c2, c3 = np.full_like(c0, frame), np.full_like(c0, stream)
    k0, k1 = seed % 2**32, seed >> 32
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ np.uint64(k0), b & low, (a >> half) ^ c3 ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return [(word >> np.uint64(8)).astype(np.float32) * np.float32(2.0**-24) for word in (c0, c1)]


class Player:
    """One session of a bundle that has a graph for the whole frame of `plan`."""

    def __init__(self, folder, plan="default", threads=0):
        names = "encode.onnx", "decode.onnx", f"frame-{plan}.onnx"
        self.encode, self.decode, self.frame = (Graph(Path(folder) / name, threads) for name in names)

    def reset(self, picture, seed=0):
        """Starts from a picture of the model's size, `[H, W, 3]` uint8. Returns it as the model sees it."""
        found = self.encode.run(frame=picture[None], **past(self.encode.blank_pages(), 0))
        self.tokens, self.action = found["tokens"], -1  # nothing led to a first frame
        shown = self.decode.run(tokens=self.tokens, **past(self.decode.blank_pages(), 0))
        self.seed, self.frame_index = seed, 0
        self.pages, self.picture_pages = self.frame.blank_pages(), self.frame.blank_pages("picture_")
        self.picture_pages = [shown["page"], *self.picture_pages][: len(self.picture_pages)]
        return shown["rgb"][0]

    def step(self, action):
        """The frame that an action, an index, leads to: `[Hout, Wout, 3]` uint8."""
        (passes, tokens), new = self.frame.shapes["u"], self.frame_index + 1
        u, noise_u = uniforms(self.seed, passes, tokens, new)
        random = {"u": u}
        if "gumbel" in self.frame.shapes:
            random["gumbel"] = -np.log(-np.log(noise_u.astype(np.float64) + 2.0**-25)).astype(np.float32)
        if "order" in self.frame.shapes:
            random["order"] = uniforms(self.seed, 1, tokens, new, stream=1)[0][0].argsort(kind="stable")
        found = self.frame.run(
            last_tokens=self.tokens,
            last_action=np.array([self.action]),
            action=np.array([action]),
            **random,
            **past(self.pages, self.frame_index),  # the last frame's page is made in this call,
            **past(self.picture_pages, self.frame_index + 1, "picture_"),  # its decoder page was there
        )
        self.pages = [found["page"], *self.pages][: len(self.pages)]
        self.picture_pages = [found["picture_page"], *self.picture_pages][: len(self.picture_pages)]
        self.tokens, self.action, self.frame_index = found["tokens"], action, new
        return found["rgb"][0]


def main(folder, out, *actions):
    bundle = json.loads((Path(folder) / "bundle.json").read_text())
    names = bundle["action_names"]
    codes = bundle.get("action_codes") or range(len(names))
    prompt = np.array(Image.open(min((Path(folder) / "prompts").glob("*.png"))))
    player = Player(folder)
    frames = [player.reset(prompt), *(player.step(codes[names.index(action)]) for action in actions)]
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(out, save_all=True, append_images=rest, duration=100, loop=0)


if __name__ == "__main__":
    main(*sys.argv[1:])

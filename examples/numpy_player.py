"""Plays a bundle with NumPy alone, in float64: the model of docs/model.md, section by section.

    python examples/numpy_player.py runtime/bundles/demo out.gif right right+jump right

Slow and short: it is there to be read, and to check the runtime against. Every plan is played, from one
picture or several. Axes as on that page. Needs NumPy, and Pillow for pictures; nothing of genie_rt.
"""

import json
import math
import sys
from pathlib import Path

import numpy as np

NONE = -1  # a MASK, no previous token, the null action


# 1. Files and sizes.


def load_weights(path):
    """Every tensor of a safetensors file, in float64."""
    data = Path(path).read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    weights = {}
    for name, entry in json.loads(data[8:start]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        array = np.frombuffer(
            data[start + begin : start + end], {"F32": "<f4", "BF16": "<u2"}[entry["dtype"]]
        )
        if entry["dtype"] == "BF16":
            array = (array.astype(np.uint32) << 16).view(np.float32)
        weights[name] = array.astype(np.float64).reshape(entry["shape"])
    return weights


# 2. The transformer.


def norm(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-6) * weight


def softmax(x, axis):
    x = np.exp(x - x.max(axis, keepdims=True))
    return x / x.sum(axis, keepdims=True)


def gelu(y):
    return y / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y * y * y)))


class Transformer:
    """One of the three. A page is `[L, 2, P, H, Dh]`; pages come newest first."""

    def __init__(self, weights, part, config):
        self.w, self.part, self.config = weights, part, config
        self.window = config["window"]

    def qkv(self, x, attention):
        heads, width = self.config["num_heads"], self.config["head_width"]
        q, k, v = (x @ self.w[f"{attention}.qkv.weight"].T).reshape(len(x), 3, heads, width).swapaxes(0, 1)
        return norm(q, self.w[f"{attention}.q_norm"]), norm(k, self.w[f"{attention}.k_norm"]), v

    def __call__(self, x, pages, where=slice(None), spatial=None):
        """Evaluates a frame, or its positions `where` on top of a `spatial` page, which is written to."""
        w, root, page = self.w, math.sqrt(self.config["head_width"]), []
        for layer in range(self.config["num_layers"]):
            block = f"{self.part}.blocks.{layer}"
            q, k, v = self.qkv(norm(x, w[f"{block}.spatial_norm.weight"]), f"{block}.spatial")
            if spatial is not None:
                spatial[layer, 0, where], spatial[layer, 1, where] = k, v
                k, v = spatial[layer]
            q, k, v = q.swapaxes(0, 1), k.transpose(1, 2, 0), v.swapaxes(0, 1)  # heads first
            o = (softmax(q @ k / root, -1) @ v).swapaxes(0, 1)  # [P, H, Dh]
            x = x + o.reshape(len(x), -1) @ w[f"{block}.spatial.out.weight"].T

            q, k, v = self.qkv(norm(x, w[f"{block}.temporal_norm.weight"]), f"{block}.temporal")
            keys = np.stack([k, *(past[layer, 0, where] for past in pages)])  # by age: [ages, P, H, Dh]
            values = np.stack([v, *(past[layer, 1, where] for past in pages)])
            bias = w[f"{block}.temporal.age_bias"].T[: len(keys), None]  # [ages, 1, H]
            weight = softmax((q * keys).sum(-1) / root + bias, 0)
            o = (weight[..., None] * values).sum(0)
            x = x + o.reshape(len(x), -1) @ w[f"{block}.temporal.out.weight"].T
            page.append((k, v))

            h = norm(x, w[f"{block}.mlp_norm.weight"])
            x = x + gelu(h @ w[f"{block}.up.weight"].T) @ w[f"{block}.down.weight"].T
        return norm(x, w[f"{self.part}.norm.weight"]), np.array(page)

    def push(self, pages, page):
        return [page, *pages][: self.window - 1]


# 3. Pixels.


def to_uint8(y):
    y = (y.astype(np.float32) + np.float32(1)) * np.float32(127.5)
    return np.rint(np.clip(y, 0, 255)).astype(np.uint8)


# 7 and 8. Schedule, sampling, and the Halton order.


def decided(k, passes, units):
    """Units that are decided once pass `k` is done."""
    if k + 1 >= passes:
        return units
    return min(units, max(units - math.floor(units * math.cos(math.pi / 2 * (k + 1) / passes)), k + 1))


def sample(logits, u, temperature):
    """Candidates and their probabilities, `[N]` each."""
    p = softmax(logits / temperature, -1)
    cdf = p.cumsum(-1)
    candidates = (cdf <= u[:, None] * cdf[:, -1:]).sum(-1).clip(max=p.shape[1] - 1)
    return candidates, np.take_along_axis(p, candidates[:, None], 1)[:, 0]


def radical_inverse(i, base):
    value, scale = 0.0, 1.0
    while i > 0:
        scale /= base
        value += scale * (i % base)
        i //= base
    return value


def halton(rows, columns):
    order, i = {}, 1  # a dict keeps the order of first visits
    while len(order) < rows * columns:
        y, x = radical_inverse(i, 2), radical_inverse(i, 3)
        order.setdefault(int(y * rows) * columns + int(x * columns))
        i += 1
    return np.array(list(order))


# 10. Random numbers.


def philox(counter, seed):
    """Four words of every counter, uint64 arrays of 32-bit numbers."""
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in counter))
    k0, k1 = seed % 2**32, seed >> 32
    for _ in range(10):
        a, b = np.uint64(0xD2511F53) * c0, np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (b >> half) ^ c1 ^ np.uint64(k0), b & low, (a >> half) ^ c3 ^ np.uint64(k1), a & low
        k0, k1 = (k0 + 0x9E3779B9) % 2**32, (k1 + 0xBB67AE85) % 2**32
    return c0, c1, c2, c3


def uniforms(seed, count, pass_index, frame, stream):
    """Uniform numbers from the first two words, `[count]` each."""
    words = philox((np.arange(count), pass_index, frame % 2**32, stream), seed)
    return [(word >> np.uint64(8)) * 2.0**-24 for word in words[:2]]


def gumbel(noise_u):
    return -np.log(-np.log(noise_u + 2.0**-25))


class Player:
    """A bundle's model and one session of it."""

    def __init__(self, folder):
        self.bundle = json.loads((Path(folder) / "bundle.json").read_text())
        self.w = w = load_weights(Path(folder) / "weights.safetensors")
        self.tokenizer, self.config = (self.bundle["config"][name] for name in ("tokenizer", "dynamics"))
        t, m = self.tokenizer, self.config.get("merge", 1)
        self.encoder = Transformer(w, "tokenizer.encoder", t["encoder"])
        self.decoder = Transformer(w, "tokenizer.decoder", t["decoder"])
        self.dynamics = Transformer(w, "dynamics.transformer", self.config["transformer"])
        self.rows, self.columns = -(-t["height"] // t["patch"]), -(-t["width"] // t["patch"])
        self.num_tokens = self.rows * self.columns
        grid = np.arange(self.num_tokens).reshape(self.rows // m, m, self.columns // m, m)
        self.members = grid.swapaxes(1, 2).reshape(-1, m * m)  # [P, S]: the tokens of every position
        self.coarse = self.rows // m, self.columns // m
        length = np.sqrt((w["tokenizer.codebook"] ** 2).sum(-1, keepdims=True))
        self.unit = w["tokenizer.codebook"] / np.maximum(length, 1e-12)
        self.table = w["dynamics.token_embedding"]
        if self.config.get("tie_codebook", True):
            self.table = self.table + self.unit @ w["dynamics.code_in.weight"].T

    # 3. The tokenizer.

    def encode(self, picture, pages):
        t, p, w = self.tokenizer, self.tokenizer["patch"], self.w
        padding = (0, self.rows * p - t["height"]), (0, self.columns * p - t["width"]), (0, 0)
        x = np.pad(picture, padding, mode="edge").astype(np.float64) / 127.5 - 1
        x = x.reshape(self.rows, p, self.columns, p, 3).swapaxes(1, 2).reshape(self.num_tokens, -1)
        x = x @ w["tokenizer.patch_in.weight"].T + w["tokenizer.encoder_position"]
        x, page = self.encoder(x, pages)
        vectors = x @ w["tokenizer.code_in.weight"].T  # their length does not change which code is nearest
        return (vectors @ self.unit.T).argmax(-1), page

    def decode(self, tokens, pages):
        t, q, w = self.tokenizer, self.tokenizer["decoder_patch"], self.w
        x = self.unit[tokens] @ w["tokenizer.code_out.weight"].T + w["tokenizer.decoder_position"]
        x, page = self.decoder(x, pages)
        y = (x @ w["tokenizer.patch_out.weight"].T).reshape(self.rows, self.columns, q, q, 3).swapaxes(1, 2)
        height, width = (-(-t[side] * q // t["patch"]) for side in ("height", "width"))
        return to_uint8(y.reshape(self.rows * q, self.columns * q, 3)[:height, :width]), page

    # 4. The dynamics.

    def merge(self, x):
        return x[self.members].reshape(len(self.members), -1)

    def split(self, x):
        """`[P, S E]` to `[N, E]`."""
        out = np.empty((self.num_tokens, x.shape[1] // self.members.shape[1]))
        out[self.members] = x.reshape(*self.members.shape, -1)
        return out

    def embed(self, tokens, previous, action):
        w, masked = self.w, (tokens == NONE)[:, None]
        x = self.merge(np.where(masked, w["dynamics.mask_embedding"], self.table[tokens]))
        x = x @ w["dynamics.token_in.weight"].T
        if self.config.get("previous_token", True):
            seen = masked & (previous != NONE)[:, None]
            x = x + self.merge(np.where(seen, self.table[previous], 0)) @ w["dynamics.previous_in.weight"].T
        return x + w["dynamics.position"] + w["dynamics.action_embedding"][action]  # NONE is the last row

    def logits(self, x, previous):
        w = self.w
        logits = self.split(x @ w["dynamics.token_out.weight"].T) @ self.table.T * self.table.shape[1] ** -0.5
        if self.config.get("copy_logit", True):
            copy = self.split(x @ w["dynamics.copy_out.weight"].T)[:, 0] + w["dynamics.copy_logit"]
            seen = np.flatnonzero(previous != NONE)
            logits[seen, previous[seen]] += copy[seen]
        return logits

    # 5 and 6. Pages and the session.

    def commit(self):
        if self.pending:
            x = self.embed(self.tokens, self.tokens, self.action)
            self.past = self.dynamics.push(self.past, self.dynamics(x, self.past)[1])
            self.pending = False

    def reset(self, pictures, actions=(), seed=0):
        """Starts from pictures `[T, H, W, 3]` and the `T - 1` actions between them. Returns the last one."""
        self.seed, self.frame_index, self.pending, self.spatial = seed, -1, False, None
        self.past, self.pictures, encoder = [], [], []
        self.change = np.zeros(len(self.members), np.float32)
        for picture, action in zip(pictures, [NONE, *actions], strict=True):
            self.commit()
            tokens, page = self.encode(picture, encoder)
            encoder = self.encoder.push(encoder, page)
            shown = self.show(tokens, action)
        return shown

    def show(self, tokens, action):
        """Makes decided tokens the last frame. Returns its picture."""
        picture, page = self.decode(tokens, self.pictures)
        self.pictures = self.decoder.push(self.pictures, page)
        if self.frame_index >= 0:
            counts = np.pad((tokens != self.tokens)[self.members].sum(1).reshape(self.coarse), 1)
            rows, columns = self.coarse
            around = sum(counts[y : y + rows, x : x + columns] for y in range(3) for x in range(3))
            self.change = around.reshape(-1).astype(np.float32) + np.float32(0.5) * self.change
        self.tokens, self.action, self.pending = tokens, action, True
        self.frame_index += 1
        return picture

    def step(self, action, plan="default"):
        """The next frame, `[Hout, Wout, 3]` uint8. `plan`: a name of the bundle, or a dict."""
        plan = self.bundle["plans"][plan] if isinstance(plan, str) else plan
        self.commit()
        spatial, self.spatial = self.spatial, None
        if spatial is None:
            self.change = np.zeros_like(self.change)
        decide = self.decide_ranked if plan["order"] in ("maskgit", "adaptive") else self.decide_static
        return self.show(decide(action, plan, spatial), action)

    # 7 to 9. One frame, its orders, and reuse.

    def draw(self, tokens, action, plan, k, where=slice(None), spatial=None):
        """One pass: a candidate of every token, its probability and its Gumbel noise, `[N]` each.

        With `where`, what stands at the tokens of other positions has no meaning.
        """
        x = self.embed(tokens, self.tokens, action)[where]
        hidden = np.zeros((len(self.members), x.shape[1]))
        hidden[where], _ = self.dynamics(x, self.past, where, spatial)
        u, noise_u = uniforms(self.seed, self.num_tokens, k, self.frame_index + 1, 0)
        return *sample(self.logits(hidden, self.tokens), u, plan["temperature"]), gumbel(noise_u)

    def blank(self):
        config = self.config["transformer"]
        shape = config["num_layers"], 2, len(self.members), config["num_heads"], config["head_width"]
        return np.zeros(shape)

    def decide_ranked(self, action, plan, spatial):
        tokens, passes, k = np.full(self.num_tokens, NONE), plan["passes"], 0
        while k < passes:
            among, where, kept = np.arange(self.num_tokens), slice(None), None
            if k == 0 and plan["reuse"] == "frames":
                self.spatial = kept = self.blank() if spatial is None else spatial.copy()
                if spatial is not None:
                    count = math.ceil(plan["fresh"] * len(self.members))
                    where = np.argsort(-self.change, kind="stable")[:count]
                    among = self.members[where].reshape(-1)
            candidates, p, noise = self.draw(tokens, action, plan, k, where, kept)
            if k == 0 and plan["order"] == "adaptive":
                count = int((p < plan["threshold"]).sum())
                passes = max(1, -(-passes * count // self.num_tokens))
            among = among[tokens[among] == NONE]  # of places that tie, those that come first here win
            confidence = np.log(p[among]) + plan["noise"] * (1 - (k + 1) / passes) * noise[among]
            keep = decided(k, passes, self.num_tokens) - int((tokens != NONE).sum())
            chosen = among[np.argsort(-confidence, kind="stable")[:keep]]
            tokens[chosen] = candidates[chosen]
            k += 1
        return tokens

    def decide_static(self, action, plan, spatial):
        reuses = plan["reuse"] == "passes"
        units = self.members if reuses else np.arange(self.num_tokens)[:, None]  # the tokens of each
        if plan["order"] == "halton":
            order = halton(*(self.coarse if reuses else (self.rows, self.columns)))
        else:
            u, _ = uniforms(self.seed, len(units), 0, self.frame_index + 1, 1)
            order = np.argsort(u, kind="stable")
        tokens, before, done = np.full(self.num_tokens, NONE), 0, 0
        spatial = self.blank() if reuses else None
        for k in range(plan["passes"]):
            target = decided(k, plan["passes"], len(units))
            where = order[before:target] if reuses and k else slice(None)
            candidates, _, _ = self.draw(tokens, action, plan, k, where, spatial)
            chosen = units[order[done:target]]
            tokens[chosen] = candidates[chosen]
            before, done = done, target
        return tokens


def main(folder, out, *actions):
    from PIL import Image

    player = Player(folder)
    names = player.bundle["action_names"]
    codes = player.bundle.get("action_codes") or range(len(names))
    prompt = np.array(Image.open(min((Path(folder) / "prompts").glob("*.png"))))
    frames = [player.reset([prompt]), *(player.step(codes[names.index(action)]) for action in actions)]
    first, *rest = (Image.fromarray(frame) for frame in frames)
    first.save(out, save_all=True, append_images=rest, duration=100, loop=0)


if __name__ == "__main__":
    main(*sys.argv[1:])

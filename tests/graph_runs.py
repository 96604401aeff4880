"""Graphs of small models: run in ONNX Runtime, and computed by their definition in float64."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from makers import decision_order, make_model, make_tensor
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor

from genie_rt.kernels.maskgit_sample.reference import sample
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.runtime.backends.decode_loop import Schedule
from genie_rt.runtime.backends.exported.signature import Signature
from genie_rt.runtime.config import ModelConfig, TransformerConfig
from genie_rt.runtime.manifest import WEIGHTS
from genie_rt.runtime.model.dynamics import UNDECIDED
from genie_rt.runtime.model.transformer import KeysValues
from genie_rt.runtime.model.world_model import WorldModel
from genie_rt.runtime.plan import Plan


def save_weights(folder: Path, config: ModelConfig, seed: int = 0) -> WorldModel:
    """Saves random weights as a bundle has them, matrices in bf16. Returns a float64 model of just these."""
    model = make_model(config, seed)
    stored = {}
    for name, weight in model.state_dict().items():
        is_narrow = weight.ndim >= 2 and name != "tokenizer.codebook"
        stored[name] = weight.to(torch.bfloat16 if is_narrow else torch.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(stored, folder / WEIGHTS)
    model.load_state_dict({name: weight.double() for name, weight in stored.items()})
    return model


@lru_cache(maxsize=16)
def session_of(path: Path) -> Any:
    """An ONNX Runtime session. A file that is written anew wants another name."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # it warns about every constant in half precision that it does not fold
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run_graph(path: Path, inputs: Mapping[str, Tensor | NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """All outputs by name."""
    session = session_of(path)
    names = [output.name for output in session.get_outputs()]
    arrays = {key: np.asarray(value) for key, value in inputs.items()}
    return dict(zip(names, session.run(names, arrays), strict=True))


def make_inputs(signature: Signature, config: ModelConfig, seed: int = 0, **given: Any) -> dict[str, Tensor]:
    """Inputs of a graph but for those that are given: pages, uniforms and pictures are drawn.

    Axes without a fixed size have to be given.
    """
    generator = torch.Generator().manual_seed(seed)
    inputs = {}
    for index, (name, value) in enumerate(signature.inputs.items()):
        dtype = getattr(torch, value.dtype)
        if name in given:
            inputs[name] = torch.as_tensor(given[name], dtype=dtype).reshape(
                [side if isinstance(side, int) else -1 for side in value.shape]
            )
        elif value.dtype == "uint8":
            inputs[name] = torch.randint(0, 256, value.shape, generator=generator, dtype=dtype)
        elif value.dtype == "int64":
            codes = config.tokenizer.codebook_size
            inputs[name] = torch.randint(0, codes, value.shape, generator=generator)
        elif name == "u":
            inputs[name] = torch.rand(value.shape, generator=generator)
        else:
            inputs[name] = make_tensor(*value.shape, seed=1000 * seed + index, dtype=dtype)
    return inputs


def history_of(
    config: TransformerConfig, inputs: Mapping[str, Tensor], prefix: str = ""
) -> tuple[Tensor, list[KeysValues] | None]:
    """Ages and history as `STTransformer.forward` takes them for one frame after the pages of `inputs`."""
    if config.window == 1:
        return torch.zeros(1, 1, 1, dtype=torch.long), None
    num_past = int(inputs[f"{prefix}num_past"])
    ages = [*range(1, num_past + 1), 0]
    if not num_past:
        return torch.zeros(1, 1, 1, dtype=torch.long), None
    pages = torch.stack([inputs[f"{prefix}past_{age}"].double() for age in ages[:-1]])[None]
    layers = [(pages[:, :, 2 * layer], pages[:, :, 2 * layer + 1]) for layer in range(config.num_layers)]
    return torch.tensor(ages)[None, None], layers


def page_of(kept: list[KeysValues]) -> Tensor:
    """Keys and values of one frame as a page: `[2 L, P, H, Dh]`."""
    return torch.stack([part[0, 0] for layer in kept for part in layer])


def make_tokens(config: ModelConfig, seed: int = 0, undecided: float = 0.0) -> Tensor:
    """`[1, N]` tokens, that share of them undecided."""
    generator = torch.Generator().manual_seed(seed)
    shape = (1, config.tokenizer.num_tokens)
    tokens = torch.randint(0, config.tokenizer.codebook_size, shape, generator=generator)
    return torch.where(torch.rand(shape, generator=generator) < undecided, UNDECIDED, tokens)


def framed(
    model: WorldModel, plan: Plan, inputs: Mapping[str, Tensor], noise_u: Tensor
) -> tuple[Tensor, int, dict[str, Tensor]]:
    """What a frame graph gives: tokens `[1, N]`, the number of passes, and the decoder's outputs.

    Args:
        noise_u: `[K, N]`, the uniforms that the inputs' Gumbel noise is of.
    """
    config, window = model.config, model.config.dynamics.transformer.window
    last = inputs["last_tokens"]
    page = committed(model, {**inputs, "tokens": last, "action": inputs["last_action"]})["page"]
    given: dict[str, Tensor] = {"previous": last, "action": inputs["action"]}
    if window > 1:
        given["num_past"] = (inputs["num_past"] + 1).clamp(max=window - 1)
        given["past_1"] = page
        given |= {f"past_{age + 1}": inputs[f"past_{age}"] for age in range(1, window - 1)}
    tokens = torch.full_like(last, UNDECIDED)
    schedule = Schedule.of(plan, 1, tokens.shape[1], tokens.device)
    order, passes, k = None, plan.passes, 0
    if plan.static_order is not None:
        whole = torch.zeros(1, dtype=torch.long)
        order = inputs["order"] if "order" in inputs else decision_order(plan, config, whole, whole)[0]
    while k < passes:
        logits = passed(model, {**given, "tokens": tokens})["logits"]
        candidates, p = sample(logits, inputs["u"][k : k + 1], plan.temperature)
        if k == 0 and plan.order == "adaptive":
            schedule = Schedule.after_first_pass(plan, p)
            passes = schedule.passes[0]
        if order is None:
            chosen = schedule.select(k, p, tokens != UNDECIDED, noise_u[k : k + 1])
        else:
            chosen = torch.zeros_like(tokens, dtype=torch.bool)
            chosen[:, order[: plan.decided_after(k, len(order))]] = True
            chosen &= tokens == UNDECIDED
        tokens = torch.where(chosen, candidates, tokens)
        k += 1
    return tokens, passes, decoded(model, {**inputs, "tokens": tokens}, "picture_") | {"dynamics": page}


def gumbel_of(noise_u: Tensor) -> Tensor:
    """The noise as hosts draw it for a graph, float32."""
    return -(-(noise_u.double() + 2.0**-25).log()).log().float()


def encoded(model: WorldModel, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `encode` gives."""
    ages, history = history_of(model.config.tokenizer.encoder, inputs)
    vectors, kept = model.tokenizer.encode_vectors(inputs["frame"][:, None], ages, history)
    tokens, _ = model.tokenizer.encode(inputs["frame"][:, None], ages, history)
    return {"tokens": tokens[0], "page": page_of(kept), "checksum": vectors.sum()[None]}


def decoded(model: WorldModel, inputs: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
    """What `decode` gives, and `pixels` before they are rounded."""
    ages, history = history_of(model.config.tokenizer.decoder, inputs, prefix)
    pixels, kept = model.tokenizer.decode(inputs["tokens"][:, None], ages, history)
    checksum = pixels.sum()[None]
    return {"rgb": to_uint8(pixels)[0], "pixels": pixels[0], "page": page_of(kept), "checksum": checksum}


def committed(model: WorldModel, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `commit` gives."""
    page = passed(model, {**inputs, "previous": inputs["tokens"]})["page"]
    return {"page": page, "checksum": page.sum()[None]}


def passed(model: WorldModel, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`logits`, `page` and `checksum` of `pass`."""
    ages, history = history_of(model.config.dynamics.transformer, inputs)
    table, dynamics = model.token_table(), model.dynamics
    tokens, previous = inputs["tokens"][:, None], inputs["previous"][:, None]
    hidden, kept = dynamics(tokens, previous, inputs["action"][:, None], table, ages, history)
    logits = dynamics.logits(hidden, previous, table)[0]
    return {"logits": logits, "page": page_of(kept), "checksum": logits.sum()[None]}

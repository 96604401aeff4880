"""The tokenizer as it is defined: it says what tokens real frames have, whichever back end plays."""

import torch
from torch import Tensor

from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.bundle import Bundle, load_weights
from genie_rt.runtime.model.world_model import WorldModel, parameter_shapes
from genie_rt.runtime.world import World
from genie_rt.training.data.store import Frames


def definition_of(world: World) -> WorldModel:
    """The model that the back end computes, where it is in plain torch; else `load_definition`."""
    return world.backend.definition or load_definition(world.bundle, world.backend.device)


def load_definition(bundle: Bundle, device: torch.device) -> WorldModel:
    """Tokenizer and action codes of a bundle in float32. The dynamics stays on "meta" and takes no memory."""
    with torch.device("meta"):
        model = WorldModel(bundle.config)
    weights = load_weights(bundle, parameter_shapes(bundle.config))
    own = {
        name: value.to(device, torch.float32, copy=True)
        for name, value in weights.items()
        if not name.startswith("dynamics.")
    }
    model.load_state_dict(own, assign=True, strict=False)
    return model.requires_grad_(False).eval()


@torch.inference_mode()
def encoded(model: WorldModel, frames: Frames) -> Tensor:
    """Clips `[B, T, H, W, 3]` uint8 to tokens `[B, T, N]` int64, on the model's device."""
    device = model.tokenizer.codebook.device
    ages = causal_ages(frames.shape[1], model.config.tokenizer.encoder.window, device)
    return model.tokenizer.encode(torch.from_numpy(frames).to(device), ages)[0]


@torch.inference_mode()
def restored(model: WorldModel, frames: Frames) -> Frames:
    """Clips `[B, T, H, W, 3]` uint8, encoded and decoded."""
    tokens = encoded(model, frames)
    ages = causal_ages(frames.shape[1], model.config.tokenizer.decoder.window, tokens.device)
    return to_uint8(model.tokenizer.decode(tokens, ages)[0]).cpu().numpy()

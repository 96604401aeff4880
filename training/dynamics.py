"""Training objective of the dynamics: fill in a frame's masked tokens, given a history as at inference.

At play the history is clean and only the current frame is masked; the paper masks frames `2 ... T` all alike.
`context="clean"` trains as we serve: a clean and a masked stream of the clip share the weights. Within a
frame each stream is on its own; in time a masked frame `t` attends to the *clean* frames `t-W+1 ... t-1` and
to itself.
"""

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from genie_rt.errors import ConfigError
from genie_rt.kernels.temporal_attention.reference import causal_ages
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.dynamics import NULL_ACTION, UNDECIDED, Dynamics, previous_frame
from genie_rt.runtime.model.lam import Lam
from genie_rt.runtime.model.tokenizer import Tokenizer
from genie_rt.training.lam import code_vectors
from genie_rt.training.sheet import sheet

CONTEXTS = ("clean", "masked")

ACTION_DROPOUT = 0.1
"""Share of actions replaced by the null action."""

OWN_TEMPERATURE = 0.7
"""Temperature of the frames that the model puts in its own history."""

FULL_MASK_SHARE = 0.5
"""Share of frames with every token masked, where few-pass decoding starts; the rest mask `U(0.5, 1)`."""


class DynamicsObjective(nn.Module):
    """Cross-entropy of the masked tokens.

    Args:
        tokenizer: frozen.
        lam: frozen; where given, its actions replace those of the data.
        context: "clean" as above, or "masked" for the paper's recipe.
        corruption: each clip replaces a share `U(0, corruption)` of its history's tokens by random ones.
        own_context: share of clips in whose history the model's own predictions take the place of some
            frames, as they do at play (scheduled sampling in two passes: Mihaylova and Martins 2019,
            arXiv 1906.07651). The targets stay the real tokens.

    Raises:
        ConfigError: there is no such context, or the corruption or the own context is no share.
    """

    def __init__(
        self, config: ModelConfig, tokenizer: Tokenizer, lam: Lam | None = None, *, context: str = "clean",
        corruption: float = 0.1, own_context: float = 0.0,
    ) -> None:  # fmt: skip
        if context not in CONTEXTS:
            raise ConfigError(f"context: expected {' or '.join(CONTEXTS)}, found {context!r}")
        if not 0 <= corruption <= 1:
            raise ConfigError(f"--corruption: expected a share from 0 to 1, found {corruption}")
        if not 0 <= own_context <= 1:
            raise ConfigError(f"--own-context: expected a share from 0 to 1, found {own_context}")
        super().__init__()
        self.model = Dynamics(config)
        self.tokenizer = tokenizer
        self.lam = lam
        self.context = context
        self.corruption = corruption
        self.own_context = own_context

    def train(self, mode: bool = True) -> "DynamicsObjective":
        """Training mode for the dynamics; what it stands on stays frozen."""
        super().train(mode)
        self.tokenizer.eval()
        if self.lam is not None:
            self.lam.eval()
        return self

    @torch.no_grad()
    def _tokens_and_actions(self, frames: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """`[B, T, N]` tokens and `[B, T]` actions, the first of which is null as after a reset."""
        ages = causal_ages(frames.shape[1], self.tokenizer.config.encoder.window, frames.device)
        steps = actions[:, 1:]
        # As they are served: rounded to bf16, half of the tokens of a trained tokenizer were others.
        with torch.autocast(frames.device.type, enabled=False):
            tokens, _ = self.tokenizer.encode(frames, ages)
            if self.lam is not None:
                codes = code_vectors(self.tokenizer, frames) if self.lam.config.inputs == "tokens" else None
                steps = self.lam.actions(frames, codes)
        return tokens, torch.cat([torch.full_like(steps[:, :1], NULL_ACTION), steps], 1)

    def forward(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """Compute the losses of a batch of clips.

        Args:
            frames: `[B, T, H, W, 3]` uint8. actions: `[B, T]` int64.
            generator: of masks, corruption and action dropout.

        Returns:
            Scalars: loss (nats per masked token), accuracy.
        """
        tokens, actions = self._tokens_and_actions(frames, actions)
        random = _Random(generator, frames.device)
        dropped = random.uniform(actions.shape) < ACTION_DROPOUT
        actions = actions.masked_fill(dropped, NULL_ACTION)
        share = random.uniform((tokens.shape[0], 1, 1)) * self.corruption
        corrupt = random.uniform(tokens.shape) < share
        noise = random.integers(self.model.config.tokenizer.codebook_size, tokens.shape)
        seen = torch.where(corrupt, noise, tokens)
        if self.own_context:
            seen = self._with_own_frames(seen, actions, random)

        target = tokens[:, 1:]
        ratio = 0.5 + 0.5 * random.uniform((*target.shape[:2], 1))
        full = random.uniform((*target.shape[:2], 1)) < FULL_MASK_SHARE
        masked = (random.uniform(target.shape) < ratio) | full
        inputs = torch.where(masked, UNDECIDED, target)
        hidden, table = self._hidden(inputs, seen, actions)

        logits = self.model.logits(hidden, seen[:, :-1], table)
        loss = cross_entropy(logits.flatten(0, 2), target.flatten(), reduction="none").view(target.shape)
        hit = (logits.detach().argmax(-1) == target) & masked
        count = masked.sum()
        return {"loss": (loss * masked).sum() / count, "accuracy": hit.sum() / count}

    @torch.inference_mode()
    def pictures(self, frames: Tensor) -> NDArray[np.uint8]:
        """Draw the last two frames of clips and the last one as predicted in one pass: `[h, w, 3]`.

        Args:
            frames: `[B, T, H, W, 3]` uint8; the actions are those that the LAM gives, else unknown.
        """
        config = self.tokenizer.config
        frames = frames.to(self.model.token_embedding.device)
        unknown = torch.full(frames.shape[:2], NULL_ACTION, device=frames.device)
        tokens, actions = self._tokens_and_actions(frames, unknown)
        hidden, table = self._hidden(torch.full_like(tokens[:, 1:], UNDECIDED), tokens, actions)
        best = self.model.logits(hidden, tokens[:, :-1], table)[:, -1:].argmax(-1)
        predicted = torch.cat([tokens[:, :-1], best], 1)
        ages = causal_ages(frames.shape[1], config.decoder.window, frames.device)
        real, drawn = (self.tokenizer.decode(each, ages)[0] for each in (tokens, predicted))
        return sheet([real[:, -2], real[:, -1], drawn[:, -1]])

    @torch.no_grad()
    def _with_own_frames(self, seen: Tensor, actions: Tensor, random: "_Random") -> Tensor:
        """Put frames that the model samples in one pass in the place of some of a history's.

        In a share `own_context` of the clips, the first of the batch, every frame but the first is replaced
        with probability `U(0, 1)`, drawn for each clip. Where the share is no whole number of clips it holds
        on average, as for a process that has one clip a step.
        """
        count = math.ceil(self.own_context * len(seen))
        clips, rest = seen[:count], seen[count:]
        hidden, table = self._hidden(torch.full_like(clips[:, 1:], UNDECIDED), clips, actions[:count])
        logits = self.model.logits(hidden, clips[:, :-1], table) / OWN_TEMPERATURE
        cdf = logits.softmax(-1).cumsum(-1)
        drawn = random.uniform(clips[:, 1:].shape)[..., None] * cdf[..., -1:]
        own = torch.searchsorted(cdf, drawn)[..., 0].clamp(max=cdf.shape[-1] - 1)
        replaced = random.uniform(own.shape[:2]) < random.uniform((count, 1))
        replaced &= random.uniform((count, 1)) < self.own_context * len(seen) / count
        mixed = torch.where(replaced[..., None], own, clips[:, 1:])
        return torch.cat([torch.cat([clips[:, :1], mixed], 1), rest])

    def _hidden(self, inputs: Tensor, seen: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states `[B, T-1, P, D]` of the masked frames `1 ... T-1`, and the token table."""
        model, window = self.model, self.model.config.dynamics.transformer.window
        table = model.token_table(self.tokenizer.codebook)
        if self.context == "masked":
            whole = torch.cat([seen[:, :1], inputs], 1)
            x = model.embed(whole, previous_frame(seen), actions, table)
            hidden, _ = model.transformer(x, causal_ages(seen.shape[1], window, seen.device))
            return hidden[:, 1:], table
        clean = model.embed(seen[:, :-1], torch.full_like(inputs, UNDECIDED), actions[:, :-1], table)
        asked = model.embed(inputs, seen[:, :-1], actions[:, 1:], table)
        count = inputs.shape[1]
        hidden, _ = model.transformer(
            torch.cat([clean, asked], 1), two_stream_ages(count, window, seen.device)
        )
        return hidden[:, count:], table


def two_stream_ages(count: int, window: int, device: torch.device | str = "cpu") -> Tensor:
    """Ages among clean frames `0 ... count-1`, followed by masked frames `1 ... count`.

    Returns:
        `[1, 2 count, 2 count]` int64, -1 where a frame may not see another.
    """
    clean = causal_ages(count, window, device)[0]
    frame = torch.arange(count, device=device)
    age = frame[:, None] + 1 - frame[None, :]  # of clean frame j to masked frame i + 1
    masked_to_clean = torch.where((age >= 1) & (age < window), age, -1)
    own = torch.where(torch.eye(count, dtype=torch.bool, device=device), 0, -1)
    none = torch.full_like(own, -1)
    return torch.cat([torch.cat([clean, none], 1), torch.cat([masked_to_clean, own], 1)])[None]


class _Random:
    """Draws from one generator, on its device."""

    def __init__(self, generator: torch.Generator, device: torch.device) -> None:
        self.generator, self.device = generator, device

    def uniform(self, shape: Any) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self.generator.device).to(self.device)

    def integers(self, high: int, shape: Any) -> Tensor:
        draw = torch.randint(high, shape, generator=self.generator, device=self.generator.device)
        return draw.to(self.device)

"""A session together with what an action log has to know about where it came from."""

from collections.abc import Sequence
from dataclasses import dataclass

from genie_rt.errors import InputError
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.play.action_log import ActionLog, Trail, frame_crc32
from genie_rt.runtime.play.playable import PlayableSession
from genie_rt.runtime.play.prompt import Prompt

_UNDO_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class Game:
    """One session of one bundle, ready to be reset to one of the prompts.

    Attributes:
        bundle: as the player named it.
        bundle_sha256: its identity, or None.
        backend: that computes the frames.
        dtype: that it computes in.
        computed_on: both and the processor, in words.
        action_names: of the world.
        default_action: what is meant when no key is held, or None.
        session: not yet reset.
        seed: of the session.
        prompts: pictures to start from.
        prompt_index: the one to start with.
        undo_steps: how many steps a player may take back.
    """

    bundle: str
    bundle_sha256: str | None
    backend: str
    dtype: str
    computed_on: str
    action_names: tuple[str, ...]
    default_action: str | None
    session: PlayableSession
    seed: int
    prompts: Sequence[Prompt]
    prompt_index: int
    undo_steps: int

    @property
    def prompt(self) -> Prompt:
        return self.prompts[self.prompt_index]

    def log(self, trail: Trail, plan: Plan, prompt: Prompt) -> ActionLog:
        """The game as a log. `plan` is that of the first step."""
        return trail.log(
            self.action_names,
            bundle=self.bundle,
            bundle_sha256=self.bundle_sha256,
            backend=self.backend,
            dtype=self.dtype,
            seed=self.seed,
            plan=plan,
            prompt=prompt.name,
            prompt_crc32=frame_crc32(prompt.image),
        )

    def check_prompt(self, log: ActionLog) -> None:
        """Raises `InputError` if the picture is not the one that the log was made with."""
        if frame_crc32(self.prompt.image) != log.prompt_crc32:
            raise InputError(
                f"prompt {self.prompt.name!r}: expected the picture that the action log was made with, found "
                "another one; give the right one with --prompt, or the right bundle"
            )


def compare(log: ActionLog, trail: Trail) -> int | None:
    """The first frame of a replay that is not the log's, 0 being the prompt's; None if all are equal."""
    for index, (expected, found) in enumerate(zip(log.frames_crc32, trail.frames_crc32, strict=False)):
        if expected != found:
            return index
    return None


def undo_steps(config: ModelConfig) -> int:
    """How many steps can be taken back without keeping more than 512 MiB of pages alive; 8 to 256."""
    step_bytes = 0
    for part, num_positions in (
        (config.dynamics.transformer, config.num_positions),
        (config.tokenizer.decoder, config.tokenizer.num_tokens),
    ):
        step_bytes += 4 * 2 * part.num_layers * num_positions * part.attention_width  # keys and values, fp32
    return max(8, min(256, _UNDO_BYTES // step_bytes))

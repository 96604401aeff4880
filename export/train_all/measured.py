"""The figures that `judge` looks at: a short evaluation of a new world on its own held-out clips."""

from pathlib import Path

from genie_rt.errors import InputError
from genie_rt.runtime.bundle import Bundle
from genie_rt.runtime.world import World
from genie_rt.training.evaluation.clips import from_store
from genie_rt.training.evaluation.latent import with_latent_actions
from genie_rt.training.evaluation.measure import Evaluation, Settings, evaluate
from genie_rt.training.evaluation.rollout import ModelRollouts


def measured(bundle: Bundle, data: Path, most_clips: int) -> Evaluation | None:
    """Measure a world in float32 with its default plan.

    Args:
        bundle: the world.
        data: clip store that it was trained on; its held-out split is used.
        most_clips: clips to measure on, where there are so many.

    Returns:
        None where no held-out episode is long enough.
    """
    world = World.load(bundle.path, backend="reference", dtype="float32")
    rollouts = ModelRollouts(world)
    dynamics = bundle.config.dynamics
    window, plan = dynamics.transformer.window, bundle.plans["default"]
    settings = Settings(
        window=window,
        num_actions=dynamics.num_actions,
        plan=plan,
        passes=(plan.passes,),
        prompt_frames=max(1, window // 2),
    )
    try:
        clips = from_store(data, num_clips=None, length=settings.clip_length, size=world.output_size, seed=0)
    except InputError:
        return None
    clips = clips.first(most_clips)
    if bundle.config.lam is None:
        clips = clips.renamed(world.action_names, bundle.action_codes)
    else:
        clips = with_latent_actions(clips, bundle, None, rollouts.model, settings.batch)
    return evaluate(rollouts, clips, settings)

"""`genie-rt export`. torch is imported when the command runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

IDLE_ACTION = "stay"
"""The action that is meant when no key is pressed, where the data has one of that name."""


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Write a trained world as a bundle: one folder that play, bench and evaluate open.

    To put measured figures on its model card, export, run `genie-rt evaluate --json FILE`, and export again
    with --metrics FILE --overwrite.
    """

    folder: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Run folder of the dynamics, or one checkpoint in it. The tokenizer is in there too."""
    out: Path
    """Folder of the new bundle."""
    name: str | None = None
    """Name of the bundle; that of its folder unless set."""
    prompt: tuple[Path, ...] = ()
    """Pictures to start from; cropped and scaled to the model's size. `genie-rt data prompts` makes some."""
    dtype: Literal["bf16", "fp32"] = "bf16"
    """Number format of the matrices; the rest, and the codebook, is fp32 always."""
    ema: bool = False
    """Take the averaged weights, which a run with --ema-decay above 0 keeps."""
    passes: int = 4
    """Passes per frame of the bundle's default plan."""
    temperature: float = 1.0
    """Temperature of that plan's sampling."""
    noise: float = 1.0
    """Noise on that plan's confidence."""
    plans: Path | None = None
    """JSON record of `genie-rt bench quality`, whose recommended plans go in beside the default, by name."""
    metrics: Path | None = None
    """JSON file of `genie-rt evaluate --json` whose figures go on the model card."""
    overwrite: bool = False
    """Replace the bundle that is at --out."""

    def run(self) -> None:
        """Read, write, and say what came of it."""
        from genie_rt.export.bundle import write_bundle
        from genie_rt.export.checkpoint import read_checkpoint
        from genie_rt.export.plans import read_recommended
        from genie_rt.export.provenance import preset_of, provenance_of
        from genie_rt.export.run_card import card_of_run, read_record
        from genie_rt.runtime.images import fit_image, load_image
        from genie_rt.runtime.plan import Plan

        plan = Plan(passes=self.passes, temperature=self.temperature, noise=self.noise)
        recommended = {} if self.plans is None else read_recommended(self.plans)
        record = None if self.metrics is None else read_record(self.metrics)
        checkpoint = read_checkpoint(self.folder, averaged=self.ema)
        config, names = checkpoint.config, checkpoint.action_names
        size = config.tokenizer.height, config.tokenizer.width
        pictures = [fit_image(load_image(path), *size) for path in self.prompt]
        name = self.name or self.out.resolve().name
        num_parameters = sum(weight.numel() for weight in checkpoint.weights.values())
        provenance = provenance_of(checkpoint)
        bundle = write_bundle(
            self.out,
            name=name,
            preset=preset_of(config),
            config=config,
            weights=checkpoint.weights,
            action_names=names,
            default_action=IDLE_ACTION if IDLE_ACTION in names else names[0],
            plans=recommended | {"default": plan},
            prompts=pictures,
            provenance=provenance,
            model_card=card_of_run(
                name=name,
                config=config,
                num_parameters=num_parameters,
                action_names=names,
                provenance=provenance,
                record=record,
            ),
            dtype=self.dtype,
            overwrite=self.overwrite,
        )
        megabytes = sum(file.size for file in bundle.files.values()) / 1e6
        print(
            f"{bundle.path}: {num_parameters:,} parameters of {checkpoint.path.name}, {megabytes:.1f} MB, "
            f"{len(pictures)} prompts"
        )
        if not pictures:
            print(
                "it has no picture to start from: play it with --prompt FILE, or export it with --prompt FILE"
            )

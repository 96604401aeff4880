"""The plot is drawn of whatever rows there are."""

from pathlib import Path

import numpy as np
import pytest
from makers import make_config
from PIL import Image
from quality_rows import make_baselines, make_row

from genie_rt.bench.quality.choice import recommend
from genie_rt.bench.quality.measure import Protocol, plan_grid
from genie_rt.bench.quality.plot import DPI, HEIGHT, WIDTH, draw
from genie_rt.errors import InputError
from genie_rt.runtime.plan import Plan

PROTOCOL = Protocol(window=8, num_actions=3, prompt_frames=4)


@pytest.mark.parametrize("ms", [None, 10.0])
@pytest.mark.parametrize("only", [1, None])
def test_a_picture_is_drawn(tmp_path: Path, ms: float | None, only: int | None) -> None:
    plans = plan_grid(Plan(), make_config(grid=(16, 16), merge=2))[:only]
    rows = [
        make_row(
            plan,
            ms=ms and ms * plan.passes,
            distance=20 / plan.passes + 5,
            psnr=20.0 if only else 20 - plan.passes / 4,  # of many plans some are as bad as copying
            nll=None if plan.reuse != "none" else (3.0, 2.5),
            nll_error=None,
        )
        for plan in plans
    ]
    baselines = make_baselines()
    path = tmp_path / "deep" / "plot.png"
    draw(path, rows, baselines, PROTOCOL, recommend(rows, baselines), title="tiny")
    with Image.open(path) as picture:
        assert picture.size == (round(WIDTH * DPI), round(HEIGHT * DPI))
        assert len(np.unique(np.asarray(picture.convert("L")))) > 20
    draw(path, rows, baselines, PROTOCOL, title="no plan is marked")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file"):
        draw(tmp_path / "file" / "p.png", [make_row(Plan())], make_baselines(), PROTOCOL, title="")

"""One row's next frame by one graph: the commit of its last frame, all passes of a plan, and the picture."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from genie_rt.errors import DeviceError
from genie_rt.kernels.maskgit_sample.reference import gumbel
from genie_rt.runtime.backends.protocol import FrameStats
from genie_rt.runtime.backends.row import Row
from genie_rt.runtime.order import decision_order
from genie_rt.runtime.pages import Pages
from genie_rt.runtime.plan import Plan

if TYPE_CHECKING:
    from genie_rt.runtime.backends.exported.backend import ExportedBackend


def run_whole_frame(
    backend: ExportedBackend,
    name: str,
    row: Row,
    action: int,
    plan: Plan,
    u: Tensor,
    noise_u: Tensor,
    picture: Tensor,
) -> tuple[Row, Tensor, Pages, FrameStats]:
    """Runs a frame graph.

    Args:
        name: of the graph, which is `plan`'s.
        row: pending.
        u, noise_u: `[K, N]` float32, uniforms for the tokens and for the confidence noise.
        picture: `[1, Hout, Wout, 3]` uint8, written to.

    Returns:
        The row with its last frame's page; the new frame's tokens `[N]` int64, its decoder pages, and what
        it took.

    Raises:
        BundleError, DeviceError: as `Graphs.run`, and the passes that it took are none of the plan's.
    """
    dynamics, decoder = backend.dynamics_pages, backend.decoder_pages
    inputs = {
        "last_tokens": row.tokens[None],
        "last_action": backend.action_index(row.action),
        "action": backend.action_index(action),
        "u": u,
        **dynamics.past(row.dynamics),
        **decoder.past(row.decoder, "picture_"),
    }
    if not plan.is_static:
        inputs["gumbel"] = gumbel(noise_u).float()
    if plan.order == "random":
        inputs["order"] = decision_order(plan, backend.config, *backend.keys([row]))[0]
    page, picture_page = dynamics.take(), decoder.take()
    tokens, passes = torch.empty_like(backend.masked), torch.empty_like(inputs["action"])
    outputs = {
        "tokens": tokens,
        "passes": passes,
        "rgb": picture,
        "page": dynamics.bound(page),
        "picture_page": decoder.bound(picture_page),
    }
    backend.graphs.run(name, inputs, outputs)
    count = int(passes)
    if not 1 <= count <= plan.passes:
        raise DeviceError(
            f"the graph {name}: expected 1 to {plan.passes} passes, found {count}; export the bundle again "
            "with this version"
        )
    return (
        replace(row, dynamics=dynamics.push(row.dynamics, page), pending=False),
        tokens[0],
        decoder.push(row.decoder, picture_page),
        FrameStats(passes=count, tokens=count * tokens.shape[1]),
    )

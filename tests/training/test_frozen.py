"""What a later stage loads: the trained part itself, frozen, with the codebook that was learned."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import TINY, TinyRuns

from genie_rt.errors import ConfigError
from genie_rt.training.checkpoint import load_weights
from genie_rt.training.data.store import ClipStore
from genie_rt.training.frozen import load_lam, load_tokenizer, run_state, run_summary
from genie_rt.training.lam import LamObjective
from genie_rt.training.tokenizer import TokenizerObjective


def clip(runs: TinyRuns) -> torch.Tensor:
    """`[1, 4, H, W, 3]` uint8."""
    frames, _ = ClipStore.open(runs.store).clips(length=4).batch(np.array([0]))
    return torch.from_numpy(frames)


def test_the_tokenizer_is_frozen_and_gives_the_codes_it_learned(tiny_runs: TinyRuns) -> None:
    model = load_tokenizer(tiny_runs.tokenizer, TINY)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    objective = TokenizerObjective(TINY)
    objective.load_state_dict(load_weights(tiny_runs.tokenizer))
    objective.eval()
    ages = torch.tensor([[[0, -1, -1, -1], [1, 0, -1, -1], [-1, 1, 0, -1], [-1, -1, 1, 0]]])
    vectors, _ = objective.model.encode_vectors(clip(tiny_runs), ages)
    _, indices, _ = objective.quantiser(vectors)
    tokens, _ = model.encode(clip(tiny_runs), ages)
    assert torch.equal(tokens, indices)
    assert torch.allclose(model.codebook.norm(dim=-1), torch.ones(16))


def test_the_lam_is_frozen_and_gives_the_actions_it_learned(tiny_runs: TinyRuns) -> None:
    model = load_lam(tiny_runs.lam, TINY)
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    objective = LamObjective(TINY, None)
    objective.load_state_dict(load_weights(tiny_runs.lam))
    objective.eval()
    inputs = objective.model.inputs_of(clip(tiny_runs))
    _, indices, _ = objective.quantiser(objective.model.action_vectors(inputs))
    assert torch.equal(model.actions(clip(tiny_runs)), indices)


def test_a_folder_without_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a training run with a checkpoint, found none"):
        load_tokenizer(tmp_path, TINY)


@pytest.mark.parametrize(
    "describe",
    [{}, {"kind": ["tokenizer"]}, {"kind": "tokenizer"}, {"kind": "tokenizer", "config": 3},
     {"kind": "tokenizer", "config": {"tokenizer": "k" * 9000}}],
)  # fmt: skip
def test_a_run_that_says_something_else_of_itself_is_one_line(
    tiny_runs: TinyRuns, tmp_path: Path, describe: object
) -> None:
    run = Path(shutil.copytree(tiny_runs.tokenizer, tmp_path / "run"))
    (path,) = run.glob("checkpoint-*/state.json")
    state = {key: value for key, value in json.loads(path.read_text()).items() if key != "state_sha256"}
    path.write_text(json.dumps(state | {"describe": describe}))
    with pytest.raises(ConfigError, match=r"run: ") as raised:
        load_tokenizer(run, TINY)
    assert len(str(raised.value)) < 2000


def test_a_summary_says_what_was_not_measured(tiny_runs: TinyRuns, tmp_path: Path) -> None:
    state = run_state(tiny_runs.lam)
    summary = run_summary(tiny_runs.lam)
    assert summary.keys() == {"steps", "seconds", "device", "clip", "data", "loop", "figures"}
    assert (summary["seconds"], summary["device"]) == (state["seconds"], state["device"])
    old = Path(shutil.copytree(tiny_runs.lam, tmp_path / "old"))
    (path,) = old.glob("checkpoint-*/state.json")
    kept = {key: value for key, value in state.items() if key not in ("seconds", "device", "state_sha256")}
    path.write_text(json.dumps(kept))
    assert run_summary(old) == summary | {"seconds": None, "device": None}

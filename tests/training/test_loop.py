"""The training loop: what a kill, a NaN, another config or a second process may and may not change.

Run as a script, this file is the child of the tests that need another process:
`python test_loop.py OUT steps=5 ...` trains the toy objective.
"""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genie_rt.errors import ConfigError, DeviceError, StateError, UnsupportedError
from genie_rt.install import install_hint
from genie_rt.training.checkpoint import latest_checkpoint, load_checkpoint, load_weights
from genie_rt.training.loop import LoopConfig, TrainResult, step_seed, train

DESCRIBE = {"kind": "toy", "model": {"width": 32, "sizes": (4, 4)}}


class ToyObjective(nn.Module):
    """Regression with a buffer that moves, and noise from the generator given and from the global one."""

    def __init__(self, *, signal_at: int | None = None, nan_at: int | None = None) -> None:
        super().__init__()
        self.hidden = nn.Linear(48, 32)
        self.head = nn.Linear(32, 1)
        self.embedding = nn.Embedding(4, 32)
        self.register_buffer("mean", torch.zeros(32))
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.signal_at, self.nan_at = signal_at, nan_at
        self.mean: Tensor
        self.calls: Tensor

    def forward(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        self.calls += 1
        if self.calls == self.signal_at:
            signal.raise_signal(signal.SIGTERM)
        pixels = frames.float().flatten(2) / 255
        h = torch.tanh(self.hidden(pixels)) + self.embedding(actions)
        with torch.no_grad():
            self.mean.lerp_(h.float().mean((0, 1)), 0.1)
        kept = torch.rand(h.shape, generator=generator, device=generator.device) > 0.1
        h = h * kept + 0.01 * torch.randn_like(h) - 0.1 * self.mean
        loss = (self.head(h).squeeze(-1) - pixels.mean(-1)).square().mean()
        if self.calls == self.nan_at:
            loss = loss * torch.nan
        return {"loss": loss, "kept": kept.float().mean()}


class ToyClips:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def sample(self, batch: int, *, seed: int, step: int, rank: int) -> tuple[Any, Any]:
        random = np.random.default_rng((seed, step, rank))
        frames = random.integers(0, 256, (batch, 2, 4, 4, 3), dtype=np.uint8)
        self.seen.append(hashlib.sha256(frames.tobytes()).hexdigest())
        return frames, random.integers(0, 4, (batch, 2))


def toy(**kwargs: Any) -> ToyObjective:
    torch.manual_seed(0)
    return ToyObjective(**kwargs)


def config(**changes: Any) -> LoopConfig:
    defaults: dict[str, Any] = {
        "steps": 12,
        "batch": 4,
        "learning_rate": 1e-2,
        "warmup": 0.3,
        "precision": "fp32",
        "checkpoint_every": 5,
        "log_every": 4,
    }
    return LoopConfig(**(defaults | changes))


def run(out: Path, objective: nn.Module | None = None, **changes: Any) -> TrainResult:
    return train(objective or toy(), ToyClips(), config(**changes), out, describe=DESCRIBE)


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resumed_run_equals_uninterrupted_run_bit_for_bit(
    tmp_path: Path, optimizer: str, precision: str
) -> None:
    options = {"optimizer": optimizer, "precision": precision, "ema_decay": 0.9}
    whole = run(tmp_path / "whole", **options)
    first = run(tmp_path / "parts", toy(signal_at=7), **options)
    assert (first.interrupted, first.step) == (signal.SIGTERM, 7)
    second = run(tmp_path / "parts", **options)
    assert second.interrupted is None
    assert first.losses + second.losses == whole.losses
    assert len(set(whole.losses)) == 12
    for ema in (False, True):
        assert same(load_weights(whole.checkpoint, ema=ema), load_weights(second.checkpoint, ema=ema))


def test_other_seed_changes_the_losses(tmp_path: Path) -> None:
    a, b = run(tmp_path / "a", steps=2), run(tmp_path / "b", steps=2, seed=1)
    assert a.losses != b.losses


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    for optimizer in ("adamw", "muon"):
        losses = run(tmp_path / optimizer, steps=60, optimizer=optimizer, schedule="linear").losses
        assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])


def test_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    done = run(tmp_path, steps=3)
    objective = toy()
    again = run(tmp_path, objective, steps=3)
    assert (again.step, again.losses, again.checkpoint) == (3, [], done.checkpoint)
    assert same(objective.state_dict(), load_weights(tmp_path))


def test_signal_handlers_come_back(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    run(tmp_path / "a", toy(signal_at=1), steps=2)
    with pytest.raises(DeviceError):
        run(tmp_path / "b", toy(nan_at=1), steps=2)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_nan_stops_and_overwrites_nothing(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"step 7: (loss|grad_norm) is nan.*checkpoint-00000005"):
        run(tmp_path, toy(nan_at=7))
    latest = latest_checkpoint(tmp_path)
    assert latest is not None and latest.name == "checkpoint-00000005"
    assert all(t.isfinite().all() for t in load_weights(latest).values())


def test_nan_before_the_first_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"step 1: .* none"):
        run(tmp_path, toy(nan_at=1))
    assert latest_checkpoint(tmp_path) is None


class Greedy(ToyObjective):
    """Raises at its second step what a full memory raises."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def forward(self, frames: Tensor, actions: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        if self.calls == 1:
            raise self.error
        return super().forward(frames, actions, generator)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes."),
    ],
    ids=["python", "gpu", "cpu", "windows"],
)
def test_too_little_memory_names_the_flags_to_change(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(DeviceError) as raised:
        run(tmp_path, Greedy(error), batch=6)
    assert str(raised.value) == (
        "step 2: expected enough memory on cpu for --batch 6 and --clip 2, found too little; "
        "try --batch 3, or a shorter --clip"
    )
    with pytest.raises(DeviceError, match=r"found too little; try a shorter --clip$"):
        run(tmp_path / "one", Greedy(error), batch=1)


def test_what_a_real_allocation_raises_is_recognised(tmp_path: Path) -> None:
    class Huge(ToyObjective):
        def forward(self, frames: Tensor, *rest: Any) -> dict[str, Tensor]:
            return {"loss": torch.zeros(2**58, device=frames.device).sum()}

    with pytest.raises(DeviceError, match="expected enough memory on cpu"):
        run(tmp_path, Huge())


def test_another_runtime_error_stays_as_it_is(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(tmp_path, Greedy(RuntimeError("mat1 and mat2 shapes cannot be multiplied")))


def test_other_config_is_refused_by_name(tmp_path: Path) -> None:
    run(tmp_path, steps=2)
    with pytest.raises(ConfigError, match=r"loop\.learning_rate was 0\.01, is now 0\.02"):
        run(tmp_path, steps=2, learning_rate=2e-2)
    other = {"kind": "toy", "model": {"width": 64, "sizes": (4, 4)}, "extra": 1}
    with pytest.raises(ConfigError, match=r"describe\.extra .*describe\.model\.width was 32, is now 64"):
        train(toy(), ToyClips(), config(steps=2), tmp_path, describe=other)
    with pytest.raises(ConfigError, match="already at step 2"):
        run(tmp_path, steps=1)


def test_steps_and_cadence_may_change_on_resume(tmp_path: Path) -> None:
    run(tmp_path, steps=2)
    assert run(tmp_path, steps=4, checkpoint_every=1, log_every=1, keep_checkpoints=3).step == 4
    assert len(list(tmp_path.glob("checkpoint-*"))) == 3
    assert json.loads((tmp_path / "config.json").read_text())["loop"]["steps"] == 4


def test_describe_that_json_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="JSON"):
        train(toy(), ToyClips(), config(), tmp_path, describe={"path": tmp_path})


def test_broken_checkpoint_is_passed_over_and_replaced(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = run(tmp_path / "whole")
    run(tmp_path / "broken", toy(signal_at=10))
    (tmp_path / "broken" / "checkpoint-00000010" / "state.json").unlink()
    resumed = run(tmp_path / "broken")
    assert "skipping a broken checkpoint" in caplog.text
    assert resumed.losses == whole.losses[5:]
    assert load_checkpoint(tmp_path / "broken" / "checkpoint-00000010").step == 10


def test_average_follows_its_formula(tmp_path: Path) -> None:
    weights: list[Tensor] = [toy().hidden.weight.detach().clone()]
    objective = toy()
    run(tmp_path, objective, steps=3, checkpoint_every=1, keep_checkpoints=9, ema_decay=0.15)
    weights += [load_weights(p)["hidden.weight"] for p in sorted(tmp_path.glob("checkpoint-*"))]
    average = weights[0]
    for step in range(3):
        decay = min(0.15, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * weights[step + 1]
    torch.testing.assert_close(load_weights(tmp_path, ema=True)["hidden.weight"], average)
    assert torch.equal(load_weights(tmp_path, ema=True)["mean"], objective.mean)


def test_step_seeds_differ_and_fit_a_generator() -> None:
    seeds = {step_seed(s, t, r) for s in range(5) for t in range(50) for r in range(5)}
    assert len(seeds) == 5 * 50 * 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_plain_lines_and_tensorboard(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, steps=10)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines] == ["4/10", "8/10", "10/10"]
    for word in ("loss", "kept", "grad_norm", "learning_rate", "it/s", "left"):
        assert word in lines[0]
    assert list((tmp_path / "tensorboard").glob("events.*"))


@pytest.mark.parametrize("module", ["accelerate", "torch.utils.tensorboard"])
def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedError, match=re.escape(install_hint("train"))):
        run(tmp_path)


def test_sigterm_from_outside_saves_and_exits(tmp_path: Path) -> None:
    """The same numbers in another process, and exit code 143."""
    options = {"schedule": "constant", "warmup": 0, "log_every": 1, "checkpoint_every": 10**6}
    child = start_child(tmp_path / "killed", steps=10**6, **options)
    assert child.stdout is not None
    for line in child.stdout:
        if line.startswith("step 5/"):
            child.send_signal(signal.SIGTERM)
            break
    rest, _ = child.communicate(timeout=60)
    assert child.returncode == 128 + signal.SIGTERM
    assert "stopped by SIGTERM" in rest
    latest = latest_checkpoint(tmp_path / "killed")
    assert latest is not None
    steps = load_checkpoint(latest).step + 3
    resumed = run(tmp_path / "killed", **(options | {"steps": steps}))
    whole = run(tmp_path / "whole", **(options | {"steps": steps}))
    assert resumed.losses == whole.losses[-3:]


def test_two_processes_see_other_clips_and_keep_one_set_of_weights(tmp_path: Path) -> None:
    for child, output in two_processes(tmp_path / "run", steps=4, optimizer="muon"):
        assert child.returncode == 0, output
    one, two = (json.loads((tmp_path / f"run.{rank}.json").read_text()) for rank in range(2))
    assert one["losses"] == two["losses"] and len(one["losses"]) == 4
    assert one["weights"] == two["weights"]
    assert not set(one["clips"]) & set(two["clips"])
    assert load_checkpoint(tmp_path / "run" / "checkpoint-00000004").state["processes"] == 2


def test_a_watch_stops_both_processes_after_a_checkpoint(tmp_path: Path) -> None:
    """At a step that is logged and not saved, where only the first process has asked it."""
    ended = two_processes(tmp_path / "run", {"STOP": "1"}, steps=40, log_every=3, checkpoint_every=20)
    for rank, (child, output) in enumerate(ended):
        assert child.returncode == 9, output
        assert ("no use" if rank == 0 else "the first process stopped") in output
    assert load_checkpoint(tmp_path / "run" / "checkpoint-00000003").step == 3


def test_a_signal_is_saved_without_measuring_first(tmp_path: Path) -> None:
    class Slow:
        asked: ClassVar[list[bool]] = []

        def figures(self, *, saving: bool) -> dict[str, float]:
            self.asked.append(saving)
            signal.raise_signal(signal.SIGTERM)
            return {"figure": 1.0}

        def line(self, figures: Mapping[str, float]) -> str:
            return ""

        def check(self, figures: Mapping[str, float], done: float) -> str | None:
            return None

        def pictures(self) -> dict[str, Any]:
            raise AssertionError("pictures are for those who have time")

    settings = config(log_every=2, checkpoint_every=100, steps=100)
    result = train(toy(), ToyClips(), settings, tmp_path, describe=DESCRIBE, watch=Slow())
    assert result.interrupted == signal.SIGTERM and Slow.asked == [False]
    assert load_checkpoint(result.checkpoint).state["figures"] == {"figure": 1.0}


def two_processes(
    out: Path, environment: dict[str, str] | None = None, **changes: Any
) -> "list[tuple[subprocess.Popen[str], str]]":
    """Both processes of a run, ended, and what each of them said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared |= {"ACCELERATE_USE_CPU": "true"} | (environment or {})
    children = [
        start_child(out, environment={"RANK": str(rank), "LOCAL_RANK": str(rank)} | shared, **changes)
        for rank in range(2)
    ]
    return [(child, child.communicate(timeout=100)[0]) for child in children]


class Stopper:
    """Finds a run of no use as soon as it is asked."""

    def figures(self, *, saving: bool) -> dict[str, float]:
        return {}

    def line(self, figures: Mapping[str, float]) -> str:
        return ""

    def check(self, figures: Mapping[str, float], done: float) -> str | None:
        raise StateError("no use")

    def pictures(self) -> dict[str, Any]:
        return {}


def start_child(
    out: Path, environment: dict[str, str] | None = None, **changes: Any
) -> "subprocess.Popen[str]":
    words = [f"{name}={value}" for name, value in changes.items()]
    return subprocess.Popen(
        [sys.executable, __file__, str(out), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | (environment or {}),
    )


def child(out: Path, changes: dict[str, Any]) -> int:
    objective, clips = toy(), ToyClips()
    watch = Stopper() if os.environ.get("STOP") else None
    try:
        result = train(objective, clips, config(**changes), out, describe=DESCRIBE, watch=watch)
    except StateError as error:
        print(error)
        return 9
    if result.interrupted is not None:
        return 128 + result.interrupted
    digest = hashlib.sha256()
    for tensor in objective.parameters():
        digest.update(tensor.detach().numpy().tobytes())
    report = {"losses": result.losses, "weights": digest.hexdigest(), "clips": clips.seen}
    out.with_name(f"{out.name}.{os.environ.get('RANK', 0)}.json").write_text(json.dumps(report))
    return 0


if __name__ == "__main__":
    words = (word.split("=") for word in sys.argv[2:])
    sys.exit(
        child(Path(sys.argv[1]), {name: int(v) if v.isdigit() else v for name, v in words}),
    )

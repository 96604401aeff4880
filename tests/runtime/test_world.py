"""A world loads what its bundle holds, in the precision asked for, and refuses what it cannot do."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from makers import ACTIONS, make_actions, make_config, make_model, make_pictures, make_world

from genie_rt.errors import BundleError, ConfigError, InputError, UnsupportedError
from genie_rt.export.bundle import write_bundle
from genie_rt.runtime.manifest import WEIGHTS
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

CONFIG = make_config()
PICTURES = make_pictures(CONFIG, 2)
LED_BY = make_actions(5)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "tiny"
    plans = {"default": Plan(passes=3), "best": Plan(passes=9, temperature=0.8)}
    write_bundle(
        out, name="tiny", config=CONFIG, weights=make_model(CONFIG, dtype=torch.float32).state_dict(),
        action_names=ACTIONS, default_action="stay", plans=plans, prompts=list(PICTURES), provenance={},
        model_card="# tiny\n", dtype="fp32",
    )  # fmt: skip
    return out


@pytest.fixture(scope="module")
def world(bundle: Path) -> World:
    return World.load(bundle, backend="reference")


def rollout(world: World) -> bytes:
    session = world.session(seed=1)
    session.reset(PICTURES[0])
    return b"".join(session.step(action).tobytes() for action in LED_BY)


def test_what_the_bundle_says_is_what_the_world_offers(world: World, bundle: Path) -> None:
    assert world.action_names == ACTIONS
    assert world.output_size == (6, 10)
    assert [path.parent.parent for path in world.prompts] == [bundle, bundle]
    for index in range(2):
        np.testing.assert_array_equal(world.prompt(index), PICTURES[index])
    assert world.bundle.name == "tiny" and world.dtype == "float32"


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_every_precision_computes_in_itself(bundle: Path, dtype: str) -> None:
    world = World.load(str(bundle), backend="reference", dtype=dtype)
    session = world.session()
    session.reset(PICTURES[0])
    frame = session.step(0)
    assert frame.shape == (6, 10, 3) and frame.dtype == np.uint8
    backend: Any = world.backend
    weights = {parameter.dtype for parameter in backend.model.parameters()}
    pages = {pool.dtype for pool in (backend.dynamics_pages, backend.encoder_pages, backend.decoder_pages)}
    assert weights == pages == {backend.table.dtype} == {getattr(torch, dtype)}


def test_the_weights_are_those_of_the_file(world: World) -> None:
    backend: Any = world.backend
    loaded, written = backend.model.state_dict(), make_model(CONFIG, dtype=torch.float32).state_dict()
    assert loaded.keys() == written.keys()
    assert all(torch.equal(loaded[name], written[name]) for name in written)
    assert not any(parameter.requires_grad for parameter in backend.model.parameters())


def test_what_happens_to_the_file_does_not_reach_a_loaded_world(bundle: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(bundle, tmp_path / "tiny"))
    before = World.load(folder)
    expected = rollout(before)
    after = World.load(folder)
    with (folder / WEIGHTS).open("r+b") as file:  # in place, as `cp` writes
        size = file.seek(0, 2)
        file.seek(size // 2)
        file.write(b"\xff" * (size - size // 2))
    assert rollout(before) == rollout(after) == expected


def test_steps_are_the_same_after_other_worlds_were_loaded(world: World, bundle: Path) -> None:
    expected = rollout(world)
    World.load(bundle, dtype="bfloat16"), World.load(bundle, dtype="float64")
    assert rollout(world) == expected


def test_a_session_takes_a_plan_by_name_as_data_and_with_changes(world: World) -> None:
    assert world.session().plan == Plan(passes=3)
    assert world.session(plan="best").plan == Plan(passes=9, temperature=0.8)
    assert world.session(plan=Plan(passes=5), noise=0.5).plan == Plan(passes=5, noise=0.5)
    assert world.session(passes=7, temperature=2.0).plan == Plan(passes=7, temperature=2.0)
    assert world.bundle.plans["default"] == Plan(passes=3)


def test_a_plan_by_name_as_data_and_with_changes_is_what_a_session_takes(world: World) -> None:
    assert world.plan() == Plan(passes=3)
    assert world.plan("best", passes=2) == Plan(passes=2, temperature=0.8)
    assert world.plan(Plan(passes=15)) == world.session(plan=Plan(passes=15)).plan
    with pytest.raises(InputError, match="default, best"):
        world.plan("fast")
    with pytest.raises(ConfigError, match="at most 15"):
        world.plan(Plan(passes=16))


@pytest.mark.parametrize("seed", [-1, 2**64, 1.0, True, "7", None])
def test_a_seed_that_is_none_is_refused(world: World, seed: Any) -> None:
    with pytest.raises(InputError, match=r"2\*\*64 - 1"):
        world.session(seed=seed)


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_64_bit_seed_can_be_played(world: World, seed: int) -> None:
    session = world.session(seed=seed)
    session.reset(PICTURES[0])
    session.step(0)
    assert session.seed == seed


def test_an_unknown_plan_is_refused_with_those_there_are(world: World) -> None:
    with pytest.raises(InputError, match=r"fast.*default, best"):
        world.session(plan="fast")
    for plan in (None, 4, {"passes": 4}):
        with pytest.raises(InputError, match="plan"):
            world.session(plan=plan)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"passes": 0}, "passes"),
        ({"passes": 2.5}, "passes"),
        ({"temperature": 0.0}, "temperature"),
        ({"noise": float("nan")}, "noise"),
        ({"order": "sorted"}, "order"),
        ({"pasess": 4}, "'passes'"),
        ({"steps": 4}, "'steps'"),
        ({"passes": 16}, "at most 15, the tokens of a frame"),
        ({"reuse": "passes"}, "random"),
    ],
)
def test_a_change_that_no_plan_can_have_is_refused(
    world: World, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        world.session(**changes)


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("sed", "did you mean 'seed'?"),
        ("target", "did you mean 'target_ms'?"),
        ("pases", "did you mean 'passes'?"),
        ("qqq", "valid keys are seed, plan, target_ms, order, passes, temperature"),
    ],
)
def test_an_argument_that_a_session_does_not_take_is_refused_with_the_nearest(
    world: World, key: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        world.session(**{key: 3})
    assert str(caught.value).startswith(f"World.session: unknown key {key!r}; {hint}")


def test_a_refused_field_of_a_plan_is_named_once(world: World) -> None:
    with pytest.raises(ConfigError, match=r"^Plan\.passes: expected a whole number from 1 to 4096, found 0$"):
        world.session(passes=0)
    with pytest.raises(ConfigError, match=r"^Plan\.passes: expected a whole number .*, found 2\.5$"):
        world.session(passes=2.5)


@pytest.mark.parametrize("index", [-1, 2, 100])
def test_a_prompt_that_the_bundle_lacks_is_refused(world: World, index: int) -> None:
    with pytest.raises(InputError, match="0 to 1"):
        world.prompt(index)


def test_a_world_without_prompts_says_so() -> None:
    with pytest.raises(InputError, match="no prompts"):
        make_world(CONFIG).prompt()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"backend": "tpu"}, "'tpu'.*reference"),
        ({"dtype": "float16"}, "'float16'.*float32"),
        ({"dtype": "fp32"}, "'fp32'.*float32"),
        ({"dtype": torch.float32}, "torch.float32.*float64"),
        ({"device": "toaster"}, "'toaster'.*cpu"),
        ({"device": "meta"}, "'meta'.*cpu"),
        ({"device": "mps"}, "'mps'.*cpu"),
        ({"device": ""}, "''.*cpu"),
        ({"device": "cuda:99"}, "'cuda:99'.*cpu"),
    ],
    ids=str,
)
def test_what_this_machine_cannot_do_is_refused(bundle: Path, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedError, match=message):
        World.load(bundle, **request_)


def test_a_bundle_that_is_none_is_refused(tmp_path: Path) -> None:
    for source in ("no such bundle", tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError):
            World.load(source)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_plays(bundle: Path) -> None:
    session = World.load(bundle, device="cuda").session(seed=1)
    session.reset(PICTURES[0])
    assert session.step(0).shape == (6, 10, 3)

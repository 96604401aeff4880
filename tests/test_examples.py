"""The examples play what genie_rt plays.

`examples/numpy_player.py` follows docs/model.md section by section, `examples/onnx_player.py` follows
docs/graphs.md. Neither imports genie_rt: what they compute is what the pages say.
"""

import importlib.util
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from makers import ACTIONS, make_actions, make_config, make_model, make_pictures
from PIL import Image

from genie_rt.export.bundle import write_bundle
from genie_rt.kernels.maskgit_sample.reference import gumbel, sample
from genie_rt.kernels.patchify.reference import to_uint8
from genie_rt.runtime.backends.exported.signature import signatures
from genie_rt.runtime.bundle import open_bundle
from genie_rt.runtime.config import ModelConfig
from genie_rt.runtime.model.world_model import parameter_shapes
from genie_rt.runtime.plan import Plan
from genie_rt.runtime.world import World

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "runtime" / "bundles" / "demo"
ORDERS = ("maskgit", "adaptive", "random", "halton")
PLAN = Plan(passes=3)
SEED = 2**63 + 2**32 + 5  # both words of the key matter, and its highest bit

MERGED = make_config(grid=(4, 6), merge=2, encoder_window=2, decoder_window=1)
"""Six positions of four tokens; 24 codes; every transformer has another window."""


def padded() -> ModelConfig:
    """A picture that no patch divides, decoded at another size, and a token for every position."""
    config = make_config(grid=(3, 4), encoder_window=3, decoder_window=2)
    return replace(config, tokenizer=replace(config.tokenizer, height=10, width=14, patch=4, decoder_patch=3))


def plain() -> ModelConfig:
    """None of the dynamics' switches."""
    config = make_config(grid=(4, 6), merge=2, window=1, decoder_window=3)
    off = {"tie_codebook": False, "previous_token": False, "copy_logit": False}
    return replace(config, dynamics=replace(config.dynamics, **off))


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def numpy_player() -> ModuleType:
    return example("numpy_player")


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ModelConfig], Path]:
    """A bundle of these sizes on disk, every weight of it random and its matrices in bf16."""

    @cache
    def write(config: ModelConfig) -> Path:
        out = tmp_path_factory.mktemp("tiny") / "bundle"
        write_bundle(
            out, name="tiny", config=config, weights=make_model(config).state_dict(), action_names=ACTIONS,
            default_action="stay", plans={"default": PLAN}, prompts=(), provenance={}, model_card="",
        )  # fmt: skip
        return out

    return write


@cache
def reference(folder: Path) -> World:
    return World.load(folder, backend="reference", dtype="float64")


def compare(
    numpy_player: ModuleType,
    folder: Path,
    plans: Sequence[Plan],
    pictures: Any,
    actions: Sequence[int],
    steps: Sequence[int],
) -> list[int]:
    """Plays the same in `reference` and in the example; tokens and pixels have to be equal.

    Args:
        plans: frame `t` is decoded by `plans[t % len(plans)]`.
        pictures, actions: the prompt. steps: the actions after it; their codes are what the example takes.

    Returns:
        The passes that each frame took.
    """
    session, player, passes = reference(folder).session(seed=SEED), numpy_player.Player(folder), []
    codes = session.world.bundle.action_codes
    shown = player.reset(pictures, [codes[action] for action in actions], seed=SEED)
    assert np.array_equal(session.reset(pictures, actions), shown)
    assert session.row.tokens.tolist() == player.tokens.tolist()
    for t, action in enumerate(steps):
        session.plan = plans[t % len(plans)]
        picture, expected = player.step(codes[action], asdict(session.plan)), session.step(action)
        assert player.tokens.tolist() == session.row.tokens.tolist(), f"frame {t}"
        assert np.array_equal(picture, expected), f"frame {t}"
        assert session.stats is not None
        passes.append(session.stats.passes)
    assert len(np.unique(player.tokens)) > 2  # a world in which something is to be seen
    return passes


@pytest.mark.parametrize("order", ORDERS)
def test_the_numpy_player_plays_every_order(
    order: str, numpy_player: ModuleType, bundle_of: Callable[[ModelConfig], Path]
) -> None:
    plans = [Plan(order=order, passes=passes, threshold=0.25) for passes in (1, 2, 4)]
    took = compare(numpy_player, bundle_of(MERGED), plans, make_pictures(MERGED, 3), [2, 0], make_actions(24))
    if order == "adaptive":
        assert len(set(took[2::3])) > 1
    else:
        assert took == [1, 2, 4] * 8


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("passes", [1, 2, 4])
def test_the_numpy_player_plays_every_order_for_long(
    order: str, passes: int, numpy_player: ModuleType, bundle_of: Callable[[ModelConfig], Path]
) -> None:
    plan = Plan(order=order, passes=passes, threshold=0.25)
    compare(numpy_player, bundle_of(MERGED), [plan], make_pictures(MERGED, 3), [2, 0], make_actions(60))


@pytest.mark.parametrize("config", [padded(), plain()], ids=["padded", "plain"])
def test_the_numpy_player_plays_models_of_other_kinds(
    config: ModelConfig, numpy_player: ModuleType, bundle_of: Callable[[ModelConfig], Path]
) -> None:
    plans = [Plan(passes=passes, temperature=0.7, noise=2.0) for passes in (3, 12)]  # 12: a token a pass
    compare(numpy_player, bundle_of(config), plans, make_pictures(config, 4), [1, 2, 0], make_actions(6))


@pytest.mark.parametrize(
    "plan",
    [
        Plan(order="random", passes=4, reuse="passes"),
        Plan(order="halton", passes=3, reuse="passes"),
        Plan(passes=3, reuse="frames", fresh=0.5),
        Plan(passes=2, reuse="frames", fresh=0.1),  # fewer tokens than its first pass should decide
    ],
    ids=["random", "halton", "maskgit", "few"],
)
def test_the_numpy_player_reuses(
    plan: Plan, numpy_player: ModuleType, bundle_of: Callable[[ModelConfig], Path]
) -> None:
    config = make_config(grid=(6, 8), merge=2)
    compare(numpy_player, bundle_of(config), [plan], make_pictures(config, 2), [1], make_actions(6))


def test_the_numpy_player_changes_plans(
    numpy_player: ModuleType, bundle_of: Callable[[ModelConfig], Path]
) -> None:
    frames = Plan(passes=2, reuse="frames", fresh=0.4)
    plans = [frames, frames, Plan(order="halton", passes=2), Plan(order="adaptive", passes=4)]
    compare(numpy_player, bundle_of(MERGED), plans, make_pictures(MERGED, 1), [], make_actions(12))


def test_what_hardly_ever_happens_is_as_the_page_says(numpy_player: ModuleType) -> None:
    """Numbers at a boundary, which no rollout of this length meets."""
    pixels = (torch.arange(-1, 514, dtype=torch.float64) / 255 - 1)[:, None]  # halves, to a rounding
    pixels = torch.cat([pixels.nextafter(torch.tensor(9.0)), pixels, pixels.nextafter(torch.tensor(-9.0))], 1)
    assert np.array_equal(numpy_player.to_uint8(pixels.numpy()), to_uint8(pixels).numpy())
    u = torch.tensor([0.0, 0.25, 0.5, 1 - 2.0**-24])
    assert np.allclose(numpy_player.gumbel(u.double().numpy()), gumbel(u).numpy(), rtol=1e-12)
    logits = torch.zeros(4, 4, dtype=torch.float64)
    assert numpy_player.sample(logits.numpy(), u.numpy(), 1.0)[0].tolist() == [0, 1, 2, 3]
    assert sample(logits, u, 1.0)[0].tolist() == [0, 1, 2, 3]


def play_demo(numpy_player: ModuleType, passes: Sequence[int], orders: Sequence[str], steps: int) -> None:
    default = open_bundle(DEMO).plans["default"]
    plans = [replace(default, order=order, passes=count) for order in orders for count in passes]
    actions = np.random.default_rng(0).integers(0, 6, steps).tolist()
    compare(numpy_player, DEMO, plans, reference(DEMO).prompt(2)[None], [], actions)


def test_the_numpy_player_plays_the_demo(numpy_player: ModuleType) -> None:
    play_demo(numpy_player, [2], ORDERS, steps=4)


@pytest.mark.slow
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("passes", [1, 2, 4])
def test_the_numpy_player_plays_the_demo_for_long(order: str, passes: int, numpy_player: ModuleType) -> None:
    play_demo(numpy_player, [passes], [order], steps=8)


def play_graphs(module: ModuleType, world: World, plan: str) -> None:
    session, player = world.session(seed=SEED, plan=plan), module.Player(DEMO, plan, torch.get_num_threads())
    picture = world.prompt(1)
    assert np.array_equal(player.reset(picture, seed=SEED), session.reset(picture))
    for t, action in enumerate(np.random.default_rng(0).integers(0, 6, 16).tolist()):
        code = world.bundle.action_codes[action]
        assert np.array_equal(player.step(code), session.step(action)), f"frame {t}"
        assert player.tokens[0].tolist() == session.row.tokens.tolist(), f"frame {t}"


@pytest.fixture(scope="module")
def onnx_player() -> ModuleType:
    pytest.importorskip("onnxruntime")
    return example("onnx_player")


@pytest.fixture(scope="module")
def onnx_world(onnx_player: ModuleType) -> World:
    return World.load(DEMO, backend="onnx", dtype="float32")


def test_the_onnx_player_plays_the_frames_of_the_onnx_back_end(
    onnx_player: ModuleType, onnx_world: World
) -> None:
    play_graphs(onnx_player, onnx_world, "default")


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["quality", "balanced", "fast"])
def test_the_onnx_player_plays_every_plan(plan: str, onnx_player: ModuleType, onnx_world: World) -> None:
    play_graphs(onnx_player, onnx_world, plan)


@pytest.mark.slow
def test_the_contract_tells_of_longer_prompts_and_of_frames_pass_by_pass(
    onnx_player: ModuleType, onnx_world: World
) -> None:
    """As docs/graphs.md says it: three pictures, then frames of a plan that has no graph of its own."""
    plan, led_by = replace(onnx_world.bundle.plans["default"], passes=3), [-1, 1, 5, 1, 1, 3, 0]
    codes = (*onnx_world.bundle.action_codes, -1)  # -1, no action, stays -1
    pictures = np.stack([np.roll(onnx_world.prompt(0), 3 * t, axis=1) for t in range(3)])
    session = onnx_world.session(seed=SEED, plan=plan)
    names, past = ("encode", "decode", "commit", "pass"), onnx_player.past
    encode, decode, commit, one_pass = (
        onnx_player.Graph(DEMO / f"{name}.onnx", torch.get_num_threads()) for name in names
    )
    seen, shown, pages = (graph.blank_pages() for graph in (encode, decode, commit))
    tokens = np.empty((1, 256), np.int64)
    for t, action in enumerate(led_by):
        last = tokens
        if t > 0:
            page = commit.run(tokens=last, action=np.array([codes[led_by[t - 1]]]), **past(pages, t - 1))[
                "page"
            ]
            pages = [page, *pages][: len(pages)]
        if t < len(pictures):
            found = encode.run(frame=pictures[t : t + 1], **past(seen, t))
            tokens, seen = found["tokens"], [found["page"], *seen][: len(seen)]
        else:
            tokens = np.full_like(last, -1)
            u, noise_u = onnx_player.uniforms(SEED, plan.passes, 256, t)
            gumbel_noise = -np.log(-np.log(noise_u.astype(np.float64) + 2.0**-25)).astype(np.float32)
            for k in range(plan.passes):
                found = one_pass.run(
                    tokens=tokens, previous=last, action=np.array([codes[action]]), u=u[k : k + 1],
                    temperature=np.array([plan.temperature], np.float32), **past(pages, t),
                )  # fmt: skip
                noise = np.float32(plan.noise * (1 - (k + 1) / plan.passes)) * gumbel_noise[k]
                confidence = np.where(tokens[0] < 0, np.log(found["probability"][0]) + noise, -np.inf)
                keep = plan.decided_after(k, 256) - int((tokens >= 0).sum())
                chosen = np.argsort(-confidence, kind="stable")[:keep]
                tokens[0, chosen] = found["candidates"][0, chosen]
        found = decode.run(tokens=tokens, **past(shown, t))
        shown = [found["page"], *shown][: len(shown)]
        if t >= len(pictures):
            assert np.array_equal(found["rgb"][0], session.step(action)), f"frame {t}"
            assert tokens[0].tolist() == session.row.tokens.tolist(), f"frame {t}"
        elif t == len(pictures) - 1:
            assert np.array_equal(found["rgb"][0], session.reset(pictures, led_by[1:3]))


@pytest.mark.parametrize("name", ["numpy_player", "onnx_player"])
def test_players_write_animations_and_know_nothing_of_genie_rt(name: str, tmp_path: Path) -> None:
    if name == "onnx_player":
        pytest.importorskip("onnxruntime")
    source = (ROOT / "examples" / f"{name}.py").read_text()
    assert not re.search(r"^\s*(import|from) genie_rt", source, re.MULTILINE)
    example(name).main(str(DEMO), str(tmp_path / "out.gif"), "right")
    with Image.open(tmp_path / "out.gif") as image:
        assert (image.size, image.n_frames) == ((64, 64), 2)  # type: ignore[attr-defined]


# What the pages name is what there is.


def test_the_page_of_the_model_names_every_tensor() -> None:
    page = (ROOT / "docs" / "model.md").read_text()
    for name in parameter_shapes(MERGED):
        spelled = re.sub(
            r".*\.blocks\.\d+\.|^(tokenizer\.\w+coder|dynamics\.transformer)(?=\.norm)", "", name
        )
        assert re.search(rf"(?<![\w.]){re.escape(spelled.lstrip('.'))}|PART{re.escape(spelled)}", page), name


def test_the_contract_on_the_page_is_the_graphs_contract() -> None:
    page = (ROOT / "docs" / "graphs.md").read_text().split("## Graphs")[1].split("##")[0]
    rows = re.findall(r"^\| `([a-zA-Z-]+)` \| (.*) \| (.*) \|$", page, re.MULTILINE)
    said = {graph: [set(re.findall(r"`(\w+)`", cell)) for cell in cells] for graph, *cells in rows}
    said["pass-at"][0] |= said["pass"][0]
    said["pass-at"][0].discard("pass")
    plans = {order: Plan(order=order, passes=2) for order in ORDERS}
    for name, signature in signatures(MERGED, "float32", plans).items():
        inputs, outputs = said["frame-PLAN" if name.startswith("frame-") else name]
        dropped = {"gumbel"} if name in ("frame-random", "frame-halton") else set()
        dropped |= {"order"} if name.startswith("frame-") and name != "frame-random" else set()
        past = {key for key in signature.inputs if re.fullmatch(r"(picture_)?(num_past|past_\d+)", key)}
        assert signature.inputs.keys() - past == inputs - dropped, name
        assert signature.outputs.keys() == outputs | {"checksum"}, name


def test_long_play_shows_the_frames_of_the_steps_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    demo = World.load(DEMO, backend="reference")
    out = tmp_path / "strip.png"
    monkeypatch.setattr("sys.argv", ["long_play.py", "--steps", "4", "--seed", "3", "--out", str(out)])
    monkeypatch.setattr("genie_rt.World.load", lambda name: demo)
    example("long_play").main()
    session, random = demo.session(seed=3), np.random.default_rng(3)
    frames = [session.reset(demo.prompt(0))]
    frames += [session.step(int(random.integers(len(demo.action_names)))) for _ in range(4)]
    with Image.open(out) as strip:
        shown = np.asarray(strip)[::2, ::2]
    np.testing.assert_array_equal(shown, np.concatenate(frames, axis=1))  # steps 0 to 4 are all shown
    assert f"step      4: spread {frames[4].std():5.1f}" in capsys.readouterr().out


# The scripts that show the Python interface.


def run_script(name: str, arguments: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", [f"{name}.py", *arguments.split()])
    monkeypatch.setattr("genie_rt.World.load", lambda *_, **__: world)
    example(name).main()


@pytest.fixture(scope="module")
def demo() -> World:
    return World.load(DEMO, backend="reference")


def test_play_saves_the_frames_of_its_actions(
    demo: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_script("play", f"--actions right jump --out {tmp_path / 'frames'}", demo, monkeypatch)
    session = demo.session(seed=7)
    frames = [session.reset(demo.prompt(0)), session.step("right"), session.step("jump")]
    files = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in files] == ["000-start.png", "001-right.png", "002-jump.png"]
    for path, frame in zip(files, frames, strict=True):
        with Image.open(path) as image:
            np.testing.assert_array_equal(np.asarray(image), frame)


def test_branch_and_plan_moves_on_by_what_it_planned(
    demo: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_script("branch_and_plan", "--moves 1 --horizon 2 --candidates 2", demo, monkeypatch)
    printed = capsys.readouterr().out
    assert "gives the same frame: True" in printed
    assert "at frame 1" in printed


def test_many_players_come_and_go(
    demo: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_script("many_players", "--players 2 --steps 2", demo, monkeypatch)
    assert capsys.readouterr().out.splitlines() == [
        "2 players at frame 2",
        "2 of 2 slots taken; the guest is at frame 3",
    ]


@pytest.mark.parametrize("mode", ["", "--adaptive"])
def test_the_engine_loop_shows_every_frame(
    mode: str, demo: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_script("engine_loop", f"--frames 2 --fps 1000 {mode}", demo, monkeypatch)
    assert capsys.readouterr().out.startswith("2 frames at 1000 Hz: ")


def test_the_examples_page_names_every_example() -> None:
    page = (ROOT / "examples" / "README.md").read_text()
    named = re.findall(r"^\| `python examples/(\w+)\.py", page, re.MULTILINE)
    assert sorted(named) == sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


def test_the_world_of_another_game_plays() -> None:
    """Its jump, which nobody told it of, lifts the red square from the ground."""
    world = World.load(ROOT / "examples" / "worlds" / "little-game", backend="reference")
    height = {}
    for name in ("stay", "jump"):
        session = world.session(seed=0)
        session.reset(world.prompt(1))
        for _ in range(4):
            frame = session.step(name).astype(int)
        red = (frame[..., 0] > 190) & (frame[..., 1] < 80)
        height[name] = 63 - float(np.argwhere(red)[:, 0].mean())
    assert height["jump"] > height["stay"] + 8

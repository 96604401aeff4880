"""The kernel sums the rows that its reference sums, and stays inside its memory."""

from typing import Any

import pytest
import torch
from comparator import assert_close_norm
from guards import guarded, guards
from makers import make_config
from torch import Tensor

pytest.importorskip("triton", reason="the kernels need Triton")

from genie_rt.errors import GenieError, InputError, UnsupportedError
from genie_rt.kernels.embed_tokens import embed_tokens as operator
from genie_rt.kernels.embed_tokens import reference
from genie_rt.kernels.embed_tokens.cases import EMBEDDING, Inputs, cases, make_members, make_tokens
from genie_rt.kernels.embed_tokens.cases import make_inputs as make_inputs_on
from genie_rt.kernels.embed_tokens.kernel import (
    AUTOTUNE_SPACE,
    DECODER_WIDTHS,
    KERNEL,
    cost,
    embed_tokens,
)
from genie_rt.kernels.launch import Config, Kernel, Trial
from genie_rt.runtime.model.dynamics import Dynamics
from genie_rt.runtime.presets import PRESETS, preset

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = [torch.float32, torch.float16]
if torch.cuda.is_available():
    DTYPES.append(torch.bfloat16)  # the interpreter gets it wrong

NUMBERS = ("token_rows", "previous_rows", "position", "action_rows")

SHAPES: dict[str, dict[str, Any]] = {
    "one of all": {"num_frames": 1, "grid": (1, 1), "num_codes": 1, "width": 1, "num_actions": 0},
    "odd": {"num_frames": 3, "grid": (3, 5), "num_codes": 10, "width": 37},
    "merged": {"num_frames": 2, "grid": (4, 6), "merge": 2, "num_codes": 33, "width": 192},
    "nine slots": {"num_frames": 2, "grid": (3, 6), "merge": 3, "num_codes": 7, "width": 100},
    "sixteen slots": {"num_frames": 1, "grid": (4, 4), "merge": 4, "num_codes": 5, "width": 520},
    "wide": {"num_frames": 1, "grid": (1, 1), "num_codes": 3, "width": 5120},
    "decoder": {"num_frames": 2, "grid": (3, 5), "width": 128, "decided": 1.0, "decoder": True},
}


def make_inputs(dtype: torch.dtype = torch.float32, **sizes: Any) -> Inputs:
    """As the cases', with some places that had no token."""
    inputs = make_inputs_on(dtype, torch.device(DEVICE), **sizes)
    if inputs.previous is not None:
        inputs.previous.flatten()[1::3] = -1
    return inputs


def make_whole(inputs: Inputs) -> Inputs:
    """Small whole numbers in all tables: their sums are exact in every dtype and order."""

    def whole(x: Tensor | None) -> Tensor | None:
        return None if x is None else (8 * x).round().clamp(-32, 32)

    return inputs._replace(**{name: whole(getattr(inputs, name)) for name in NUMBERS})


def expected_of(inputs: Inputs) -> Tensor:
    """The reference in fp64."""
    wide = {name: getattr(inputs, name) for name in NUMBERS}
    wide = {name: None if x is None else x.double() for name, x in wide.items()}
    return reference.embed_tokens(*inputs._replace(**wide))


def check(inputs: Inputs, **options: Any) -> None:
    out = embed_tokens(*inputs, **options)
    assert out.dtype == inputs.token_rows.dtype
    assert_close_norm(out, expected_of(inputs))


def check_whole(inputs: Inputs, **options: Any) -> None:
    """One wrong row, or one twice, would be seen in every bit."""
    whole = make_whole(inputs)
    assert torch.equal(embed_tokens(*whole, **options).double(), expected_of(whole))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHAPES)
def test_kernel_is_its_reference(dtype: torch.dtype, name: str) -> None:
    inputs = make_inputs(dtype, **SHAPES[name])
    check(inputs)
    check_whole(inputs)


@pytest.mark.parametrize("decided", [0.0, 1.0])
@pytest.mark.parametrize(("has_previous", "has_actions"), [(True, False), (False, True), (False, False)])
def test_previous_tokens_and_actions_are_optional(
    decided: float, has_previous: bool, has_actions: bool
) -> None:
    inputs = make_inputs(**SHAPES["merged"] | {"decided": decided})
    if not has_previous:
        inputs = inputs._replace(previous=None, previous_rows=None)
    if not has_actions:
        inputs = inputs._replace(actions=None, action_rows=None)
    check_whole(inputs)


def test_a_subset_of_the_positions_is_their_rows() -> None:
    inputs = make_whole(make_inputs(**SHAPES["merged"]))
    chosen = torch.tensor([4, 0, 3], device=DEVICE)
    part = inputs._replace(position=inputs.position[chosen], members=inputs.members[chosen])
    assert torch.equal(embed_tokens(*part), embed_tokens(*inputs)[:, chosen])


def test_numbers_are_summed_in_fp32_and_rounded_once() -> None:
    inputs = make_inputs(torch.float16, num_frames=1, grid=(4, 4), merge=4, width=4, decided=0.0)
    for name, value in zip(NUMBERS, (0.25, 0.125, 2048.0, 0.5), strict=True):
        getattr(inputs, name).fill_(value)
    assert inputs.previous is not None
    inputs.previous.fill_(0)
    # 2048 + 0.5 + 16 * 0.375 = 2054.5 in steps of 2; with a rounding at each addition it stays 2048
    assert embed_tokens(*inputs).tolist() == [[[2054] * 4]]


def out_of_range(inputs: Inputs) -> Inputs:
    """The same function of indices that lead nowhere."""
    assert inputs.previous is not None and inputs.actions is not None and inputs.action_rows is not None
    num_codes, null = inputs.token_rows.shape[1] - 1, len(inputs.action_rows) - 1
    nowhere = torch.tensor([num_codes, num_codes + 1, 2**40, -7, -(2**63), 2**63 - 1], device=DEVICE)
    wrong = nowhere.repeat(inputs.tokens.numel() // len(nowhere) + 1)[: inputs.tokens.numel()]
    wrong = wrong.view(inputs.tokens.shape)
    actions = torch.tensor([null, -5, 2**40, null + 1], device=DEVICE)[: len(inputs.actions)]
    return inputs._replace(
        tokens=inputs.tokens.where(inputs.tokens >= 0, wrong),
        previous=inputs.previous.where(inputs.previous >= 0, wrong),
        actions=actions.where(inputs.actions < 0, inputs.actions),
    )


def test_an_index_out_of_range_counts_as_none_and_is_not_followed() -> None:
    inputs = make_whole(make_inputs(num_frames=4, grid=(4, 6), merge=2, num_codes=9, width=64, num_actions=1))
    inputs = inputs._replace(actions=torch.tensor([-1, 0, -1, -1], device=DEVICE))
    expected = expected_of(inputs)
    wrong = out_of_range(inputs)
    assert torch.equal(expected_of(wrong), expected)
    held = [guarded(x)[0] for x in wrong if x is not None]  # NaN around every table
    assert torch.equal(embed_tokens(*held).double(), expected)


@pytest.mark.parametrize("member", [-1, 24, -(2**31), 2**31 - 1])
def test_a_member_that_is_no_token_counts_as_undecided(member: int) -> None:
    inputs = make_whole(make_inputs(**SHAPES["merged"]))
    inputs.members[1, 2] = member
    assert torch.equal(embed_tokens(*inputs).double(), expected_of(inputs))


def test_rows_that_do_not_count_may_be_anything() -> None:
    inputs = make_whole(make_inputs(num_frames=2, grid=(3, 4), num_codes=30, width=32))
    assert inputs.previous is not None and inputs.previous_rows is not None
    expected = expected_of(inputs)
    seen = torch.zeros(30, dtype=torch.bool, device=DEVICE)
    seen[inputs.previous[(inputs.tokens < 0) & (inputs.previous >= 0)]] = True
    assert (~seen).any()
    inputs.previous_rows[:, ~seen] = torch.nan
    assert torch.equal(embed_tokens(*inputs).double(), expected)


@pytest.mark.parametrize("name", ["odd", "merged", "wide", "decoder"])
def test_nothing_outside_is_read_or_written(name: str) -> None:
    inputs = make_whole(make_inputs(torch.float16, **SHAPES[name]))
    expected = expected_of(inputs)
    before = [None if x is None else x.clone() for x in inputs]
    pairs = [None if x is None else guarded(x) for x in inputs]
    held = [None if pair is None else pair[0] for pair in pairs]
    out, whole = guards(*expected.shape, dtype=torch.float16, device=DEVICE)
    assert embed_tokens(*held, out=out) is out
    assert torch.equal(out.double(), expected)
    assert whole() and all(pair[1]() for pair in pairs if pair is not None)
    for x, was in zip(held, before, strict=True):
        assert x is None or torch.equal(x, was)


def test_memory_that_is_not_aligned_will_do() -> None:
    inputs = make_inputs(torch.float16, **SHAPES["merged"])
    moved = {name: guarded(getattr(inputs, name), room=6)[0] for name in NUMBERS}
    moved |= {name: guarded(getattr(inputs, name), room=8)[0] for name in ("tokens", "previous", "actions")}
    check_whole(inputs._replace(**moved, members=guarded(inputs.members, room=4)[0]))


def test_nan_stays_in_its_position() -> None:
    inputs = make_inputs(num_frames=2, grid=(2, 3), width=64)
    inputs.position[4, 5] = torch.nan
    bad = torch.zeros(2, 6, 64, dtype=torch.bool, device=DEVICE)
    bad[:, 4, 5] = True
    assert torch.equal(embed_tokens(*inputs).isnan(), bad)


@pytest.mark.parametrize("config", AUTOTUNE_SPACE, ids=str)
def test_every_configuration_is_right(config: Config) -> None:
    for name in ("odd", "sixteen slots"):
        check_whole(make_inputs(torch.float16, **SHAPES[name]), config=config)


FRAME = {"num_frames": 2, "grid": (2, 4), "merge": 2, "num_codes": 3, "width": 8, "num_actions": 2}
"""Of the refusals below: F=2, N=8, P=2, S=4, V=3, D=8, A=2."""


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"tokens": torch.zeros(2, 8, dtype=torch.int32)}, UnsupportedError),
        ({"tokens": torch.zeros(8, dtype=torch.int64)}, InputError),
        ({"tokens": torch.zeros(8, 2, dtype=torch.int64).T}, InputError),
        ({"tokens": torch.zeros(0, 8, dtype=torch.int64)}, UnsupportedError),
        ({"tokens": torch.zeros(2, 0, dtype=torch.int64)}, UnsupportedError),
        ({"tokens": torch.zeros(2, 7, dtype=torch.int64)}, UnsupportedError),  # fewer than P * S
        ({"tokens": torch.zeros(3, 8, dtype=torch.int64)}, InputError),
        ({"previous": None}, InputError),
        ({"previous_rows": None}, InputError),
        ({"previous": torch.zeros(2, 9, dtype=torch.int64)}, InputError),
        ({"previous": torch.zeros(2, 8)}, UnsupportedError),
        ({"previous": torch.zeros(8, 2, dtype=torch.int64).T}, InputError),
        ({"previous": torch.zeros(2, 8, dtype=torch.int64, device="meta")}, InputError),
        ({"actions": None}, InputError),
        ({"action_rows": None}, InputError),
        ({"actions": torch.zeros(3, dtype=torch.int64)}, InputError),
        ({"actions": torch.zeros(2, 1, dtype=torch.int64)}, InputError),
        ({"actions": torch.zeros(2, dtype=torch.int32)}, UnsupportedError),
        ({"token_rows": torch.zeros(4, 4, 8, dtype=torch.float64)}, UnsupportedError),
        ({"token_rows": torch.zeros(4, 4, 8, dtype=torch.float16)}, UnsupportedError),  # unlike the others
        ({"token_rows": torch.zeros(3, 4, 8)}, InputError),
        ({"token_rows": torch.zeros(4, 5, 8)}, InputError),
        ({"token_rows": torch.zeros(4, 4, 7)}, InputError),
        ({"token_rows": torch.zeros(4, 8)}, InputError),
        ({"token_rows": torch.zeros(4, 8, 4).mT}, InputError),
        ({"token_rows": torch.zeros(4, 1, 8)}, UnsupportedError),
        ({"token_rows": torch.zeros(4, 4, 0)}, UnsupportedError),
        ({"token_rows": torch.zeros(17, 4, 8)}, UnsupportedError),
        ({"token_rows": torch.zeros(1, 65538, 1)}, UnsupportedError),
        ({"token_rows": torch.zeros(1, 2, 16385)}, UnsupportedError),
        ({"previous_rows": torch.zeros(4, 4, 8)}, InputError),
        ({"previous_rows": torch.zeros(4, 3, 8, dtype=torch.float16)}, UnsupportedError),
        ({"previous_rows": torch.zeros(4, 8, 3).mT}, InputError),
        ({"position": torch.zeros(3, 8)}, UnsupportedError),  # more than there are tokens for
        ({"position": torch.zeros(1, 8)}, InputError),
        ({"position": torch.zeros(0, 8)}, UnsupportedError),
        ({"position": torch.zeros(2, 7)}, InputError),
        ({"position": torch.zeros(8, 2).T}, InputError),
        ({"position": torch.zeros(2, 8, dtype=torch.bfloat16)}, UnsupportedError),
        ({"action_rows": torch.zeros(3, 7)}, InputError),
        ({"action_rows": torch.zeros(0, 8)}, UnsupportedError),
        ({"action_rows": torch.zeros(3, 8, dtype=torch.float16)}, UnsupportedError),
        ({"action_rows": torch.zeros(3, 8, device="meta")}, InputError),
        ({"members": torch.zeros(2, 4, dtype=torch.int64)}, UnsupportedError),
        ({"members": torch.zeros(2, 3, dtype=torch.int32)}, InputError),
        ({"members": torch.zeros(4, 2, dtype=torch.int32).T}, InputError),
        ({"out": torch.zeros(2, 2, 7)}, InputError),
        ({"out": torch.zeros(2, 2, 8, dtype=torch.float16)}, UnsupportedError),
        ({"out": torch.zeros(2, 8, 2).mT}, InputError),
        ({"out": torch.zeros(2, 2, 8, device="meta")}, InputError),
    ],
    ids=str,
)
def test_what_it_cannot_take_is_refused(changes: dict[str, Any], error: type[GenieError]) -> None:
    given: dict[str, Any] = make_inputs(**FRAME)._asdict()
    given["out"] = torch.full((2, 2, 8), 7.0, device=DEVICE)
    out = given["out"]
    for name, value in changes.items():
        moved = isinstance(value, Tensor) and value.device.type == "cpu"
        given[name] = value.to(DEVICE) if moved else value
    with pytest.raises(error, match="expected"):
        embed_tokens(**given)
    assert (out == 7).all()


def test_as_many_frames_as_the_grid_holds() -> None:
    inputs = make_inputs(**FRAME)
    row = torch.zeros(1, 8, dtype=torch.int64, device=DEVICE)
    with pytest.raises(UnsupportedError, match="frames: expected 1 to 1048576, found 1048577"):
        embed_tokens(*inputs._replace(tokens=row.expand(2**20 + 1, 8).contiguous()))


@pytest.mark.parametrize("name", Inputs._fields)
def test_an_output_that_overlaps_an_input_is_refused(name: str) -> None:
    inputs = make_whole(make_inputs(**FRAME))
    x = getattr(inputs, name)
    memory = torch.zeros(2 * 2 * 8 + x.nbytes // 4, device=DEVICE)
    inside = memory[-(x.nbytes // 4) :].view(x.dtype).view(x.shape).copy_(x)
    was = memory.clone()
    inputs = inputs._replace(**{name: inside})
    apart = memory[:32].view(2, 2, 8)
    with pytest.raises(InputError, match=f"out: .* overlaps that of {name}"):
        embed_tokens(*inputs, out=memory[2:34].view(2, 2, 8))
    assert torch.equal(memory.view(torch.uint8), was.view(torch.uint8))  # indices look like NaN
    assert torch.equal(embed_tokens(*inputs, out=apart).double(), expected_of(inputs))


@pytest.mark.parametrize("decoder", [False, True])
def test_operator_is_sound(decoder: bool) -> None:
    sizes = {**FRAME, "merge": 1, "decoder": decoder}
    given = tuple(None if x is None else x.cpu() for x in make_inputs(**sizes))
    torch.library.opcheck(operator, given)
    assert torch.equal(operator(*given), reference.embed_tokens(*given))


def test_compilation_sees_through_the_operator() -> None:
    inputs = make_inputs(**FRAME)
    compiled = torch.compile(lambda *given: 2 * operator(*given), fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*inputs), 2 * operator(*inputs))


def test_tokens_of_the_cases_meet_as_many_rows_as_their_cost_says() -> None:
    members = make_members(4, 6, 2)
    tokens, previous = make_tokens(3, 7, members, 0.5, torch.Generator().manual_seed(0))
    by_slot = tokens[:, members.long()].flatten(0, 1), previous[:, members.long()].flatten(0, 1)
    for token, before in zip(by_slot[0].T, by_slot[1].T, strict=True):
        assert int((token >= 0).sum()) == 9  # of 18, which is more than there are codes
        assert set(token.tolist()) == set(range(-1, 7))
        assert set(before[token < 0].tolist()) == set(range(7))
    rows = 4 * 7 + 4 + 4 * 7 + 3 + 6 + 3 * 6  # tokens, masks, previous, actions, position, output
    indices = 8 * (72 + 36 + 3) + 4 * 24
    found = cost(3, 6, 4, 7, 10, torch.float16, decided=36, actions=9)
    assert (found.flops, found.bytes) == (0, indices + 2 * 10 * rows)
    first = cost(1, 6, 1, 7, 10, torch.float32, decided=0, actions=9)
    assert first.bytes == 8 * (6 + 6 + 1) + 4 * 6 + 4 * 10 * (1 + 6 + 1 + 6 + 6)
    decoder = cost(1, 6, 1, 7, 10, torch.float32, decided=6, has_previous=False)
    assert decoder.bytes == 8 * 6 + 4 * 6 + 4 * 10 * (6 + 6 + 6)


@pytest.mark.parametrize(("grid", "merge"), [((4, 6), 2), ((3, 5), 1), ((6, 3), 3)])
def test_members_are_those_of_the_dynamics(grid: tuple[int, int], merge: int) -> None:
    config = make_config(grid=grid, merge=merge)
    with torch.device("meta"):
        dynamics = Dynamics(config)
    expected = dynamics._merge(torch.arange(grid[0] * grid[1]).view(1, 1, -1, 1))[0, 0]
    members = make_members(*grid, merge)
    assert members.dtype == torch.int32 and torch.equal(members, expected.int())


def test_sizes_are_those_of_the_presets() -> None:
    assert set(DECODER_WIDTHS) == set(PRESETS)
    for name, width in DECODER_WIDTHS.items():
        assert width == preset(name).tokenizer.decoder.width
        assert preset(name).dynamics.embedding_dim == EMBEDDING


def test_cases_are_right() -> None:
    """Of the smallest preset: a first pass, half of the tokens decided, and the decoder's input."""
    found = cases(torch.float32, torch.device(DEVICE))
    for kind in ("first pass", "half decided", "decoder"):
        case = next(found)
        assert case.name == f"demo B=1 {kind}"
        expected = case.reference()[0]
        assert_close_norm(case.run()[0], expected)
        for baseline in case.baselines.values():
            assert_close_norm(baseline(), expected)  # type: ignore[arg-type]


def test_every_case_launches_what_is_compiled_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run: sizes are those of the presets, too large for the interpreter."""
    launched = []
    monkeypatch.setattr(Kernel, "launch", lambda self, grid, *rest, **constants: launched.append(grid))
    variants = {variant.name for variant in KERNEL.variants}
    with Trial() as trial:
        for case in cases(torch.float16, torch.device(DEVICE)):
            case.run()
    assert {name for _, name in trial.asked} == {name for name in variants if name.startswith("fp16")}
    assert len(launched) == 30 and all(0 < grid[0] < 2**31 and 0 < grid[1] < 2**16 for grid in launched)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_operator_launches_the_kernel() -> None:
    sizes = {"num_frames": 4, "grid": (23, 40), "num_codes": 1024, "width": 5120, "num_actions": 8}
    inputs = make_inputs(torch.bfloat16, **sizes)
    assert_close_norm(operator(*inputs), expected_of(inputs))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_offsets_of_more_than_32_bits_are_right() -> None:
    """In a table and in the output."""
    sizes = {"grid": (4, 4), "merge": 4, "num_codes": 1, "width": 16384, "decided": 1.0, "decoder": True}
    inputs = make_inputs(torch.float16, num_frames=1, **sizes)
    rows = torch.zeros(16, 8201, 16384, dtype=torch.float16, device=DEVICE)
    rows[15, 8199] = 3
    out = embed_tokens(*inputs._replace(tokens=torch.full_like(inputs.tokens, 8199), token_rows=rows))
    assert rows.numel() > 2**31 and torch.equal(out[0], inputs.position + 3)
    del rows
    inputs = make_inputs(torch.float16, num_frames=2**17 + 1, **sizes)
    out = embed_tokens(*inputs)
    assert out.numel() > 2**31
    last = expected_of(inputs._replace(tokens=inputs.tokens[-1:]))
    assert_close_norm(out[-1:], last)

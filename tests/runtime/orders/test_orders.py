"""The orders that are known in advance: permutations, spread evenly, and drawn anew for every frame."""

import numpy as np
import pytest
import torch
from makers import decision_order, make_config

from genie_rt.kernels.philox.reference import STREAM_ORDER, uniforms
from genie_rt.runtime.orders import ORDERS, StaticOrder, position_tokens
from genie_rt.runtime.orders.halton import halton_order, radical_inverse
from genie_rt.runtime.plan import Plan

CONFIG = make_config(grid=(4, 6), merge=2)
STATIC = [name for name, order in ORDERS.items() if isinstance(order, StaticOrder)]
SEEDS, FRAMES = torch.tensor([1, 1, 2]), torch.tensor([5, 6, 5])


def order_of(order: str, reuse: str = "none") -> torch.Tensor:
    return decision_order(Plan(order=order, passes=2, reuse=reuse), CONFIG, SEEDS, FRAMES)


def test_radical_inverse_mirrors_the_digits() -> None:
    assert radical_inverse(np.arange(1, 7), 2).tolist() == [0.5, 0.25, 0.75, 0.125, 0.625, 0.375]
    np.testing.assert_allclose(radical_inverse(np.arange(1, 6), 3), [1 / 3, 2 / 3, 1 / 9, 4 / 9, 7 / 9])


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 7), (2, 3), (16, 16), (23, 40)])
def test_halton_order_visits_every_cell_once(rows: int, columns: int) -> None:
    assert sorted(halton_order(rows, columns).tolist()) == list(range(rows * columns))


def test_halton_order_begins_with_the_first_points_of_the_sequence() -> None:
    # (1/2, 1/3), (1/4, 2/3), (3/4, 1/9), (1/8, 4/9) on a grid of 4 x 9
    assert halton_order(4, 9)[:4].tolist() == [2 * 9 + 3, 1 * 9 + 6, 3 * 9 + 1, 0 * 9 + 4]


@pytest.mark.parametrize("share", [4, 16])
def test_any_first_part_of_the_halton_order_is_spread_evenly(share: int) -> None:
    first = halton_order(16, 16)[: 256 // share]
    quadrants = np.bincount(first // 128 * 2 + first % 16 // 8, minlength=4)
    assert quadrants.min() >= 0.7 * len(first) / 4 and quadrants.max() <= 1.3 * len(first) / 4


def test_tokens_of_a_position_are_its_square() -> None:
    assert position_tokens(CONFIG).tolist() == [
        [0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11], [12, 13, 18, 19], [14, 15, 20, 21], [16, 17, 22, 23],
    ]  # fmt: skip


@pytest.mark.parametrize("reuse", ["none", "passes"])
@pytest.mark.parametrize("order", STATIC)
def test_an_order_holds_every_token_once(order: str, reuse: str) -> None:
    for row in order_of(order, reuse).tolist():
        assert sorted(row) == list(range(24))


@pytest.mark.parametrize("order", STATIC)
def test_with_reuse_whole_positions_are_decided(order: str) -> None:
    members = {tuple(tokens) for tokens in position_tokens(CONFIG).tolist()}
    for row in order_of(order, "passes").tolist():
        assert {tuple(row[i : i + 4]) for i in range(0, 24, 4)} == members


def test_random_orders_differ_by_seed_and_frame_and_come_again() -> None:
    orders = order_of("random")
    assert len({tuple(row) for row in orders.tolist()}) == 3
    assert torch.equal(orders, order_of("random"))
    alone = decision_order(Plan(order="random", passes=2), CONFIG, SEEDS[1:2], FRAMES[1:2])
    assert torch.equal(alone[0], orders[1])
    u, _ = uniforms(SEEDS, FRAMES, 0, 24, STREAM_ORDER)
    assert (u.gather(1, orders).diff() >= 0).all()


def test_random_orders_are_fair() -> None:
    """Each token comes first about as often as any other."""
    many = torch.arange(4800)
    orders = decision_order(Plan(order="random", passes=2), CONFIG, many * 0 + 7, many)
    counts = torch.bincount(orders[:, 0], minlength=24)
    assert counts.min() > 140 and counts.max() < 260  # 200 expected, standard deviation 14


def test_the_halton_order_is_the_same_for_all_rows() -> None:
    orders = order_of("halton")
    assert orders.shape == (1, 24)
    assert orders[0].tolist() == halton_order(4, 6).tolist()

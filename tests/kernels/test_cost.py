"""Costs add up, and the roofline is whichever of the two is longer."""

from genie_rt.kernels.cost import Cost, total

RATES = {"flops_per_second": 100.0, "bytes_per_second": 10.0}


def test_costs_add_up() -> None:
    assert total([Cost(flops=1, bytes=2), Cost(flops=3, bytes=4)]) == Cost(flops=4, bytes=6)
    assert total([]) == Cost(flops=0, bytes=0)


def test_the_slower_of_the_two_bounds() -> None:
    heavy, wide = Cost(flops=1000, bytes=10), Cost(flops=10, bytes=1000)
    assert (heavy.seconds(**RATES), heavy.bound_by(**RATES)) == (10.0, "flops")
    assert (wide.seconds(**RATES), wide.bound_by(**RATES)) == (100.0, "bytes")

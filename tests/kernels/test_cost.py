"""The roofline is whichever of the two takes longer."""

from genie_rt.kernels.cost import Cost

RATES = {"flops_per_second": 100.0, "bytes_per_second": 10.0}


def test_the_slower_of_the_two_bounds() -> None:
    heavy, wide = Cost(flops=1000, bytes=10), Cost(flops=10, bytes=1000)
    assert (heavy.seconds(**RATES), heavy.bound_by(**RATES)) == (10.0, "flops")
    assert (wide.seconds(**RATES), wide.bound_by(**RATES)) == (100.0, "bytes")

"""Orders that follow the confidence of a pass's samples."""

from genie_rt.runtime.orders.base import RankedOrder


class Maskgit(RankedOrder):
    """The most confident first, in all passes of the plan (Bruce et al. 2024, section 2.2)."""

    name = "maskgit"
    reuses = ("frames",)


class Adaptive(RankedOrder):
    """As `Maskgit`, in as many passes as the frame needs: where little moves these are few."""

    name = "adaptive"
    adapts = True


RANKED: tuple[RankedOrder, ...] = (
    Maskgit(),
    Adaptive(),
)

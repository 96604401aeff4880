"""Orders in which a frame's tokens are decided. A new one is a class in a module here, and a line below."""

from collections.abc import Mapping
from types import MappingProxyType

from genie_rt.runtime.orders.base import Order, RankedOrder, StaticOrder, position_tokens
from genie_rt.runtime.orders.halton import Halton
from genie_rt.runtime.orders.ranked import RANKED
from genie_rt.runtime.orders.shuffled import Random

__all__ = ["ORDERS", "Order", "RankedOrder", "StaticOrder", "position_tokens"]

_ALL: tuple[Order, ...] = (
    *RANKED,
    Random(),
    Halton(),
)

ORDERS: Mapping[str, Order] = MappingProxyType({order.name: order for order in _ALL})
"""By name, in the order in which messages list them."""

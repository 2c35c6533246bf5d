"""How often somebody may ask: an even pace, with a minute's reserve for bursts.

By the generic cell rate algorithm (ITU-T I.371, annex A).
"""

import time
from collections.abc import Callable
from ipaddress import IPv6Address

MOST_KEYS = 10_000  # that are remembered before those with a full reserve are forgotten
RESERVE_SECONDS = 60.0


class Pace:
    """`a_minute` requests a minute for each key, and those of `reserve` seconds at once. One number a key; used by one
    thread, the event loop's."""

    def __init__(
        self, a_minute: int, clock: Callable[[], float] = time.monotonic, reserve: float = RESERVE_SECONDS
    ) -> None:
        self._step = 60.0 / a_minute
        self._reserve = reserve
        self._clock = clock
        self._full: dict[str, float] = {}  # when the key's reserve is full again

    def wait(self, key: str) -> float:
        """Seconds until the key may ask; 0 if it may now, and then this counts."""
        now = self._clock()
        full = max(self._full.get(key, now), now) + self._step
        wait = full - now - self._reserve
        if wait > self._step / 1000:  # more than rounding
            return wait
        if len(self._full) >= MOST_KEYS:
            self._full = {one: when for one, when in self._full.items() if when > now}
        self._full[key] = full
        return 0.0


def network(address: str) -> str:
    """The address, of IPv6 the half that names a network: whoever has one address there has them all.

    An IPv4 address that a proxy wrote as one of IPv6 (::ffff:192.0.2.1) is the IPv4 address.
    """
    if ":" not in address:
        return address
    try:
        found = IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped) if found.ipv4_mapped else found.exploded[:19]

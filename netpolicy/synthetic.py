"""Addresses that stand for names inside one session."""

from __future__ import annotations

# RFC 2544 sets 198.18.0.0/15 apart for benchmarks; the /48 is a unique local prefix (RFC 4193).
V4_FIRST = 0xC6120000
V6_FIRST = 0xFD5B9A7C31E0 << 80
SPAN = 1 << 17
RESERVED = 256  # addresses at the start that never stand for a name
RESOLVER_V4 = "198.18.0.1"
RESOLVER_V6 = "fd5b:9a7c:31e0::1"


class SyntheticNames:
    """A bounded two-way table; the name that was asked for longest ago makes room.

    A name has one place, which gives its IPv4 and its IPv6 address. Places are handed out in turn, so one
    that was given up is not used again soon.
    """

    def __init__(self, capacity: int = 16_384) -> None:
        if not 0 < capacity <= SPAN - RESERVED:
            raise ValueError("capacity exceeds the address range")
        self._capacity = capacity
        self._place: dict[str, int] = {}
        self._name: dict[int, str] = {}
        self._next = RESERVED

    def addresses(self, name: str) -> tuple[bytes, bytes]:
        """The packed IPv4 and IPv6 address of a canonical name, given to it now if it has none."""
        place = self._place.pop(name, None)
        if place is None:
            place = self._free_place()
            self._name[place] = name
        self._place[name] = place
        return (V4_FIRST + place).to_bytes(4, "big"), (V6_FIRST + place).to_bytes(16, "big")

    def name_at(self, packed: bytes) -> str | None:
        """The name that a packed IPv4 or IPv6 address stands for."""
        first = V4_FIRST if len(packed) == 4 else V6_FIRST
        return self._name.get(int.from_bytes(packed, "big") - first)

    def __len__(self) -> int:
        return len(self._place)

    def _free_place(self) -> int:
        if len(self._place) >= self._capacity:
            oldest = next(iter(self._place))
            del self._name[self._place.pop(oldest)]
        while self._next in self._name:
            self._advance()
        place = self._next
        self._advance()
        return place

    def _advance(self) -> None:
        self._next += 1
        if self._next >= SPAN:
            self._next = RESERVED

"""Which names the session's look-ups led to which addresses, for records; and where look-ups go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

CAPACITY = 16_384

NameServers = Callable[[], Sequence[tuple[str, int]]]
"""The host's name servers, as (address, port), in the order in which they are asked."""


class RecentNames:
    """A bounded table from addresses to the name that was last answered with each."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._names: dict[str, str] = {}

    def learn(self, name: str, addresses: Sequence[str]) -> None:
        for address in addresses:
            self._names.pop(address, None)
            if len(self._names) >= self._capacity:
                del self._names[next(iter(self._names))]
            self._names[address] = name

    def name_of(self, address: str) -> str | None:
        return self._names.get(address)

    def __len__(self) -> int:
        return len(self._names)


def parse_name_servers(text: str) -> list[tuple[str, int]]:
    """The name servers of a resolv.conf(5); this machine's own when it names none."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            found.append((words[1], 53))
    return found[:3] or [("127.0.0.1", 53)]

"""Which names the session's look-ups led to which addresses, for records; and where look-ups go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

CAPACITY = 16_384

NameServers = Callable[[], Sequence[tuple[str, int]]]
"""The host's name servers, as (address, port), in the order in which they are asked."""


class RecentNames:
    """A bounded table from addresses to the name that was last answered with each, and whether others were, too."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._names: dict[str, str] = {}
        self._shared: set[str] = set()

    def learn(self, name: str, addresses: Sequence[str]) -> None:
        for address in addresses:
            if self._names.pop(address, name) != name:
                self._shared.add(address)
            if len(self._names) >= self._capacity:
                oldest = next(iter(self._names))
                del self._names[oldest]
                self._shared.discard(oldest)
            self._names[address] = name

    def name_of(self, address: str) -> str | None:
        return self._names.get(address)

    def siblings(self, address: str) -> list[str]:
        """The other family's addresses of the one name that led to this address; none where several names did."""
        name = self._names.get(address)
        if name is None or address in self._shared:
            return []
        six = ":" in address
        return [each for each, known in self._names.items() if known == name and (":" in each) != six]

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

"""A session's events as they happen, for a thread that waits for them."""

import threading
from collections.abc import Callable, Iterator

from sandbox.managed import events, records
from sandbox.managed.database import Document, load
from sandbox.managed.failures import Refused
from sandbox.managed.service import Service

_MOST = 100
# A session that is gone without a word is noticed after this.
_LOOK_S = 5.0


def until_idle(service: Service, identifier: str, number: int) -> Iterator[Document]:
    """What happened after the event ``number``, until the session rests and nothing is queued."""

    def rests() -> bool:
        return records.read(service.database, identifier).status != records.RUNNING

    return _follow(service, identifier, number, rests)


def until_over(service: Service, identifier: str, number: int) -> Iterator[Document]:
    """What happened after the event ``number``, until the session is archived or deleted."""
    return _follow(service, identifier, number, lambda: records.read(service.database, identifier).archived)


def _follow(service: Service, identifier: str, number: int, over: Callable[[], bool]) -> Iterator[Document]:
    changed = threading.Event()
    with service.live.feed.follow(identifier, changed.set):
        while True:
            changed.clear()
            # Asked first: what ended it is among the events that are read then.
            try:
                last = over()
            except Refused:
                last = True
            rows = events.after(service.database, identifier, number, _MOST)
            for position, kind, text in rows:
                number = position
                yield load(text)
                if kind in events.LAST:
                    return
            if rows:
                continue
            if last:
                return
            changed.wait(_LOOK_S)

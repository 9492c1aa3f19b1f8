"""One data directory and what acts on it: what every function here works on, for commands and routes alike."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from sandbox.errors import HostError
from sandbox.idmap import IdMap
from sandbox.managed.builder import Builder
from sandbox.managed.builds import Place
from sandbox.managed.database import Database
from sandbox.managed.live import IDLE_S, Live
from sandbox.managed.rewrites import Rewrite
from sandbox.managed.rewrites import read as read_rewrites
from sandbox.managed.secrets import Secrets

if TYPE_CHECKING:
    from netpolicy.credentials import Credential


class Service(NamedTuple):
    """One data directory being served. ``folder``: where its records and files are. ``live``: what runs of it in this
    process. ``rewrites``: where repositories really are. ``resettable``: whether a request may remove everything."""

    data: str
    ids: IdMap
    folder: str
    database: Database
    secrets: Secrets
    builder: Builder
    live: Live
    rewrites: tuple[Rewrite, ...] = ()
    resettable: bool = False

    def close(self) -> None:
        """End what was begun here and let go of the records."""
        self.live.close()
        self.builder.close()
        self.database.close()


def open_service(
    data: str,
    ids: IdMap,
    folder: str | None = None,
    *,
    rewrites: Sequence[str] = (),
    rewrites_ca: bytes = b"",
    lasting: bool = False,
    idle_s: float = IDLE_S,
    resettable: bool = False,
) -> Service:
    """The records of ``data``, or those of ``folder`` where they are kept apart; made when they are missing.

    ``lasting``, ``idle_s``: as Live has them, for servers. ``rewrites``, and the authorities (PEM) of theirs: see
    sandbox.managed.rewrites. HostError when the records can't be used, InputError when a rewrite can't be read.
    """
    place = folder or os.path.join(data, "managed")
    try:
        os.makedirs(place, mode=0o700, exist_ok=True)
    except OSError as error:
        raise HostError(
            f"{place} can't be made: {error.strerror}", hint="free some space, or use --data"
        ) from error
    database = Database(os.path.join(place, "state.db"))
    secrets = Secrets(os.path.join(place, "secrets.key"))
    builder = Builder(Place(data, ids, place), database)
    live = Live(data, ids, place, database, lasting=lasting, idle_s=idle_s)
    found = read_rewrites(place, rewrites, rewrites_ca)
    service = Service(data, ids, place, database, secrets, builder, live, found, resettable)
    live.credentials = lambda session_id: _credentials(service, session_id)
    return service


def _credentials(service: Service, session_id: str) -> "tuple[Credential, ...]":
    from sandbox.managed.placing import credentials

    return credentials(service, session_id)

"""One data directory and what acts on it: what every function here works on, for commands and routes alike."""

import os
from typing import NamedTuple

from sandbox.idmap import IdMap
from sandbox.managed.database import Database
from sandbox.managed.secrets import Secrets


class Service(NamedTuple):
    """One data directory being served. ``folder``: where its records and files are."""

    data: str
    ids: IdMap
    folder: str
    database: Database
    secrets: Secrets


def open_service(data: str, ids: IdMap) -> Service:
    """The records of ``data``, made when they are missing. HostError when they can't be used."""
    folder = os.path.join(data, "managed")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    database = Database(os.path.join(folder, "state.db"))
    return Service(data, ids, folder, database, Secrets(os.path.join(folder, "secrets.key")))

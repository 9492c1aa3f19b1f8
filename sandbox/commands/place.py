"""Where the commands of ``sandboxctl`` find and keep things."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import click

from sandbox import idmap, paths
from sandbox.idmap import IdMap

if TYPE_CHECKING:
    from sandbox.managed.service import Service


class Place(NamedTuple):
    """Where the data is and whose ids its files have."""

    data: str
    ids: IdMap


def find(data: str | None, ids: str | None) -> Place:
    return Place(
        paths.data_directory(data, os.environ, os.geteuid()), idmap.choose(idmap.read_host_ids(), ids)
    )


def prepared(context: click.Context) -> Place:
    place: Place = context.obj()
    paths.prepare(place.data, place.ids)
    return place


@contextmanager
def opened(context: click.Context) -> "Iterator[Service]":
    """The records of what lasts, for this command."""
    place = prepared(context)
    from sandbox.managed.service import open_service

    service = open_service(place.data, place.ids)
    try:
        yield service
    finally:
        service.close()

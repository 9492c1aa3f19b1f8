"""Where the commands of ``sandboxctl`` find and keep things."""

import os
from typing import NamedTuple

import click

from sandbox import idmap, paths
from sandbox.idmap import IdMap


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

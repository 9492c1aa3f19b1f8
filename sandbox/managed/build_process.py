"""One build in a process of its own: ``python -m sandbox.managed.build_process``, started by sandbox.managed.builder.

Standard input says what to build (see ``order``), standard output how it ended: ``{}``, or what
``builds.problem_of`` tells. It lives no longer than the thread that started it.
"""

import json
import os
import signal
import sys

import prctl

from sandbox import idmap
from sandbox.managed import builds
from sandbox.managed.builds import Need, Place, Recorder
from sandbox.managed.database import Database


def order(place: Place, identifier: str, need: Need, *, claimed: bool) -> str:
    """What such a process reads. ``claimed``: the record of the build is its to keep."""
    fields = [place.data, place.ids, place.folder, identifier, need, claimed, os.getpid()]
    return json.dumps(fields)


def main(text: str) -> str:
    """Build what ``text`` orders; returns how it ended."""
    data, ids, folder, identifier, wanted, claimed, parent = json.loads(text)
    prctl.set_pdeathsig(signal.SIGKILL)
    if os.getppid() != parent:
        return "{}"
    place = Place(data, _ids(ids), folder)
    base, packages, hosts, endpoints = wanted
    need = Need(base, tuple((name, tuple(specs)) for name, specs in packages), tuple(hosts), endpoints)
    database = Database(os.path.join(folder, "state.db"))
    recorder = Recorder(database, place, identifier, need)
    try:
        if claimed:
            recorder.take_over()
        builds.make(place, need, os.environ, recorder.show)
    except Exception as error:
        if not isinstance(getattr(error, "exit_code", None), int):
            raise
        problem = builds.problem_of(error)
        recorder.done(problem)
        return json.dumps(problem)
    else:
        recorder.done()
        return "{}"
    finally:
        database.close()


def _ids(fields: list[object]) -> idmap.IdMap:
    mode, uids, gids, helper = fields
    extents = [tuple(idmap.Extent(*each) for each in found) for found in (uids, gids)]  # type: ignore[attr-defined]
    return idmap.IdMap(str(mode), extents[0], extents[1], bool(helper))


if __name__ == "__main__":
    sys.stdout.write(main(sys.stdin.read()))

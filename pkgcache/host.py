"""The base that is the machine itself: nothing is stored of it but what its package managers were found to be."""

from __future__ import annotations

import os
import time

from pkgcache import report
from pkgcache.bases import read_record
from pkgcache.machine import identity
from pkgcache.names import HOST
from pkgcache.phases import Event, Progress, World, failure, now, open_log, probe, run_script
from pkgcache.records import BaseRecord, to_json
from pkgcache.runner import Remove, Root, Runner
from pkgcache.store import Store, create, exclusive, explain, publish, workplace, write

MANAGERS = ("cargo", "gem", "go", "npm", "pip")
"""All but apt, whose files belong to the machine's own root."""

_GROUND = "/srv/ground"
# The machine's directories belong to ids that a session lacks. Empty ones of the session's own, laid over them, make
# what is beneath /usr/local writable: a merged directory takes its owner from the topmost.
_LAY_GROUND = f"""cd / && {{
  for name in bin etc include lib sbin share src; do echo usr/local/$name; done
  find usr/local/bin usr/local/etc usr/local/include usr/local/lib usr/local/sbin usr/local/share \
    -maxdepth 3 -xdev -type d 2>/dev/null
  find usr/local/lib/ruby/gems usr/local/share/gems -maxdepth 4 -xdev -type d 2>/dev/null
  python3 -c 'import sysconfig; print("\\n".join(sysconfig.get_paths().values()))' 2>/dev/null |
    sed -n 's,^/\\(usr/local/.*\\),\\1,p'
}} | (mkdir -p {_GROUND} && cd {_GROUND} && xargs -d '\\n' mkdir -p) || exit
"""


def build_host(
    store: Store, *, runner: Runner, remove: Remove, progress: Progress = lambda _: None
) -> BaseRecord:
    """Find out what the machine's package managers are, and keep it. Raises StoreError, HostError."""
    name = identity()
    begun = time.monotonic()

    def say(phase: str, text: str) -> None:
        progress(Event("base", phase, text, time.monotonic() - begun))

    create(store)
    with exclusive(store, name, lambda: say("waiting", "another process is looking at the machine")):
        existing = read_record(store, name)
        if existing is not None:
            return existing
        with workplace(store, remove) as place, open_log(store, name, lambda text: say("probe", text)) as log:
            made = f"{place}/made"
            try:
                os.mkdir(made)
                os.mkdir(f"{place}/scratch")
            except OSError as error:
                raise explain(error, store) from error
            world = World(store, runner, (), (), None)
            result = run_script(world, _LAY_GROUND, Root(None), log, scratch=f"{place}/scratch")
            if result.exit_code != 0:
                raise failure(world, "base", (), "probe", result, log)
            os.rename(f"{place}/scratch/upper{_GROUND}", f"{made}/ground")
            marks = probe(world, Root(None), MANAGERS, log)
            record = BaseRecord(
                name, HOST, created=now(), tools=report.tools(marks), endpoints=report.endpoints(marks)
            )
            write(store, f"{made}/base.json", to_json(record))
            publish(store, made, store.base(name))
        os.unlink(log.path)
    return record

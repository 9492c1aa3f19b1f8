"""Building and using real images: what the tests of layers share, and a program that builds in a process of its own.

    python -m tests.integration.layers DATA MODE BASE PACKAGES

prints a line for each change of phase, "manager phase", then "ran N" with the number of jobs, and exits.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from netpolicy.policy import ConnectTo
from pkgcache.build import build
from pkgcache.image import Image
from pkgcache.lock import Lock
from pkgcache.phases import Event
from pkgcache.resolve import resolve
from pkgcache.runner import Endpoint, Job, Result, Root
from pkgcache.store import Store, discard
from sandbox import idmap, images
from sandbox.build_runner import make_remove, make_runner


class Place(NamedTuple):
    """A store of one id mode."""

    data: str
    mode: str

    @property
    def ids(self) -> idmap.IdMap:
        return idmap.choose(idmap.read_host_ids(), self.mode)

    @property
    def store(self) -> Store:
        return images.store(self.data, self.ids)

    def remove(self, path: str) -> None:
        make_remove(self.ids)(path)

    def run_job(self, job: Job) -> Result:
        return self.runner()(job)

    def runner(
        self, connect_to: Sequence[ConnectTo] = (), environment: Mapping[str, str] = os.environ
    ) -> Callable[[Job], Result]:
        """The real runner, with hosts at addresses of the test's."""
        return make_runner(self.ids, self.data, environment, connect_to)

    def build(
        self,
        base: str,
        packages: Mapping[str, Sequence[str]],
        *,
        runner: Callable[[Job], Result] | None = None,
        progress: Callable[[Event], None] = lambda _: None,
        need_endpoints: bool = False,
        refresh: bool = False,
        lock: Lock | None = None,
        offline: bool = False,
    ) -> Image:
        return build(
            self.store,
            base,
            packages,
            runner=runner or self.run_job,
            remove=self.remove,
            progress=progress,
            need_endpoints=need_endpoints,
            refresh=refresh,
            lock=lock,
            offline=offline,
        )

    def forget(self, image: Image) -> None:
        """Remove the image's layers, so that they are built again."""
        for key in image.keys:
            discard(self.store, self.store.layer(key), self.remove)

    def forget_layers(self, base: str, packages: Mapping[str, Sequence[str]]) -> None:
        """Remove the layers of these packages that are there."""
        for step in resolve(self.store, base, packages).steps:
            if step.present:
                discard(self.store, self.store.layer(step.key), self.remove)

    def run(self, image: Image, script: str, endpoints: tuple[Endpoint, ...] = ()) -> tuple[int, str]:
        """Exit code and output of a shell script in a session on the image; what it changes is thrown away."""
        said = bytearray()
        job = Job(
            Root(image.base, image.layers),
            ("/bin/sh", "-c", script),
            image.environment,
            endpoints=endpoints,
            timeout_s=300,
            output=said.extend,
        )
        return self.run_job(job).exit_code, said.decode("utf-8", "surrogateescape")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(data: str, mode: str, base: str, packages: str) -> None:
    place = Place(data, mode)
    ran: list[Job] = []

    def counting(job: Job) -> Result:
        ran.append(job)
        return place.run_job(job)

    last = [""]

    def follow(event: Event) -> None:
        line = f"{event.manager} {event.phase}"
        if line != last[0]:
            last[0] = line
            say(line)

    place.build(base, json.loads(packages), runner=counting, progress=follow)
    say(f"ran {len(ran)}")


if __name__ == "__main__":
    main(*sys.argv[1:])

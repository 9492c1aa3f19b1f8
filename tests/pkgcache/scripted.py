"""A runner without isolation that runs nothing: what each job would have done is said by the test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from pkgcache.records import BaseRecord, to_json
from pkgcache.runner import Endpoint, Job, Result
from pkgcache.store import Store, create, point

ENDPOINTS = tuple(
    Endpoint(manager, "https", f"{manager}.index.test", 443, "built-in default")
    for manager in ("apt", "npm", "pip")
)


class Scripted:
    """Records the jobs; `act` tells a job's exit code and may write to the scratch and the output."""

    def __init__(self, act: Callable[[Job], int] = lambda _: 0) -> None:
        self.jobs: list[Job] = []
        self.act = act
        self.denied: tuple[str, ...] = ()

    def __call__(self, job: Job) -> Result:
        self.jobs.append(job)
        if job.scratch is not None:
            os.makedirs(f"{job.scratch}/upper", exist_ok=True)
        return Result(self.act(job), self.denied)

    @property
    def installs(self) -> list[tuple[str, ...]]:
        """The specs of the jobs that make layers, each once."""
        return list(dict.fromkeys(job.argv[4:] for job in self.jobs if job.scratch is not None))


def remove(path: str) -> None:
    shutil.rmtree(path, ignore_errors=True)


def installs_files(job: Job) -> int:
    """As a manager that works: a file for each spec, and a lock."""
    assert job.scratch is not None or not job.in_place
    if job.scratch is not None:
        for spec in job.argv[4:]:
            with open(f"{job.scratch}/upper/{spec.replace('/', '-')}", "w") as file:
                file.write(spec)
            job.output(f"@sandbox\tpackage\t{spec}\t1.0\tsha256:0\n".encode())
    job.output(b"working\n")
    return 0


def add_base(store: Store, name: str = "debian", identity: str | None = None) -> BaseRecord:
    """A base that is there, though empty."""
    create(store)
    record = BaseRecord(
        identity or f"{name}-1", name, "trixie", "minimal", "2026-01-01T00:00:00Z", endpoints=ENDPOINTS
    )
    os.makedirs(f"{store.base(record.id)}/root")
    with open(f"{store.base(record.id)}/base.json", "w") as file:
        file.write(to_json(record))
    point(store, name, record.id)
    return record


def standing(store: Store) -> dict[str, list[str]]:
    """What is in the places where something half-made could stay."""
    return {name: sorted(os.listdir(f"{store.path}/{name}")) for name in ("work", "layers", "bases", "logs")}

"""Builds in the background: at most two at a time, each in a process that ends with this one.

A build that is under way is shared by all who wait for it.
"""

import json
import os
import queue
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from sandbox.managed import builds
from sandbox.managed.builds import Need, Place, Recorder
from sandbox.managed.database import Database, Document
from sandbox.managed.failures import Refused

if TYPE_CHECKING:
    import subprocess

    from pkgcache.image import Image

_AT_ONCE = 2
_LOOK_S = 0.1


class _Job:
    """One build. ``problem``: None until it is over, then what went wrong, empty when nothing did."""

    def __init__(self, identifier: str, need: Need, recorder: Recorder, *, claimed: bool) -> None:
        self.identifier = identifier
        self.need = need
        self.recorder = recorder
        self.claimed = claimed
        self.over = threading.Event()
        self.cancelled = threading.Event()
        self.problem: Document | None = None
        self.process: subprocess.Popen[str] | None = None

    def end(self, problem: Document) -> None:
        self.problem = problem
        self.over.set()


class Builder:
    """The builds of one process. ``close`` ends those that are under way."""

    def __init__(self, place: Place, database: Database) -> None:
        self._place = place
        self._database = database
        self._lock = threading.Lock()
        self._jobs: dict[tuple[str, Need], _Job] = {}
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._closed = False

    def begin(self, environment: Document) -> None:
        """Begin to build what the environment lacks, and don't wait for it."""
        need = builds.need_of(environment)
        if need is not None and builds.ready(self._place.data, self._place.ids, need) is None:
            self._start(environment["id"], need)

    def image(
        self,
        environment: Document,
        *,
        timeout_s: float | None = None,
        cancelled: threading.Event | None = None,
    ) -> "Image":
        """The environment's image, once it is there: builds what is missing, or waits for who does.

        BuildFailed when that can't be done. Refused after ``timeout_s``, or when ``cancelled`` is set;
        then the build goes on.
        """
        need = builds.need_of(environment)
        found = builds.ready(self._place.data, self._place.ids, need)
        if found is not None or need is None:
            assert found is not None
            return found
        job = self._start(environment["id"], need)
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not job.over.wait(_LOOK_S):
            if cancelled is not None and cancelled.is_set():
                raise Refused("api_error", f"Nobody waits for the build of {environment['name']} any more.")
            if deadline is not None and time.monotonic() > deadline:
                raise Refused(
                    "timeout_error",
                    f"The build of {environment['name']} is not done after {timeout_s:g} s; it goes on.",
                    retry=True,
                )
        if job.problem:
            raise builds.failure(environment, job.problem)
        found = builds.ready(self._place.data, self._place.ids, need)
        if found is None:
            raise builds.failure(environment, {"message": "its layers were removed while it was built"})
        return found

    def state(self, environment: Document) -> Document:
        """How far the environment's build is, see ``builds.state``."""
        return builds.state(self._database, self._place, environment)

    def cancel(self, identifier: str) -> None:
        """End the builds of that environment."""
        with self._lock:
            for job in self._jobs.values():
                if job.identifier == identifier:
                    self._kill(job)

    def close(self) -> None:
        """End all builds and wait until they have ended."""
        with self._lock:
            self._closed = True
            for job in self._jobs.values():
                self._kill(job)
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _start(self, identifier: str, need: Need) -> _Job:
        key = (identifier, need)
        with self._lock:
            found = self._jobs.get(key)
            if found is not None and not found.cancelled.is_set():
                return found
            recorder = Recorder(self._database, self._place, identifier, need)
            job = _Job(identifier, need, recorder, claimed=False)
            if self._closed:
                job.end({"message": "the server is stopping"})
                return job
            job.claimed = recorder.claim("queued")
            self._jobs[key] = job
            if len(self._threads) < _AT_ONCE:
                # The kernel ends a build with the thread that started it, so these last as long as this object.
                self._threads.append(threading.Thread(target=self._work, name="builds", daemon=True))
                self._threads[-1].start()
        self._queue.put(job)
        return job

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            problem: Document = {"message": "it was not seen to its end"}
            try:
                problem = self._run(job)
            except Exception as error:
                # Whoever waits must be told, whatever it was.
                import logging

                log = logging.getLogger("sandboxsh.builds")
                log.exception("The build of %s was not seen to its end", job.identifier)
                problem = builds.problem_of(error)
                job.recorder.done(problem)
            finally:
                with self._lock:
                    self._jobs = {key: each for key, each in self._jobs.items() if each is not job}
                job.end(problem)

    def _run(self, job: _Job) -> Document:
        """How it ended. The child keeps the record, unless it came to an end of another kind."""
        import subprocess

        from sandbox.managed.build_process import order

        path = self._place.log(job.identifier)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_TRUNC if job.claimed else 0)
        log = os.open(path, flags, 0o600)
        try:
            with self._lock:
                if job.cancelled.is_set():
                    return self._given_up(job)
                job.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "sandbox.managed.build_process"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )
        finally:
            os.close(log)
        said, _ = job.process.communicate(order(self._place, job.identifier, job.need, claimed=job.claimed))
        if job.cancelled.is_set():
            return self._given_up(job)
        problem: Document
        if job.process.returncode:
            problem = {
                "message": f"the process that built it ended with {job.process.returncode}",
                "log": path,
            }
            job.recorder.done(problem)
        else:
            problem = json.loads(said)
        return problem

    @staticmethod
    def _given_up(job: _Job) -> Document:
        job.recorder.give_up()
        return {"message": "it was given up before it was done"}

    def _kill(self, job: _Job) -> None:
        job.cancelled.set()
        if job.process is not None and job.process.poll() is None:
            job.process.kill()


class HasBuilder(Protocol):
    @property
    def builder(self) -> Builder: ...


def await_image(
    service: HasBuilder,
    environment: Document,
    *,
    timeout_s: float | None = None,
    cancelled: threading.Event | None = None,
) -> "Image":
    """What a session of ``environment`` stands on, see ``Builder.image``. Blocks: call it on a thread."""
    return service.builder.image(environment, timeout_s=timeout_s, cancelled=cancelled)

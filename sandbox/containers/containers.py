"""Containers: sessions whose files stay and whose processes come when they are needed. See docs/containers.md.

Everything here blocks, may be called from any thread, and needs no lock of the caller's: what is done at the same time
to one container, by this process or another one, is settled by the container's own lock.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from netpolicy.credentials import Credential, encode
from netpolicy.policy import Policy
from sandbox import removal
from sandbox.channel import say
from sandbox.containers import directory, execution, orders, requests, resources
from sandbox.containers.directory import Folder, NoContainerError, Place, until
from sandbox.containers.execution import NOTHING, Exec, Given, NotTakenError
from sandbox.containers.requests import Request
from sandbox.containers.spec import (
    Attachment,
    Change,
    Completed,
    ContainerSpec,
    Output,
    Process,
    Size,
    Stats,
)
from sandbox.containers.starting import Alone, Asked, answer
from sandbox.errors import HostError, SetupError
from sandbox.idmap import IdMap
from sandbox.setup import TerminalSettings

LINGER_S = 10.0
_PATIENCE_S = 120.0
# A keeper that begins or ends is not to be spoken to for a moment of a few system calls.
_MOMENT_S = 0.002
_MOST_DEATHS = 3


class Containers:
    """The containers of one data directory with these ids.

    ``starter``: starts their processes. Without one, each container's processes belong to nobody: they end by
    themselves ``linger_s`` after the last one in the container ended, or with `stop`. With one they stay for as long
    as it does. ``credentials``: what is attached to hosts when a container starts, by its id; asked at each start, for
    it is kept in no file.
    """

    def __init__(
        self,
        data: str,
        ids: IdMap,
        starter: Asked | None = None,
        *,
        linger_s: float = LINGER_S,
        credentials: Callable[[str], Sequence[Credential]] = lambda _: (),
    ) -> None:
        self.data = data
        self.ids = ids
        self._asked: Asked = starter or Alone()
        self._linger_s = None if starter else float(linger_s)
        self._credentials = credentials

    def create(self, id_: str, spec: ContainerSpec) -> None:
        """Make the container ``id_``; no process is started. InputError when it exists or the id is none; StoreError
        when a layer that it stands on is gone; HostError when its directory can't be made."""
        directory.create(directory.place_of(self.data, self.ids, id_), spec)

    def start(self, id_: str) -> None:
        """Start the container's processes, if they are not there. NoContainerError; HostError and SetupError when it
        can't be started, with the reason."""
        place = self._place(id_)
        deadline = time.monotonic() + _PATIENCE_S
        deaths = 0
        attached = self._credentials(id_)
        credentials = encode(attached, b"") if attached else b""
        while True:
            found = self._asked.ask("keep", Request(place, (self._linger_s,), credentials))
            if found is None:
                deaths += 1
                if deaths == _MOST_DEATHS:
                    raise SetupError(f"the process that starts container {id_} died {deaths} times")
            elif found[0] == "serving":
                return
            elif found[0] != "busy":
                raise requests.raised(found[0])
            # Another one is at it, or is just ending.
            elif self._order(place, "wait") == "serving":
                return
            else:
                time.sleep(_MOMENT_S)
            if not until(deadline):
                raise HostError(f"container {id_} did not start within {_PATIENCE_S:.0f} s")

    def exec(
        self,
        id_: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] = MappingProxyType({}),
        workdir: str | None = None,
        given: Given = NOTHING,
        terminal: Size | TerminalSettings | None = None,
    ) -> Exec:
        """Run a command in the container, which is started when it does not run; returns once the command runs.

        ``environment`` adds to the container's variables; ``workdir`` None is the container's. ``given``: ends of pipes
        (see execution.pipe) for its standard streams, to be closed by the caller afterwards. ``terminal``: it gets a
        terminal of its own for those that are not given. A command that can't be run is one that ended with 126 or 127.
        InputError when it can't be a command at all; else as `start`.
        """
        place = self._place(id_)
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            with Folder(place) as folder:
                try:
                    return execution.begin(
                        folder.short("exec"),
                        arguments,
                        environment=environment,
                        workdir=workdir,
                        given=given,
                        terminal=terminal,
                    )
                except NotTakenError:
                    if not until(deadline):
                        raise HostError(f"container {id_} takes no command") from None
            self.start(id_)

    def run(
        self,
        id_: str,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str] = MappingProxyType({}),
        workdir: str | None = None,
        given: bytes = b"",
        timeout_s: float | None = None,
        limit: int = 1 << 20,
        together: bool = False,
    ) -> Completed:
        """Run a command to its end, with ``given`` as its standard input.

        At its time limit its process group is killed. ``limit``: so many bytes of each output are kept, the last ones.
        ``together``: standard error goes where standard output does. Otherwise as `exec`.
        """
        from sandbox.containers.collecting import run

        def begin(given: Given) -> Exec:
            return self.exec(id_, arguments, environment=environment, workdir=workdir, given=given)

        return run(begin, given, timeout_s=timeout_s, limit=limit, together=together)

    def stop(self, id_: str, *, grace_s: float = 0.0) -> None:
        """End the container's processes, its files stay. With a grace, they get SIGTERM first and so long to end."""
        os.close(self._stopped(self._place(id_), grace_s))

    def delete(self, id_: str) -> None:
        """Stop the container and remove all its files. NoContainerError when there is none. SetupError when something
        stays, which the next sweep removes."""
        place = self._place(id_)
        lock = self._stopped(place, 0.0)
        try:
            directory.remove(place, lock, self._remove)
        finally:
            os.close(lock)

    def attach(self, id_: str, name: str, source: str, target: str) -> None:
        """Show the host's file ``source`` read-only at the path ``target`` of the container, now if it runs and from
        then on whenever it starts. Its parents are made. ``name`` is for `detach`.

        The container has a file of its own: a link where everybody may read the source, which must then never be
        written again, and a copy otherwise. InputError when the file, the name or the path can't be used or is in use;
        SetupError when the session has something there that is in the way.
        """
        place = self._place(id_)
        new = Attachment(name, target)
        with resources.changing(place):
            added = resources.add(place, new, source)
            told = self._order(place, f"attach {name} {target}")
            if told not in (None, "done"):
                if added:
                    resources.drop(place, new)
                raise SetupError(str(told).removeprefix("failed "), hint="use another path")

    def attach_all(self, id_: str, wanted: Sequence[tuple[str, str, str]]) -> None:
        """As `attach`, each (name, source, target), in a container that does not run: what is in their way there shows
        when it is started."""
        place = self._place(id_)
        new = [(Attachment(name, target), source) for name, source, target in wanted]
        with resources.changing(place):
            resources.add_all(place, new)

    def detach(self, id_: str, name: str) -> None:
        """Take an attached file away again; nothing happens when there is none by that name."""
        place = self._place(id_)
        with resources.changing(place):
            found = resources.find(place, name)
            if found is None:
                return
            told = self._order(place, f"detach {name} {found.target}")
            if told not in (None, "done"):
                raise SetupError(str(told).removeprefix("failed "), hint="stop the container first")
            resources.drop(place, found)

    def set_credentials(self, id_: str, credentials: Sequence[Credential]) -> None:
        """Attach these and no others to hosts, if the container runs; see sandbox.egress.Egress.set_credentials. Its
        next start asks for them again. SetupError when one can't be used; the ones before stay then."""
        memory = orders.in_memory(encode(credentials, b""))
        try:
            told = self._order(self._place(id_), "credentials", memory)
        finally:
            os.close(memory)
        if told not in (None, "done"):
            raise SetupError(str(told).removeprefix("failed "), hint="stop the container first")

    def with_credentials(self, credentials: Sequence[Credential]) -> "Containers":
        """The same containers, to be started with these whichever they are."""
        made = Containers(self.data, self.ids, self._asked, credentials=lambda _: credentials)
        made._linger_s = self._linger_s
        return made

    def attached(self, id_: str) -> tuple[Attachment, ...]:
        """What is attached."""
        return directory.read_attached(self._place(id_))

    def ids_of_all(self) -> tuple[str, ...]:
        """The ids of all containers."""
        return directory.names(self.data, self.ids)

    def running(self) -> tuple[str, ...]:
        """The ids of those that have processes now."""
        return tuple(id_ for id_ in self.ids_of_all() if directory.process1_of(self._place(id_)))

    def sweep(self, known: Sequence[str] | frozenset[str]) -> int:
        """Remove every container whose id is not ``known``, and what was being made or removed by processes that are
        dead. Returns how many there were."""
        count = directory.sweep(self.data, self.ids, self._remove)
        for id_ in set(self.ids_of_all()).difference(known):
            with suppress(NoContainerError):
                self.delete(id_)
                count += 1
        return count

    def ps(self, id_: str) -> tuple[Process, ...]:
        """The processes of the container, process 1 first; none when it does not run."""
        from sandbox.containers.usage import processes

        process1 = directory.process1_of(self._existing(id_))
        return processes(process1) if process1 else ()

    def stats(self, id_: str) -> Stats:
        """What the container uses."""
        from sandbox.containers import usage

        place = self._existing(id_)
        process1 = directory.process1_of(place)
        cpu_s, memory = usage.cpu_and_memory(process1) if process1 else (0.0, 0)
        count = len(self.ps(id_))
        disk, _ = self._chore("disk", place)
        return Stats(bool(process1), cpu_s, memory, count, disk, *usage.traffic(self.egress(id_)))

    def diff(self, id_: str, *, limit: int = 100_000) -> tuple[Change, ...]:
        """What the container's commands changed of what it stands on, by path, no more than ``limit``. What they wrote
        to outputs, repositories, mounts and file systems in memory is not part of it."""
        found, _ = self._chore("changes", self._existing(id_), limit)
        return tuple(Change(*each) for each in found)

    def outputs(self, id_: str, *, limit: int = 10_000) -> tuple[Output, ...]:
        """The plain files in /mnt/session/outputs, by path, no more than ``limit``."""
        from sandbox.containers import outputs

        place = self._place(id_)
        try:
            return outputs.listed(f"{place.path}/outputs", limit)
        except FileNotFoundError as error:
            raise directory.absent(place) from error
        except PermissionError:
            found, _ = self._chore("outputs", place, limit)
            return tuple(Output(*each) for each in found)

    def open_output(self, id_: str, path: str) -> int:
        """A descriptor for reading of the output ``path``, as `outputs` names it; the caller's to close.
        FileNotFoundError when there is no such plain file."""
        from sandbox.containers import outputs

        place = self._place(id_)
        try:
            return outputs.opened(f"{place.path}/outputs", path)
        except PermissionError:
            _, fds = self._chore("open-output", place, path)
        if not fds:
            raise FileNotFoundError(2, "there is no such file", path)
        return fds[0]

    def policy(self, id_: str) -> Policy:
        """What the container lets out, beside what is attached to hosts."""
        return directory.read_spec(self._place(id_)).policy

    def egress(self, id_: str) -> str:
        """The path of the container's egress log: a line for each decision (netpolicy.audit)."""
        return f"{self._place(id_).path}/egress.jsonl"

    def repository(self, id_: str, name: str) -> str:
        """The path of one of the container's repositories, a directory of the host's. What is put there must belong to
        the session's user 0."""
        return f"{self._place(id_).path}/repositories/{name}"

    def _place(self, id_: str) -> Place:
        return directory.place_of(self.data, self.ids, id_)

    def _existing(self, id_: str) -> Place:
        place = self._place(id_)
        if not os.path.isdir(place.path):
            raise directory.absent(place)
        return place

    def _order(self, place: Place, words: str, *fds: int) -> str | None:
        """What the container's keeper answers; None when there is none, or it ends before it could."""
        import socket

        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC) as channel:
            try:
                with Folder(place) as folder:
                    channel.connect(folder.short("keeper"))
                say(channel, words, fds)
                found = answer(channel)
            except (ConnectionError, FileNotFoundError):
                return None
        return None if found is None else found[0]

    def _stopped(self, place: Place, grace_s: float) -> int:
        """The lock of the container, once it does not run any more."""
        deadline = time.monotonic() + _PATIENCE_S + grace_s
        while True:
            lock = directory.lock(place)
            if lock is not None:
                return lock
            if self._order(place, f"stop {grace_s}") is None:
                time.sleep(_MOMENT_S)
            if not until(deadline):
                raise SetupError(f"container {place.id} does not stop")

    def _remove(self, path: str, ids: IdMap) -> None:
        try:
            removal.remove_own(path)
        except PermissionError:
            self._chore("remove", Place(self.data, ids, ""), path)

    def _chore(self, word: str, place: Place, *values: object) -> tuple[Any, tuple[int, ...]]:
        """Have one of sandbox.containers.chores done: its answer, and descriptors."""
        found = self._asked.ask(word, Request(place, values))
        if found is None:
            raise SetupError("the process that looks after containers' files died", hint="try again")
        if found[0] != "done":
            raise requests.raised(found[0])
        return requests.taken_out(found[1][0]), found[1][1:]

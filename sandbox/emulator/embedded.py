"""The emulator inside another Python program: for tests, and for whoever wants it without a command."""

import os
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType, TracebackType

from sandbox import paths
from sandbox.emulator.gate import Door
from sandbox.emulator.server import Server, bind, url_of
from sandbox.errors import HostError
from sandbox.idmap import choose, read_host_ids
from sandbox.managed import machines, passing
from sandbox.managed.passing import Passing
from sandbox.managed.service import Service, open_service

_START_S = 60.0


class Emulator:
    """A server in this process, on a thread of its own::

        with Emulator() as emulator:
            client = anthropic.Anthropic(base_url=emulator.base_url, api_key=emulator.api_key)

    ``data``: the data directory, where bases and layers are; the user's own by default. ``keep``: whether environments,
    sessions and files are those of that directory and stay; otherwise they are in a directory of their own that is
    gone afterwards. ``rewrites``: where the repositories of these URLs really are, as a URL or a directory;
    ``rewrites_ca``: the authorities (PEM) that vouch for those.
    """

    def __init__(
        self,
        data: str | None = None,
        *,
        keep: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        rewrites: Mapping[str, str] = MappingProxyType({}),
        rewrites_ca: bytes = b"",
    ) -> None:
        self.data = data
        self.keep = keep
        self.host = host
        self.port = port
        self.rewrites = tuple(f"{url}={remote}" for url, remote in rewrites.items())
        self.rewrites_ca = rewrites_ca
        self.base_url = ""
        self.api_key = "sandboxsh"
        self._passing: Passing | None = None
        self._server: Server | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> "Emulator":
        """Serve, once it is ready. HostError or InputError when that can't be."""
        data = paths.data_directory(self.data, os.environ, os.geteuid())
        ids = choose(read_host_ids(), None)
        paths.prepare(data, ids)
        listener = bind(self.host, self.port)
        self.base_url = url_of(listener, self.host)
        passing.sweep(data, ids)
        if not self.keep:
            self._passing = passing.make(data)
        folder = self._passing.path if self._passing else None
        service = open_service(
            data,
            ids,
            folder,
            rewrites=self.rewrites,
            rewrites_ca=self.rewrites_ca,
            lasting=True,
            resettable=not self.keep,
        )
        server = self._server = Server(service, Door())
        self._thread = threading.Thread(target=server.run, args=([listener],), name="emulator", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise HostError("the emulator did not start; its log says why")
            time.sleep(0.002)
        return self

    @property
    def service(self) -> Service:
        """What it serves, while it does."""
        assert self._server is not None
        return self._server.service

    def stop(self) -> None:
        """End it. What is under way is answered first."""
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        if self._server is not None:
            if self._passing is not None:
                machines.discard_all(self._server.service)
            self._server.service.close()
        if self._passing is not None:
            passing.end(self._passing)
        self._server = self._thread = self._passing = None

    def __enter__(self) -> "Emulator":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

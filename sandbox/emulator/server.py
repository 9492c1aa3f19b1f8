"""Serving: a socket, uvicorn on it, and an end that waits for what is under way."""

import logging
import os
import socket
import threading
import time
from types import TracebackType

import uvicorn

from sandbox import paths
from sandbox.emulator.app import create_app
from sandbox.emulator.gate import Door
from sandbox.errors import HostError, InputError
from sandbox.idmap import IdMap
from sandbox.managed.service import open_service

DEFAULT_PORT = 8788
_START_S = 10.0


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. InputError when the port is taken, HostError when the address can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except (OSError, OverflowError) as error:
        listener.close()
        if isinstance(error, OSError) and error.errno == 98:
            raise InputError(
                f"port {port} of {host} is taken by another program",
                hint="name another with --port, or --port 0",
            ) from error
        raise HostError(
            f"{host}:{port} can't be listened on: {error}", hint="choose another --host or --port"
        ) from error
    return listener


def make_server(data: str, ids: IdMap, door: Door) -> uvicorn.Server:
    """A server over the prepared data directory ``data``, not yet running."""
    app = create_app(open_service(data, ids), door)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    return uvicorn.Server(config)


class Emulator:
    """A server in this process, on a thread of its own, for tests and programs::

        with Emulator() as emulator:
            client = anthropic.Anthropic(base_url=emulator.base_url, api_key=emulator.api_key)

    ``data``: a data directory that lasts; without one, records are in a directory that is gone afterwards.
    """

    api_key = "sandboxsh"

    def __init__(self, data: str | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._given = data
        self._host, self._port = host, port
        self._thread: threading.Thread | None = None
        self._server: uvicorn.Server | None = None
        self.base_url = ""

    def start(self) -> "Emulator":
        from sandbox import idmap

        data = paths.data_directory(self._given, os.environ, os.geteuid())
        ids = idmap.choose(idmap.read_host_ids(), None)
        paths.prepare(data, ids)
        listener = bind(self._host, self._port)
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.base_url = f"http://{host}:{listener.getsockname()[1]}"
        server = self._server = make_server(data, ids, Door())
        self._thread = threading.Thread(target=server.run, args=([listener],), name="emulator", daemon=True)
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise HostError("the emulator did not start; its log says why")
            time.sleep(0.002)
        return self

    def stop(self) -> None:
        if self._server is not None:
            self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
        self._server = self._thread = None

    def __enter__(self) -> "Emulator":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


logging.getLogger("sandboxsh.serve").addHandler(logging.NullHandler())

"""A server of Git repositories on loopback: Git's own backend behind TLS, with a token for each repository."""

from __future__ import annotations

import base64
import os
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote

import trustme


class Heard(NamedTuple):
    """One request as it arrived. `token`: the password of its Authorization, "" without one."""

    method: str
    path: str
    host: str
    token: str


class GitHost:
    """Serves the bare repositories below `root`; those named in `tokens` ("owner/name") ask for theirs.

    `heard` has each request. `ca`: the authority of its certificate, for `names` and 127.0.0.1. `secure`: with TLS.
    """

    def __init__(self, root: Path, tokens: dict[str, str], *names: str, secure: bool = True) -> None:
        self.root = root
        self.tokens = tokens
        self.heard: list[Heard] = []
        authority = trustme.CA()
        self.ca: bytes = authority.cert_pem.bytes()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.git = self
        self.port: int = self._server.server_address[1]
        if secure:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert(*names, "127.0.0.1").configure_cert(context)
            self._server.context = context
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})

    def make(self, name: str, content: str) -> Path:
        """A bare repository `name` with one commit on `main`, a file `hello` of this content."""
        bare, work = self.root / f"{name}.git", self.root / f"{name}.work"
        git("init", "--quiet", "--bare", "--initial-branch=main", str(bare))
        git("-C", str(bare), "config", "http.receivepack", "true")
        git("init", "--quiet", "--initial-branch=main", str(work))
        (work / "hello").write_text(content)
        git("-C", str(work), "add", "hello")
        git("-C", str(work), "commit", "--quiet", "-m", "first")
        git("-C", str(work), "push", "--quiet", str(bare), "main")
        return bare

    def __enter__(self) -> GitHost:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def git(*arguments: str) -> str:
    """What Git prints, whatever the user's own settings are."""
    identity = {"GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@a.test"}
    identity |= {"GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@a.test"}
    settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **identity, **settings}
    done = subprocess.run(
        ["git", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class _Server(ThreadingHTTPServer):
    git: GitHost
    context: ssl.SSLContext | None = None

    def finish_request(self, request: Any, client_address: Any) -> None:
        try:
            request.settimeout(30)
            if self.context is not None:
                # In the connection's own thread: the handshake waits for the client.
                request = self.context.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
        except OSError:
            # A client that hangs up, as some of the tests' do.
            pass
        finally:
            request.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _serve(self) -> None:
        host = self.server.git
        given = self.headers.get("Authorization", "")
        token = ""
        if given.startswith("Basic "):
            token = base64.b64decode(given[6:]).decode().partition(":")[2]
        host.heard.append(Heard(self.command, self.path, self.headers.get("Host", ""), token))
        body = self._body()
        path, _, query = self.path.partition("?")
        name = "/".join(unquote(path).split("/")[1:3]).removesuffix(".git")
        wanted = host.tokens.get(name)
        if wanted is not None and token != wanted:
            self._answer(401, [("WWW-Authenticate", 'Basic realm="git"')], b"no\n")
            return
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(host.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": unquote(path),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REMOTE_USER": "somebody",
            "REMOTE_ADDR": "127.0.0.1",
        }
        done = subprocess.run(
            ["git", "http-backend"], input=body, env=environment, capture_output=True, timeout=60, check=False
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.decode().split(": ", 1)) for line in head.split(b"\r\n") if line]
        status = next((int(value[:3]) for key, value in headers if key == "Status"), 200)
        self._answer(status, [each for each in headers if each[0] != "Status"], content)  # type: ignore[misc]

    do_GET = do_POST = do_PUT = do_HEAD = do_TRACE = do_DELETE = _serve

    def _body(self) -> bytes:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.send_response_only(100)
            self.end_headers()
        if self.headers.get("Transfer-Encoding", "") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))
        pieces = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

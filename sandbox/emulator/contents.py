"""Answering with the bytes of an open file, whole or a part of it (RFC 9110 14)."""

import os
import re
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from sandbox.managed.files import Content

_CHUNK = 256 << 10
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


def content(found: Content, asked: str | None = None) -> Response:
    """The bytes of ``found``, whose descriptor is closed at the end. ``asked``: the request's Range header.

    A range that can't be read, or several, are answered with the whole.
    """
    headers = {
        "content-disposition": f"attachment; filename*=UTF-8''{quote(found.filename, safe='')}",
        # What a session wrote is nobody's page.
        "x-content-type-options": "nosniff",
        "accept-ranges": "bytes",
    }
    part = _part(asked, found.size)
    if part is None:
        os.close(found.descriptor)
        headers["content-range"] = f"bytes */{found.size}"
        return Response(status_code=416, headers=headers)
    start, end = part
    if (start, end) != (0, found.size):
        headers["content-range"] = f"bytes {start}-{end - 1}/{found.size}"
    headers["content-length"] = str(end - start)
    status = 206 if "content-range" in headers else 200
    return _Sending(found.descriptor, start, end, status, headers=headers, media_type=found.mime_type)


def _part(asked: str | None, size: int) -> tuple[int, int] | None:
    """The first byte and the one after the last, None when nothing of the file is asked for."""
    read = _RANGE.fullmatch((asked or "").replace(" ", ""))
    if read is None or read[0] == "bytes=-":
        return 0, size
    first, last = read.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return 0, size
    return None if start >= end else (start, end)


async def _read(descriptor: int, start: int, end: int) -> AsyncIterator[bytes]:
    while start < end:
        data = await run_in_threadpool(os.pread, descriptor, min(_CHUNK, end - start), start)
        if not data:
            # A session made the file shorter meanwhile: the client sees that the answer is cut.
            return
        start += len(data)
        yield data


class _Sending(StreamingResponse):
    """Closes what it reads in any case: a client may have gone before the first byte is read."""

    def __init__(self, descriptor: int, start: int, end: int, status: int, **fields: Any) -> None:
        super().__init__(_read(descriptor, start, end), status, **fields)
        self._descriptor = descriptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self._descriptor)

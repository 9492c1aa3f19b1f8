"""One uploaded file, written to disk while it arrives (multipart/form-data, RFC 7578).

The framework's own reader keeps the whole file elsewhere before a route sees it.
"""

from collections.abc import AsyncIterator
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from sandbox.managed.database import Document
from sandbox.managed.failures import Refused, invalid
from sandbox.managed.files import Upload
from sandbox.managed.service import Service

_LONGEST_HEADER = 16 << 10
_LONGEST_FIELD = 64
_MOST_PARTS = 8
# How browsers and the clients write these in a name (HTML, multipart/form-data encoding algorithm).
_ESCAPED = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))


async def receive(service: Service, content_type: str, body: AsyncIterator[bytes]) -> Document:
    """The new file that ``body`` holds. Refused, with nothing left of it, when it is not as it must be."""
    kind, options = parse_options_header(content_type)
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise invalid("A file is uploaded as multipart/form-data, in a part called file.")
    with Upload(service) as upload:
        form = _Form(upload)
        try:
            parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
            async for chunk in body:
                parser.write(chunk)
        except FormParserError as error:
            raise invalid(f"the body is no valid multipart/form-data: {error}") from None
        if not form.ended:
            raise invalid("the body ends in the middle of the form")
        if not form.has_file:
            raise invalid("file: is required")
        return upload.finish(form.filename, form.mime_type, form.seconds())


class _Form:
    """What the parser tells: a part ``file``, and perhaps ``expires_in_seconds``."""

    def __init__(self, upload: Upload) -> None:
        self._upload = upload
        self._header, self._value = b"", b""
        self._headers: dict[bytes, bytes] = {}
        self._part = ""
        self._seen: list[str] = []
        self._field = b""
        self.filename: str | None = None
        self.mime_type: str | None = None
        self.ended = False

    @property
    def has_file(self) -> bool:
        return "file" in self._seen

    def seconds(self) -> int | None:
        """``expires_in_seconds``, when it was given."""
        if "expires_in_seconds" not in self._seen:
            return None
        text = self._field.decode("ascii", "replace").strip()
        if not text.isascii() or not text.isdecimal():
            raise invalid("expires_in_seconds: must be a whole number")
        return int(text)

    def callbacks(self) -> dict[str, Any]:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_header_field": self._on_field,
            "on_header_value": self._on_value,
            "on_header_end": self._on_header,
            "on_headers_finished": self._identify,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._headers, self._header, self._value, self._part = {}, b"", b"", ""

    def _on_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._bound()

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._bound()

    def _bound(self) -> None:
        held = sum(len(name) + len(value) for name, value in self._headers.items())
        if held + len(self._header) + len(self._value) > _LONGEST_HEADER:
            raise invalid("the headers of a part are too long")

    def _on_header(self) -> None:
        self._headers[self._header.lower()] = self._value
        self._header, self._value = b"", b""

    def _identify(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"").decode("utf-8", "replace")
        # The reader takes text as latin-1, whatever the form says; names are in UTF-8 (RFC 7578 5.1).
        _, options = parse_options_header(disposition.encode().decode("latin-1"))
        self._part = options.get(b"name", b"").decode("utf-8", "replace")
        if self._part not in ("file", "expires_in_seconds"):
            raise invalid(f"{self._part[:100]}: unknown or unsupported field")
        if self._part in self._seen or len(self._seen) >= _MOST_PARTS:
            raise invalid(f"{self._part}: is there twice")
        self._seen.append(self._part)
        if self._part == "file":
            self.mime_type = self._headers.get(b"content-type", b"").decode("latin-1")
            self.filename = options.get(b"filename", b"").decode("utf-8", "replace")
            for escaped, plain in _ESCAPED:
                self.filename = self.filename.replace(escaped, plain)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part == "file":
            self._upload.write(memoryview(data)[start:end])
            return
        self._field += data[start:end]
        if len(self._field) > _LONGEST_FIELD:
            raise Refused("invalid_request_error", f"{self._part}: is too long")

    def _end(self) -> None:
        self.ended = True

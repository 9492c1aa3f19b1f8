"""What the API answers: objects, pages, errors."""

import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel
from starlette.responses import Response

from sandbox.managed.database import Document
from sandbox.managed.failures import Refused
from sandbox.managed.paging import Page

JSON = "application/json"


class ErrorObject(BaseModel):
    """What was refused. ``details.error_code`` names the cause where programs branch on it."""

    type: str
    message: str
    details: dict[str, Any] | None = None


class ErrorAnswer(BaseModel):
    """The shape of every error, for the document that describes the API."""

    type: Literal["error"]
    error: ErrorObject
    request_id: str


def answer(document: Document, status: int = 200) -> Response:
    return Response(json.dumps(document, ensure_ascii=False, separators=(",", ":")), status, media_type=JSON)


def page(found: Page) -> Response:
    return Response(found.to_json(), media_type=JSON)


def error_body(kind: str, message: str, request_id: str, details: Mapping[str, Any]) -> bytes:
    """``details`` are left out when there are none: clients read ``details.error_code``."""
    error: Document = {"type": kind, "message": message}
    if details:
        error["details"] = dict(details)
    return json.dumps(
        {"type": "error", "error": error, "request_id": request_id}, ensure_ascii=False
    ).encode()


def refusal(refused: Refused, request_id: str) -> Response:
    """An error as the official clients read it. A conflict that trying again can't mend says so: they retry 409."""
    message = f"{refused} {refused.hint}".strip() if refused.hint else str(refused)
    headers = {} if refused.retry or refused.status not in (409, 429) else {"x-should-retry": "false"}
    body = error_body(refused.kind, message, request_id, refused.details)
    return Response(body, refused.status, headers, media_type=JSON)

"""What clients may send to a session: the body of each kind of event."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from sandbox.managed.content import MessageBlock, ResultBlock, Text
from sandbox.managed.values import Strict

_Id = Annotated[str, Field(min_length=1, max_length=128)]
_Blocks = Annotated[list[MessageBlock], Field(min_length=1, max_length=1000)]


class UserMessage(Strict):
    type: Literal["user.message"]
    content: _Blocks


class UserInterrupt(Strict):
    type: Literal["user.interrupt"]
    session_thread_id: _Id | None = None


class ToolConfirmation(Strict):
    type: Literal["user.tool_confirmation"]
    tool_use_id: _Id
    result: Literal["allow", "deny"]
    deny_message: Annotated[str, Field(max_length=10_000)] | None = None

    @model_validator(mode="after")
    def _check(self) -> "ToolConfirmation":
        if self.deny_message is not None and self.result != "deny":
            raise ValueError('deny_message is for the result "deny" alone')
        return self


class CustomToolResult(Strict):
    type: Literal["user.custom_tool_result"]
    custom_tool_use_id: _Id
    content: list[ResultBlock] = []
    is_error: bool | None = None


class ToolResult(Strict):
    type: Literal["user.tool_result"]
    tool_use_id: _Id
    content: list[ResultBlock] = []
    is_error: bool | None = None


class SystemMessage(Strict):
    type: Literal["system.message"]
    content: Annotated[list[Text], Field(min_length=1, max_length=1000)]


class DefineOutcome(Strict):
    """Known, and refused by its name."""

    type: Literal["user.define_outcome"]

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _refuse(self) -> "DefineOutcome":
        raise ValueError("user.define_outcome is not supported: nothing here grades what was made")


ClientEvent = Annotated[
    UserMessage
    | UserInterrupt
    | ToolConfirmation
    | CustomToolResult
    | ToolResult
    | SystemMessage
    | DefineOutcome,
    Field(discriminator="type"),
]
InitialEvent = Annotated[UserMessage | DefineOutcome, Field(discriminator="type")]


class SendEvents(Strict):
    """The body of sending. A system message comes last, behind what it accompanies."""

    events: Annotated[list[ClientEvent], Field(min_length=1, max_length=1000)]

    @model_validator(mode="after")
    def _check(self) -> "SendEvents":
        for number, event in enumerate(self.events):
            if event.type != "system.message":
                continue
            before = self.events[number - 1].type if number else None
            if number != len(self.events) - 1 or before not in (
                "user.message",
                "user.tool_result",
                "user.custom_tool_result",
            ):
                raise ValueError(
                    f"events.{number}: system.message must be the last event and follow the user.message or the "
                    "result that it accompanies"
                )
        return self


def told(event: Strict) -> dict[str, Any]:
    """The event as it is answered and kept: what was left out stays out."""
    return event.model_dump(exclude_none=True)

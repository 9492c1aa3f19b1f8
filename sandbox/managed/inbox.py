"""What clients send to a session: checked together, taken together, and put where the session's turns find it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sandbox.managed import events, records, turns
from sandbox.managed.database import Database, Document
from sandbox.managed.failures import Refused, invalid, not_found
from sandbox.managed.machines import environment
from sandbox.managed.records import END_TURN, IDLE, RUNNING, Record
from sandbox.managed.service import Service

if TYPE_CHECKING:
    from sandbox.managed.client_events import ClientEvent, SendEvents, ToolConfirmation

INTERRUPTED = "The call was interrupted before it was confirmed."


def send(service: Service, identifier: str, body: "SendEvents") -> list[Document]:
    """Take all events, or none: what they are by now, with their ids. The session's turns begin with what they ask."""
    database = service.database
    with database.write():
        record = records.read(database, identifier)
        if record.archived:
            raise records.archived_refused(identifier)
        record, taken = accept(service, record, body.events)
    service.live.feed.tell(identifier)
    if record.status == RUNNING:
        turns.wake(service, identifier)
    return taken


def accept(service: Service, record: Record, given: "Sequence[ClientEvent]") -> tuple[Record, list[Document]]:
    """As `send`, inside a transaction of the caller's: the record afterwards, and the events."""
    from sandbox.managed.client_events import told

    database = service.database
    hosted = environment(record).type != "self_hosted"
    open_calls = {call[0] for call in _calls(record) if not call[2]}
    for event in given:
        check_files(database, event)
        _check(record, event, hosted, open_calls)
    taken = []
    for event in given:
        queued = events.queued(database, record.id, told(event))
        if event.type == "user.tool_confirmation":
            queued = events.process(database, record.id, queued)
            record = _confirm(database, record, event)
        elif event.type == "user.interrupt" and record.status == IDLE:
            queued = events.process(database, record.id, queued)
            record = _give_up(database, record)
        elif event.type == "user.message" and record.status == IDLE and record.turn is None:
            record = records.run(database, record, turns.queued())
        taken.append(queued)
    if (
        record.status == IDLE
        and record.turn is not None
        and any(each.type == "user.tool_confirmation" for each in given)
    ):
        # Answered in part: what is left is told again.
        record = records.rest(database, record, records.asking(record.turn), record.turn)
    return record, taken


def _check(record: Record, event: "ClientEvent", hosted: bool, open_calls: set[str]) -> None:
    if event.type in ("user.message", "system.message") and not hosted:
        raise self_hosted()
    if event.type == "user.tool_confirmation":
        if event.tool_use_id not in open_calls:
            raise not_found("call that waits for confirmation", event.tool_use_id)
        open_calls.discard(event.tool_use_id)
    if event.type == "user.custom_tool_result":
        raise not_found("agent.custom_tool_use", event.custom_tool_use_id)
    if event.type == "user.tool_result":
        if hosted:
            raise invalid("user.tool_result: is for self_hosted environments; here tools run in the session.")
        raise not_found("agent.tool_use", event.tool_use_id)
    if event.type == "user.interrupt" and event.session_thread_id not in (
        None,
        records.thread_id(record.id),
    ):
        raise not_found("thread", str(event.session_thread_id))


def check_files(database: Database, event: "ClientEvent") -> None:
    """Refused when the event refers to a file that is not there."""
    from sandbox.managed.content import files_of

    if event.type in ("user.message", "user.tool_result", "user.custom_tool_result"):
        for file_id in files_of(event.content):
            if database.get("files", file_id) is None:
                raise not_found("file", file_id)


def self_hosted() -> Refused:
    return invalid(
        "Turns of self_hosted sessions are not supported yet: their work queue is missing. "
        "Use a cloud environment."
    )


def _calls(record: Record) -> tuple[tuple[str, str, str, str], ...]:
    return record.turn.calls if record.turn is not None and record.turn.state == "asking" else ()


def _confirm(database: Database, record: Record, event: "ToolConfirmation") -> Record:
    assert record.turn is not None
    calls = tuple(
        (call[0], call[1], event.result, event.deny_message or "") if call[0] == event.tool_use_id else call
        for call in record.turn.calls
    )
    if all(call[2] for call in calls):
        return records.run(database, record, turns.queued()._replace(state="answered", calls=calls))
    record = record._replace(turn=record.turn._replace(calls=calls))
    records.save(database, record)
    return record


def _give_up(database: Database, record: Record) -> Record:
    """An interrupt while nothing runs: calls that wait for confirmation are not made."""
    calls = _calls(record)
    if not calls:
        return record
    for call in calls:
        events.happened(
            database,
            record.id,
            "agent.tool_result",
            tool_use_id=call[0],
            content=[{"type": "text", "text": INTERRUPTED}],
            is_error=True,
        )
    record = records.rest(database, record, END_TURN)
    if any(event["type"] == "user.message" for event in events.waiting(database, record.id)):
        record = records.run(database, record, turns.queued())
    return record

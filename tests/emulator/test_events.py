"""Events by the official client: sent, listed, streamed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import anthropic
import pytest

from sandbox.emulator.embedded import Emulator
from tests.capabilities import need
from tests.emulator.talking import (
    a_session,
    an_environment,
    is_idle,
    message,
    said,
    send,
    types,
    until,
)

TEXT: dict[str, Any] = {"type": "text", "text": "hello"}
HELLO: dict[str, Any] = {"type": "user.message", "content": [TEXT]}


@pytest.fixture(autouse=True)
def _containers() -> None:
    need("user-namespaces", "overlay")


def test_a_turn_has_its_order(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    events = said(client, session, message("echo hi"))
    assert types(events) == [
        "user.message",
        "session.status_running",
        "user.message",
        "span.model_request_start",
        "agent.tool_use",
        "agent.tool_result",
        "agent.message",
        "span.model_request_end",
        "session.usage",
        "session.status_idle",
    ]
    queued, _, processed, start, use, result, _, end, _, idle = events
    assert queued.id == processed.id
    assert (queued.processed_at, processed.processed_at is not None) == (None, True)
    assert (use.name, use.input, use.evaluated_permission) == ("bash", {"command": "echo hi"}, "allow")
    assert use.evaluation.type == "always_allow"
    assert result.tool_use_id == use.id
    assert end.model_request_start_id == start.id
    assert idle.stop_reason.type == "end_turn"
    assert all(event.id.startswith("sevt_") for event in events)
    times = [event.processed_at for event in events[1:]]
    assert times == sorted(times)
    read = client.beta.sessions.retrieve(session)
    assert (read.status, (read.stats.active_seconds or 0) > 0) == ("idle", True)


def test_what_was_streamed_is_listed(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    streamed = said(client, session, HELLO)
    listed = list(client.beta.sessions.events.list(session))
    # What was queued is seen twice on a stream, and stands once in the list, where it was processed.
    assert [event.to_dict() for event in listed] == [event.to_dict() for event in streamed[1:]]
    assert [event.id for event in client.beta.sessions.events.list(session, limit=2)] == [
        event.id for event in listed
    ]
    backwards = client.beta.sessions.events.list(session, order="desc", limit=3)
    assert [event.id for event in backwards] == [event.id for event in reversed(listed)]
    some = client.beta.sessions.events.list(session, types=["agent.message", "user.message"])
    assert types(list(some)) == ["user.message", "agent.message"]
    middle: Any = listed[3]
    later = client.beta.sessions.events.list(session, created_at_gt=middle.processed_at)
    assert [event.id for event in later] == [event.id for event in listed[4:]]
    with pytest.raises(anthropic.BadRequestError, match="types"):
        client.beta.sessions.events.list(session, types=["agent.dream"])  # type: ignore[list-item]
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        client.beta.sessions.events.list(session, limit=1001)


def test_a_message_without_commands_is_answered(client: anthropic.Anthropic) -> None:
    events = said(client, a_session(client), HELLO)
    (answer,) = (event for event in events if event.type == "agent.message")
    assert "deterministic" in answer.content[0].text


def test_what_is_sent_comes_back(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    document = {
        "type": "document",
        "title": "t",
        "source": {"type": "text", "media_type": "text/plain", "data": "d"},
    }
    given = {"type": "user.message", "content": [TEXT, image, document]}
    system = {"type": "system.message", "content": [TEXT]}
    first, second = send(client, session, given, system)
    assert first.to_dict()["content"] == given["content"]
    assert (first.type, second.type) == ("user.message", "system.message")
    assert first.processed_at is None


def test_what_can_not_be_sent_is_refused_whole(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    cases: tuple[tuple[list[Any], int, str], ...] = (
        ([], 400, "events"),
        ([{"type": "user.song"}], 400, "events.0"),
        ([{"type": "agent.message", "content": [TEXT]}], 400, "events.0"),
        ([{"type": "user.message", "content": []}], 400, "content"),
        ([{"type": "user.message", "content": [{"type": "text", "text": 1}]}], 400, "text"),
        ([{"type": "user.message", "content": [TEXT], "colour": "red"}], 400, "colour"),
        ([{"type": "user.define_outcome", "description": "d"}], 400, "user.define_outcome is not supported"),
        ([{"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "allow"}], 404, "sevt_1"),
        ([{"type": "user.tool_confirmation", "tool_use_id": "sevt_1", "result": "maybe"}], 400, "result"),
        (
            [
                {
                    "type": "user.tool_confirmation",
                    "tool_use_id": "s",
                    "result": "allow",
                    "deny_message": "n",
                }
            ],
            400,
            "deny_message",
        ),
        ([{"type": "user.custom_tool_result", "custom_tool_use_id": "sevt_2"}], 404, "sevt_2"),
        ([{"type": "user.tool_result", "tool_use_id": "sevt_3"}], 400, "user.tool_result"),
        ([{"type": "user.interrupt", "session_thread_id": "sthr_no"}], 404, "sthr_no"),
        ([{"type": "system.message", "content": [TEXT]}], 400, "system.message"),
        (
            [
                {
                    "type": "user.message",
                    "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}],
                }
            ],
            404,
            "file f",
        ),
    )
    for events, status, word in cases:
        with pytest.raises(anthropic.APIStatusError) as caught:
            send(client, session, *([HELLO] if events and status == 404 else []), *events)
        assert (caught.value.status_code, word in str(caught.value)) == (status, True), str(caught.value)
    assert list(client.beta.sessions.events.list(session)) == []
    assert client.beta.sessions.retrieve(session).status == "idle"


def test_turns_of_self_hosted_sessions_are_refused_by_name(client: anthropic.Anthropic) -> None:
    session = a_session(client, environment_id=an_environment(client, type="self_hosted"))
    with pytest.raises(anthropic.BadRequestError, match="self_hosted"):
        send(client, session, HELLO)
    with pytest.raises(anthropic.NotFoundError, match="sevt_3"):
        send(client, session, {"type": "user.tool_result", "tool_use_id": "sevt_3"})
    assert client.beta.sessions.delete(session).id == session


def test_a_stream_is_live_and_there_may_be_many(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    said(client, session, HELLO)
    with (
        client.beta.sessions.events.stream(session) as first,
        client.beta.sessions.events.stream(session) as second,
    ):
        send(client, session, HELLO)
        one, other = until(first, is_idle), until(second, is_idle)
    assert [event.id for event in one] == [event.id for event in other]
    listed = client.beta.sessions.events.list(session)
    assert {event.id for event in one}.issubset(event.id for event in listed)
    assert len(one) == len(list(listed)) // 2 + 1


def test_a_stream_that_nobody_reads_holds_nobody_up(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    flood = message("head -c 90000 /dev/zero | tr '\\0' x")
    with client.beta.sessions.events.stream(session) as unread:
        for _ in range(20):
            events = said(client, session, flood)
            assert events[-1].stop_reason.type == "end_turn"
        # It was left behind, and gets everything when it reads at last.
        assert len([event for event in until_idle(unread, 20) if event.type == "agent.tool_result"]) == 20


def until_idle(stream: Any, times: int) -> list[Any]:
    return [event for _ in range(times) for event in until(stream, is_idle)]


def test_streams_end_with_the_server(emulator: Emulator, client: anthropic.Anthropic) -> None:
    session = a_session(client)
    ended = threading.Event()
    opened = threading.Event()

    def follow() -> None:
        with client.beta.sessions.events.stream(session) as stream:
            opened.set()
            assert list(stream) == []
        ended.set()

    thread = threading.Thread(target=follow)
    thread.start()
    assert opened.wait(60)
    emulator.stop()
    assert ended.wait(60)
    thread.join()


def test_previews_are_sent_to_those_who_ask(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    with client.beta.sessions.events.stream(session, event_deltas=["agent.message"]) as stream:
        send(client, session, HELLO)
        events = until(stream, is_idle)
    start, delta, whole = (
        event for event in events if event.type in ("event_start", "event_delta", "agent.message")
    )
    assert start.event.id == delta.event_id == whole.id
    assert delta.delta.content.text == whole.content[0].text
    with pytest.raises(anthropic.BadRequestError, match="event_deltas"):
        client.beta.sessions.events.stream(session, event_deltas=["agent.song"])  # type: ignore[list-item]


def test_raw_and_streaming_responses(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    raw = client.beta.sessions.with_raw_response.retrieve(session)
    assert raw.headers["request-id"].startswith("req_")
    assert raw.parse().id == session
    with client.beta.sessions.events.with_streaming_response.stream(session) as response:
        assert response.headers["content-type"].startswith("text/event-stream")
    with client.beta.sessions.with_streaming_response.retrieve(session) as response:
        assert response.parse().id == session


def test_the_asynchronous_client(emulator: Emulator, client: anthropic.Anthropic) -> None:
    session = a_session(client)

    async def talk() -> list[str]:
        async with anthropic.AsyncAnthropic(base_url=emulator.base_url, api_key="k", max_retries=0) as other:
            found = []
            async with await other.beta.sessions.events.stream(session) as stream:
                await other.beta.sessions.events.send(session, events=[message("echo a")])  # type: ignore[list-item]
                async for event in stream:
                    found.append(event.type)
                    if event.type == "session.status_idle":
                        break
            listed = [event.type async for event in other.beta.sessions.events.list(session, limit=3)]
            assert listed == found[1:]
            assert [each.id async for each in other.beta.sessions.list(limit=1)] == [session]
            return found

    assert asyncio.run(talk())[-1] == "session.status_idle"

"""Sessions by the official client: made, changed, listed, archived, deleted."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from sandbox.emulator.embedded import Emulator
from tests.capabilities import need
from tests.emulator.talking import (
    MODEL,
    TOOLS,
    a_session,
    an_agent,
    an_environment,
    idle,
    message,
    run,
    send,
    types,
)
from tests.sessions.running import eventually


@pytest.fixture(autouse=True)
def _containers() -> None:
    need("user-namespaces", "overlay")


def told(caught: pytest.ExceptionInfo[anthropic.APIStatusError]) -> str:
    return str(caught.value)


def test_a_session_has_every_field(client: anthropic.Anthropic) -> None:
    agent, environment = an_agent(client, system="Work."), an_environment(client)
    made = client.beta.sessions.create(
        agent=agent,
        environment_id=environment,
        title="first",
        metadata={"k": "v"},
        budget={"type": "limit", "max_list_cost": {"amount": "2500", "currency": "USD"}},
    )
    assert made.id.startswith("sesn_")
    assert (made.type, made.status, made.title, made.metadata) == ("session", "idle", "first", {"k": "v"})
    assert (made.agent.id, made.agent.version, made.agent.system) == (agent, 1, "Work.")
    assert made.agent.model.id == MODEL
    assert made.environment_id == environment
    assert made.budget is not None and made.budget.max_list_cost.amount == "2500"
    assert (made.resources, made.vault_ids, made.outcome_evaluations) == ([], [], [])
    assert (made.archived_at, made.deployment_id) == (None, None)
    assert made.usage.input_tokens == 0
    read = client.beta.sessions.retrieve(made.id)
    assert read.stats.duration_seconds is not None and made.stats.duration_seconds is not None
    assert read.stats.duration_seconds >= made.stats.duration_seconds
    assert read.model_copy(update={"stats": None}) == made.model_copy(update={"stats": None})


def test_the_agent_is_given_in_three_ways(client: anthropic.Anthropic) -> None:
    agent, environment = an_agent(client), an_environment(client)
    client.beta.agents.update(agent, version=1, system="Second.")

    def made(given: Any) -> Any:
        return client.beta.sessions.create(agent=given, environment_id=environment).agent

    assert (made(agent).version, made(agent).system) == (2, "Second.")
    first = made({"type": "agent", "id": agent, "version": 1})
    assert (first.version, first.system) == (1, None)
    changed = made(
        {
            "type": "agent_with_overrides",
            "id": agent,
            "model": "claude-haiku-4-5",
            "system": None,
            "tools": [],
        }
    )
    assert (changed.version, changed.model.id, changed.system, changed.tools) == (
        2,
        "claude-haiku-4-5",
        None,
        [],
    )
    assert len(made({"type": "agent_with_overrides", "id": agent}).tools) == 1
    assert client.beta.agents.retrieve(agent).version == 2


def test_an_agent_s_change_does_not_reach_its_sessions(client: anthropic.Anthropic) -> None:
    agent = an_agent(client)
    session = a_session(client, agent=agent)
    client.beta.agents.update(agent, version=1, name="other")
    assert client.beta.sessions.retrieve(session).agent.name == "a"


def test_what_can_not_be_is_refused_and_nothing_is_made(client: anthropic.Anthropic) -> None:
    agent, environment = an_agent(client), an_environment(client)
    mcp = {
        "mcp_servers": [{"type": "url", "name": "m", "url": "https://mcp.example.com/sse"}],
        "tools": [{"type": "mcp_toolset", "mcp_server_name": "m"}],
    }
    away = an_agent(client, **mcp)
    gone = an_agent(client)
    client.beta.agents.archive(gone)
    elsewhere = an_environment(client, "elsewhere", type="self_hosted")
    closed = an_environment(client, "closed")
    client.beta.environments.archive(closed)
    cases: tuple[tuple[dict[str, Any], int, str], ...] = (
        ({"agent": "agent_none"}, 404, "agent_none"),
        ({"agent": {"type": "agent", "id": agent, "version": 9}}, 404, "version 9"),
        ({"agent": gone}, 400, "archived"),
        ({"agent": {"type": "robot", "id": agent}}, 400, "agent"),
        ({"agent": {"type": "agent_with_overrides", "id": agent, "tools": mcp["tools"]}}, 400, "agent.tools"),
        ({"agent": away}, 400, "mcp.example.com"),
        ({"environment_id": "env_none"}, 404, "env_none"),
        ({"environment_id": closed}, 400, "archived"),
        ({"environment_id": elsewhere, "initial_events": [message("true")]}, 400, "self_hosted"),
        ({"vault_ids": ["vlt_none"]}, 404, "vlt_none"),
        ({"metadata": {str(number): "v" for number in range(17)}}, 400, "metadata"),
        ({"metadata": {"k": "v" * 513}}, 400, "metadata.k"),
        ({"budget": {"type": "limit", "max_list_cost": {"amount": "1.5", "currency": "USD"}}}, 400, "budget"),
        ({"initial_events": [message("true")] * 51}, 400, "initial_events"),
        ({"initial_events": [message("true"), {"type": "user.interrupt"}]}, 400, "initial_events.1"),
        ({"colour": "red"}, 400, "colour"),
    )
    for fields, status, word in cases:
        body = {"agent": agent, "environment_id": environment, **fields}
        with pytest.raises(anthropic.APIStatusError) as caught:
            client.post("/v1/sessions", body=body, cast_to=object, options={"headers": BETA})
        assert (caught.value.status_code, word in told(caught)) == (status, True), (fields, told(caught))
    assert list(client.beta.sessions.list()) == []


BETA = {"anthropic-beta": "managed-agents-2026-04-01"}


def test_an_mcp_server_is_reached_where_the_environment_lets_it(client: anthropic.Anthropic) -> None:
    agent = an_agent(
        client,
        mcp_servers=[{"type": "url", "name": "m", "url": "https://mcp.example.com/sse"}],
        tools=[{"type": "mcp_toolset", "mcp_server_name": "m"}],
    )
    limited = {"type": "limited"}
    for number, extra in enumerate(({"allowed_hosts": ["*.example.com"]}, {"allow_mcp_servers": True})):
        environment = an_environment(client, f"e{number}", type="cloud", networking={**limited, **extra})
        assert client.beta.sessions.create(agent=agent, environment_id=environment).status == "idle"


def test_sessions_are_listed_by_what_is_asked(client: anthropic.Anthropic) -> None:
    agent, other, environment = an_agent(client), an_agent(client), an_environment(client)
    made = [
        a_session(client, agent=agent if number % 2 else other, environment_id=environment, title=str(number))
        for number in range(5)
    ]
    client.beta.sessions.archive(made[1])

    def listed(**query: Any) -> list[str]:
        return [session.title or "" for session in client.beta.sessions.list(limit=2, **query)]

    assert listed() == ["4", "3", "2", "0"]
    assert listed(order="asc") == ["0", "2", "3", "4"]
    assert listed(include_archived=True) == ["4", "3", "2", "1", "0"]
    assert listed(agent_id=agent) == ["3"]
    assert listed(agent_id=agent, agent_version=2) == []
    assert listed(agent_version=2) == listed()
    assert listed(statuses=["terminated"], include_archived=True) == ["1"]
    assert listed(statuses=["idle", "running"]) == ["4", "3", "2", "0"]
    middle = client.beta.sessions.retrieve(made[2]).created_at
    assert listed(created_at_gt=middle) == ["4", "3"]
    assert listed(created_at_lte=middle) == ["2", "0"]
    for query in ({"statuses": ["asleep"]}, {"deployment_id": "depl_1"}, {"memory_store_id": "mem_1"}):
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.sessions.list(**query)  # type: ignore[arg-type]
        assert next(iter(query)) in told(caught)


def test_pages_lead_forwards_and_back(client: anthropic.Anthropic) -> None:
    agent, environment = an_agent(client), an_environment(client)
    made = [a_session(client, agent=agent, environment_id=environment) for _ in range(4)]
    first: Any = client.get("/v1/sessions?limit=2", cast_to=object, options={"headers": BETA})
    assert (first["prev_page"], first["has_more"]) == (None, True)
    path = f"/v1/sessions?limit=2&page={first['next_page']}"
    second: Any = client.get(path, cast_to=object, options={"headers": BETA})
    path = f"/v1/sessions?limit=2&page={second['prev_page']}"
    again: Any = client.get(path, cast_to=object, options={"headers": BETA})
    older: Any = client.get(
        f"/v1/sessions?limit=2&after_id={made[2]}", cast_to=object, options={"headers": BETA}
    )
    ids = [[session["id"] for session in page["data"]] for page in (first, second, again, older)]
    assert ids == [made[:1:-1], made[1::-1], made[:1:-1], made[1::-1]]


def test_a_session_is_changed_and_says_so(client: anthropic.Anthropic) -> None:
    session = a_session(client, title="old", metadata={"a": "1", "b": "2"})
    with client.beta.sessions.events.stream(session) as stream:
        new = client.beta.sessions.update(session, title="new", metadata={"a": None, "c": "3"})
        event: Any = next(iter(stream))
    assert (new.title, new.metadata) == ("new", {"b": "2", "c": "3"})
    assert (event.type, event.title, event.metadata) == ("session.updated", "new", {"b": "2", "c": "3"})
    same = client.beta.sessions.update(session, title="new")
    assert same.updated_at == new.updated_at
    assert types(list(client.beta.sessions.events.list(session))) == ["session.updated"]
    cleared = client.beta.sessions.update(session, title=None)
    assert cleared.title is None
    bare = client.beta.sessions.update(session, agent={"tools": [], "mcp_servers": []})
    assert bare.agent.tools == []
    for fields, word in (
        ({"vault_ids": ["vlt_1"]}, "vault_ids"),
        ({"budget": {"type": "limit", "max_list_cost": {"amount": "1", "currency": "USD"}}}, "budget"),
        ({"metadata": {str(number): "v" for number in range(17)}}, "metadata"),
        ({"agent": {"tools": [{"type": "mcp_toolset", "mcp_server_name": "m"}]}}, "agent.tools"),
        ({"environment_id": "env_1"}, "environment_id"),
    ):
        with pytest.raises(anthropic.BadRequestError) as caught:
            client.beta.sessions.update(session, extra_body=fields)
        assert word in told(caught)


def test_a_budget_can_be_raised_and_removed(client: anthropic.Anthropic) -> None:
    def money(amount: str) -> Any:
        return {"type": "limit", "max_list_cost": {"amount": amount, "currency": "USD"}}

    session = a_session(client, budget=money("100"))
    raised = client.beta.sessions.update(session, budget=money("200"))
    assert raised.budget is not None and raised.budget.max_list_cost.amount == "200"
    assert client.beta.sessions.update(session, budget=None).budget is None
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.update(session, budget=money("300"))
    assert caught.value.error_code == "budget_create_only"


def test_an_archived_session_is_over(client: anthropic.Anthropic, emulator: Emulator) -> None:
    session = a_session(client)
    run(client, session, "echo kept > /root/file")
    with client.beta.sessions.events.stream(session) as stream:
        archived = client.beta.sessions.archive(session)
        assert types(list(stream)) == ["session.status_terminated"]
    assert (archived.status, archived.archived_at is not None) == ("terminated", True)
    assert client.beta.sessions.archive(session) == archived
    assert client.beta.sessions.retrieve(session) == archived
    assert emulator.service.live.containers.running() == ()
    for refused in (
        lambda: send(client, session, message("true")),
        lambda: client.beta.sessions.update(session, title="x"),
        lambda: run(client, session, "true"),
    ):
        with pytest.raises(anthropic.BadRequestError) as caught:
            refused()
        assert "archived" in told(caught)
    with client.beta.sessions.events.stream(session) as stream:
        assert list(stream) == []
    assert client.beta.sessions.delete(session).type == "session_deleted"


def test_a_deleted_session_is_gone_with_all_it_had(client: anthropic.Anthropic, emulator: Emulator) -> None:
    session, other = a_session(client), a_session(client, environment_id=an_environment(client, "other"))
    for each in (session, other):
        run(client, each, "echo mine > /root/file")
    with client.beta.sessions.events.stream(session) as stream:
        deleted = client.beta.sessions.delete(session)
        assert (deleted.id, deleted.type) == (session, "session_deleted")
        assert types(list(stream)) == ["session.deleted"]
    assert emulator.service.live.containers.ids_of_all() == (other,)
    assert run(client, other, "cat /root/file")["stdout"] == "mine\n"
    for gone in (
        lambda: client.beta.sessions.retrieve(session),
        lambda: client.beta.sessions.delete(session),
        lambda: client.beta.sessions.events.list(session),
        lambda: client.beta.sessions.events.stream(session),
        lambda: send(client, session, message("true")),
        lambda: run(client, session, "true"),
    ):
        with pytest.raises(anthropic.NotFoundError):
            gone()


def test_a_running_session_is_neither_archived_nor_deleted(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    with idle(client, session):
        send(client, session, message("sleep 600"))
        for refused in (
            lambda: client.beta.sessions.archive(session),
            lambda: client.beta.sessions.delete(session),
            lambda: client.beta.sessions.update(session, agent={"tools": []}),
        ):
            with pytest.raises(anthropic.BadRequestError) as caught:
                refused()
            assert "running" in told(caught)
        assert client.beta.sessions.update(session, title="while it runs").title == "while it runs"
        send(client, session, {"type": "user.interrupt"})
    assert client.beta.sessions.delete(session).id == session


def test_an_environment_is_kept_as_it_was(client: anthropic.Anthropic, emulator: Emulator) -> None:
    environment = an_environment(client)
    session = a_session(client, environment_id=environment)
    client.beta.environments.update(
        environment, config={"type": "cloud", "networking": {"type": "limited", "allowed_hosts": ["a.test"]}}
    )
    later = a_session(client, environment_id=environment)
    containers = emulator.service.live.containers
    from sandbox.containers.directory import place_of, read_spec

    rules = {
        each: len(read_spec(place_of(containers.data, containers.ids, each)).policy.rules)
        for each in (session, later)
    }
    assert rules[session] == 0
    assert rules[later] > 0
    with pytest.raises(anthropic.ConflictError):
        client.beta.environments.delete(environment)


def test_a_session_begins_with_what_it_is_told(client: anthropic.Anthropic) -> None:
    agent, environment = an_agent(client), an_environment(client)
    made = client.beta.sessions.create(
        agent=agent,
        environment_id=environment,
        initial_events=[message("echo one > /root/f"), message("echo two >> /root/f")],  # type: ignore[list-item]
    )
    assert made.status == "running"
    eventually(lambda: client.beta.sessions.retrieve(made.id).status == "idle", "the end of the turns")
    assert run(client, made.id, "cat /root/f")["stdout"] == "one\ntwo\n"
    outcome = {"type": "user.define_outcome", "description": "d", "rubric": {"type": "text", "content": "r"}}
    with pytest.raises(anthropic.BadRequestError) as caught:
        client.beta.sessions.create(
            agent=agent,
            environment_id=environment,
            initial_events=[outcome],  # type: ignore[list-item]
        )
    assert "user.define_outcome is not supported" in told(caught)


def test_a_session_has_one_thread(client: anthropic.Anthropic) -> None:
    session = a_session(client)
    (thread,) = client.beta.sessions.threads.list(session)
    assert (thread.session_id, thread.parent_thread_id, thread.status) == (session, None, "idle")
    assert thread.agent.type == "agent" and thread.agent.name == "a"
    assert client.beta.sessions.threads.retrieve(thread.id, session_id=session).id == thread.id
    assert list(client.beta.sessions.threads.events.list(thread.id, session_id=session)) == []
    with pytest.raises(anthropic.NotFoundError):
        client.beta.sessions.threads.retrieve("sthr_none", session_id=session)


def test_tools_of_an_agent_are_a_session_s_own(client: anthropic.Anthropic) -> None:
    agent = an_agent(client, tools=[])
    session = a_session(client, agent=agent)
    changed = client.beta.sessions.update(session, agent={"tools": TOOLS})
    assert len(changed.agent.tools) == 1
    assert client.beta.agents.retrieve(agent).tools == []

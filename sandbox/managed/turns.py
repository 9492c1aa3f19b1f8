"""The turns of sessions: one at a time in each, in the order of what was sent, several sessions side by side.

Whoever holds a session's lock does its turns, in whatever process: a server's while one serves, so that the session has
one shell that lasts, else that of the command that sent something. When that process dies, the lock goes with it; the
next one that gets it finds a turn that was begun and ends it with an error. No command is run a second time.
"""

import time
from contextlib import suppress

from sandbox.managed import events, fenced, identifiers, machines, outputs, records, session_agents
from sandbox.managed.database import Database, Document
from sandbox.managed.failures import Refused
from sandbox.managed.machines import StartError
from sandbox.managed.records import END_TURN, RUNNING, Record, Turn
from sandbox.managed.service import Service
from sandbox.managed.shell import INTERRUPTED, Said

DIED = "The process that ran this turn died. What it ran was ended, and is not run again."
STOPPED = "The process that ran this turn was stopped. What it ran was ended, and is not run again."
OFF = "bash is not enabled for this agent."
DENIED = "The user denied this call."
_NO_TOKENS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_creation_input_tokens": 0,
}
_PAUSE_S = 0.05
# What a command has sent is noticed after this.
_NOTICED_S = 0.1
_LOOK_S = 2.0


def queued() -> Turn:
    """A turn that was asked for now."""
    return Turn("queued", identifiers.now())


def wake(service: Service, identifier: str) -> None:
    """Do the session's turns on a thread of their own."""
    service.live.begin(identifier, lambda: work(service, identifier))


def resume(service: Service) -> None:
    """Take up what sessions had been asked when the last process that did their turns ended."""
    with service.database.read() as connection:
        rows = connection.execute("SELECT id FROM sessions WHERE status = 'running'").fetchall()
    for (identifier,) in rows:
        if not service.live.is_busy(identifier):
            wake(service, identifier)


def take_up(service: Service) -> None:
    """What a server begins with: remove what killed processes left, and go on where they ended; then look now and then
    whether a command has sent something, or was killed in the middle of a turn."""

    def begin() -> None:
        machines.sweep(service)
        resume(service)

    version, last = 0, 0.0

    def look() -> None:
        nonlocal version, last
        now = time.monotonic()
        if (found := service.database.version()) != version or now - last >= _LOOK_S:
            version, last = found, now
            resume(service)

    service.live.begin("", begin)
    service.live.watch(look, _NOTICED_S)


def work(service: Service, identifier: str) -> None:
    """Have the session's turns done until it is idle, whoever is at them before."""
    while not service.live.stopping.is_set():
        if not service.live.beside_a_server:
            with service.live.locks.holding(identifier) as ours:
                if ours:
                    _guarded(service, identifier)
                    return
        with suppress(Refused):
            if records.read(service.database, identifier).status == RUNNING:
                service.live.stopping.wait(_PAUSE_S)
                continue
        return


def _guarded(service: Service, identifier: str) -> None:
    try:
        _work(service, identifier)
        outputs.follow(service, identifier)
    except Refused:
        # Deleted in the meantime.
        return
    except Exception as error:
        import logging

        logging.getLogger("sandboxsh.serve").exception("a turn of %s failed", identifier)
        with suppress(Refused), service.database.write():
            record = records.read(service.database, identifier)
            if record.status == RUNNING:
                records.fail(service.database, record, f"Something failed inside the emulator: {error!r}")
        service.live.feed.tell(identifier)


def _work(service: Service, identifier: str) -> None:
    while not service.live.stopping.is_set():
        record = records.read(service.database, identifier)
        if record.status != RUNNING:
            return
        turn = record.turn
        if turn is None or turn.state == "begun":
            records.fail(service.database, record, DIED)
        elif turn.state == "answered":
            _Turn(service, record).answered()
        else:
            _Turn(service, record).message()
        service.live.feed.tell(identifier)


class _Turn:
    """One turn under way."""

    def __init__(self, service: Service, record: Record) -> None:
        self.service = service
        self.record = record
        self.database: Database = service.database
        self.span = ""
        self.failed: list[bool] = []

    def message(self) -> None:
        """Take the first message that waits, and do what it says."""
        with self.database.write():
            self.record = records.read(self.database, self.record.id)
            message = self._next()
            if message is None:
                records.rest(self.database, self.record, END_TURN)
                return
            self._begin()
        self._tell()
        commands = fenced.commands(message["content"])
        policy, evaluation = session_agents.bash_policy(self.record.document["agent"])
        if commands and policy == session_agents.ASK:
            self._ask(commands, evaluation)
            return
        for command in commands:
            if self._interrupted():
                break
            with self.database.write():
                self.record = self._fresh()
                call = self._call(command, policy, evaluation)
            if not self._answer(call, command, policy):
                return
        self._end()

    def answered(self) -> None:
        """Do what was confirmed, and not what was denied."""
        assert self.record.turn is not None
        calls = self.record.turn.calls
        with self.database.write():
            self._begin()
        self._tell()
        for call, command, result, message in calls:
            refusal = (message or DENIED) if result == "deny" else ""
            if not self._answer(call, command, session_agents.ALLOW, refusal):
                return
        self._end()

    def _next(self) -> Document | None:
        """The first message that is queued, processed now, with what accompanies it."""
        found = None
        for event in events.waiting(self.database, self.record.id):
            if event["type"] == "user.message" and found is not None:
                break
            if event["type"] == "user.interrupt" and found is not None:
                continue
            done = events.process(self.database, self.record.id, event)
            if event["type"] == "user.message":
                found = done
        return found

    def _begin(self) -> None:
        since = self.record.turn.since if self.record.turn is not None else identifiers.now()
        self.record = self.record._replace(turn=Turn("begun", since))
        records.save(self.database, self.record)
        self.span = self._happened("span.model_request_start")["id"]

    def _fresh(self) -> Record:
        """The record, which others change during a turn: its title, its metadata."""
        return records.read(self.database, self.record.id)

    def _happened(self, kind: str, **fields: object) -> Document:
        return events.happened(self.database, self.record.id, kind, **fields)

    def _tell(self) -> None:
        self.service.live.feed.tell(self.record.id)

    def _interrupted(self) -> bool:
        return self.service.live.stopping.is_set() or events.is_interrupted(self.database, self.record.id)

    def _take_interrupts(self) -> bool:
        """Whether there are any; they are processed by that."""
        found = [
            event
            for event in events.waiting(self.database, self.record.id)
            if event["type"] == "user.interrupt"
        ]
        for event in found:
            events.process(self.database, self.record.id, event)
        return bool(found)

    def _call(self, command: str, policy: str, evaluation: Document | None) -> str:
        permission = {session_agents.OFF: "deny", session_agents.ASK: "ask"}.get(policy, "allow")
        fields: Document = {"name": "bash", "input": {"command": command}, "evaluated_permission": permission}
        if evaluation is not None:
            auto = evaluation["type"] == "auto"
            told = {"evaluated_permission": {"type": permission}} if auto else {}
            fields["evaluation"] = {"type": evaluation["type"], **told}
        identifier: str = self._happened("agent.tool_use", **fields)["id"]
        return identifier

    def _run(self, command: str, policy: str, refusal: str) -> Said:
        if policy == session_agents.OFF or refusal:
            return Said(refusal or OFF, True)
        return machines.shell_run(self.service, self.record, command, self._interrupted)

    def _answer(self, call: str, command: str, policy: str, refusal: str = "") -> bool:
        """Make a call and tell what came of it. False when that ended the turn. ``refusal``: why it is not made."""
        self._tell()
        problem = ""
        if self._interrupted():
            said = Said(INTERRUPTED, True, interrupted=True)
        else:
            try:
                said = self._run(command, policy, refusal)
            except StartError as error:
                problem = str(error)
                said = Said("The session could not be started.", True)
        with self.database.write():
            self._happened(
                "agent.tool_result",
                tool_use_id=call,
                content=[{"type": "text", "text": said.text}],
                is_error=said.is_error,
            )
            self.failed.append(said.is_error)
            if problem:
                self._close_span(is_error=True)
                records.fail(self.database, self._fresh(), problem)
        self._tell()
        return not problem

    def _ask(self, commands: list[str], evaluation: Document | None) -> None:
        with self.database.write():
            self.record = self._fresh()
            calls = tuple(
                (self._call(command, session_agents.ASK, evaluation), command, "", "") for command in commands
            )
            self._close_span()
            turn = Turn("asking", identifiers.now(), calls)
            self.record = records.rest(self.database, self.record, records.asking(turn), turn)
            if self._take_interrupts():
                self._give_up(calls)
        self._tell()

    def _give_up(self, calls: tuple[tuple[str, str, str, str], ...]) -> None:
        """An interrupt came while the calls were being written down: they are not made."""
        for call in calls:
            self._happened(
                "agent.tool_result",
                tool_use_id=call[0],
                content=[{"type": "text", "text": INTERRUPTED}],
                is_error=True,
            )
        self._after(interrupted=True)

    def _close_span(self, *, is_error: bool = False) -> None:
        self._happened(
            "span.model_request_end",
            model_request_start_id=self.span,
            model_usage=_NO_TOKENS,
            is_error=is_error,
        )

    def _end(self) -> None:
        with self.database.write():
            self.record = self._fresh()
            interrupted = self._take_interrupts()
            if self.service.live.stopping.is_set() and not interrupted:
                self._close_span(is_error=True)
                records.fail(self.database, self.record, STOPPED)
                return
            if not interrupted:
                text = fenced.summary(self.failed)
                self._happened("agent.message", content=[{"type": "text", "text": text}])
            self._close_span()
            self._after(interrupted)

    def _after(self, interrupted: bool) -> None:
        """Rest, or go on with the next message. After an interrupt the session rests in any case, if for a moment."""
        waiting = events.waiting(self.database, self.record.id)
        more = any(event["type"] == "user.message" for event in waiting)
        if more and not interrupted:
            since = self.record.turn.since if self.record.turn is not None else identifiers.now()
            self.record = self.record._replace(turn=Turn("queued", since))
            records.usage(self.database, self.record)
            records.save(self.database, self.record)
            return
        self.record = records.rest(self.database, self.record, END_TURN)
        if more:
            self.record = records.run(self.database, self.record, queued())

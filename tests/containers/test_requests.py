"""Requests to the starter, and failures that come back from it."""

import os

from sandbox.containers import requests
from sandbox.containers.directory import NoContainerError, Place
from sandbox.containers.requests import Request
from sandbox.errors import HostError, InputError, SetupError
from sandbox.idmap import Extent, IdMap

IDS = IdMap("range", (Extent(0, 1000, 1), Extent(1, 100_000, 65_535)), (Extent(0, 1000, 1),), helper=True)


def test_a_request_survives() -> None:
    request = Request(Place("/data", IDS, "one"), (10.0, None, "x"), b"secret")
    fd, secret = requests.write(request)
    with open(secret, "rb") as file:
        assert os.pread(file.fileno(), 100, 0) == b"secret"
    assert b"secret" not in os.pread(fd, 1000, 0)
    assert requests.read(fd) == request._replace(secret=b"")
    os.close(fd)


def test_a_failure_comes_back_as_what_it_was() -> None:
    for error in (
        InputError("no", hint="do"),
        HostError("a\nb", hint=""),
        SetupError("x"),
        NoContainerError("gone"),
    ):
        words = requests.failure(error)
        assert words is not None
        back = requests.raised(words)
        assert (type(back), str(back), getattr(back, "hint", None)) == (type(error), str(error), error.hint)


def test_a_bug_is_no_failure_of_a_persons() -> None:
    assert requests.failure(ValueError("x")) is None
    assert isinstance(requests.raised("failed bug\n\nValueError: x"), RuntimeError)


def test_a_value_comes_out_of_its_file() -> None:
    assert requests.taken_out(requests.in_memory([("a", 1)])) == [("a", 1)]

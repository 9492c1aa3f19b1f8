"""Environments by file or by name: reading what the user wrote, keeping what was built under its name."""

import os
from typing import NamedTuple

from sandbox.environment import Environment, known_checks, read
from sandbox.errors import HostError, InputError

_SUFFIXES = (".yaml", ".yml", ".json")
_NAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-")


def find(given: str, data: str) -> Environment:
    """The environment of a file, or the one that was built under that name.

    InputError when neither is there, or when it is a self-hosted one, which has nothing to run here.
    """
    found = _find(given, data)
    if found.type != "cloud":
        raise InputError(
            f"{given}: config.type is {found.type}, which names no packages and no network",
            hint="use an environment of type cloud",
        )
    return found


def _find(given: str, data: str) -> Environment:
    if "/" in given or given.endswith(_SUFFIXES) or os.path.isfile(given):
        return read_file(given)
    kept = _kept(data, given)
    if not os.path.isfile(kept):
        known = names(data)
        raise InputError(
            f"--env {given}: no file and no environment of that name",
            hint=f"known names: {', '.join(known)}" if known else "sandboxctl env build FILE makes one known",
        )
    return read_file(kept)


def read_file(path: str) -> Environment:
    """Read and validate one file."""
    try:
        with open(path, "rb") as file:
            text = file.read(1 << 20)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}", hint="check the path") from error
    return read(text, known_checks(), source=path)


def names(data: str) -> list[str]:
    """The names of the environments that are kept."""
    try:
        found = os.listdir(f"{data}/environments")
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(".yaml") for name in found if name.endswith(".yaml"))


def keep(data: str, name: str, path: str) -> None:
    """Keep a copy of the file ``path`` under ``name``, whole or not at all."""
    if not name or not _NAME.issuperset(name) or name.startswith("."):
        raise InputError(
            f"the name {name!r} can't be used on the command line",
            hint="use letters, digits, '.', '_' and '-', not starting with '.'",
        )
    target = _kept(data, name)
    try:
        with open(path, "rb") as file:
            text = file.read()
        os.makedirs(os.path.dirname(target), mode=0o700, exist_ok=True)
        made = f"{target}.{os.getpid()}"
        with open(made, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(made, target)
    except OSError as error:
        raise HostError(
            f"the environment {name} can't be kept: {error.strerror}", hint="free some space, or use --data"
        ) from error


class Kept(NamedTuple):
    """An environment that is known by name. ``problem``: why it can't be used, as one line."""

    name: str
    packages: dict[str, tuple[str, ...]]
    networking: str
    problem: str = ""


def list_kept(data: str) -> tuple[Kept, ...]:
    """All of them, by name."""
    return tuple(_describe(data, name) for name in names(data))


def _describe(data: str, name: str) -> Kept:
    try:
        found = read_file(_kept(data, name))
    except InputError as error:
        return Kept(name, {}, "", str(error).partition("\n")[0])
    return Kept(name, found.packages.wanted(), found.networking.type)


def text(data: str, name: str) -> str:
    """What was kept under ``name``, as it was written. InputError when there is none."""
    try:
        with open(_checked(data, name), encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        raise _unknown(data, name) from None


def remove(data: str, name: str) -> None:
    """Forget what was kept under ``name``. InputError when there is none."""
    try:
        os.unlink(_checked(data, name))
    except FileNotFoundError:
        raise _unknown(data, name) from None


def _checked(data: str, name: str) -> str:
    if not name or not _NAME.issuperset(name) or name.startswith("."):
        raise _unknown(data, name)
    return _kept(data, name)


def _unknown(data: str, name: str) -> InputError:
    known = names(data)
    return InputError(
        f"there is no environment {name!r}",
        hint=f"known names: {', '.join(known)}" if known else "sandboxctl env build FILE makes one known",
    )


def _kept(data: str, name: str) -> str:
    return f"{data}/environments/{name}.yaml"

"""The options of ``sandboxsh``, and the values that they stand for."""

import os
from collections.abc import Mapping, Sequence
from getopt import GetoptError, getopt
from typing import NamedTuple

from sandbox.errors import InputError
from sandbox.spec import HostMount

MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")
# Mounting over these would take down a wall of the session's or hide what every program needs.
_RESERVED = ("/proc", "/sys", "/dev")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

HELP = """\
usage: sandboxsh [OPTIONS] [--] [COMMAND…]

Run a command, or a shell, in a session of its own: isolated, and gone when it ends.

what the session stands on:
  --env FILE|NAME       an environment: a YAML or JSON file, or one that was built before
  --base NAME           host, debian, debian-minimal (default: host; with packages debian)
  --apt SPEC            a package from apt; --cargo, --gem, --go, --npm and --pip likewise
  --offline             use no network, neither to install packages nor in the session; say what is missing
  --ids range|single    force how the session's ids are made

network:
  --net MODE            none, limited or unrestricted (default: limited, with nothing allowed)
  --allow HOST          allow HOST, *.HOST or HOST:PORT; may be repeated, as all options below with a …
  --allow-package-managers
                        allow the package managers' own servers
  --allow-private CIDR …
                        let names and addresses of this private network be reached
  --blocklist FILE …    names and networks to refuse, one a line, besides ~/.config/sandboxsh/blocklist
  --connect-to HOST[:PORT]=ADDRESS[:PORT] …
                        dial an allowed host at this address instead of looking it up
  --learn FILE          let every name be reached and write the environment that would have sufficed to FILE (or -)
  --egress-log FILE     append one JSON line for each network decision

files:
  --workspace DIR       DIR at /workspace, copy on write: DIR itself is never changed
  --workspace-rw DIR    DIR at /workspace, written through
  --mount SRC:DST[:ro|rw] …
                        SRC at DST, read-only unless :rw
  --file SRC:DST …      a read-only copy of a file
  --outputs DIR         copy what is left in /mnt/session/outputs to DIR

the command:
  --workdir DIR         where it starts (default: /workspace)
  --setenv K=V …        set a variable
  --pass-env NAME …     pass one of your variables on
  --timeout TIME        end it after TIME seconds (or 90s, 5m, 1h) with exit code 124

what sandboxsh says:
  --dry-run             print the plan and the policy, and run nothing
  --json                a report in JSON, the last line on standard error
  -q, --quiet           only errors
  -v, --verbose         more
  --debug               show where an error was raised
  --data DIR            where sandboxsh keeps its data (default: $SANDBOXSH_DATA)
  --version             print the version
  -h, --help            print this

examples:
  sandboxsh                                   a shell, with no network
  sandboxsh --workspace . -- make test        this directory, copy on write
  sandboxsh --allow api.example.com -- ./job  one host may be reached, over HTTPS
  sandboxsh --env tools.yaml -- pytest        the packages and the network of an environment

exit codes: the command's own; 128+n when signal n ended it; 124 after --timeout; 125 when the session could not
be set up; 126 or 127 when the command can't be run or is not there; 2 for wrong options.
"""

_FLAGS = (
    "allow-package-managers",
    "offline",
    "dry-run",
    "json",
    "quiet",
    "verbose",
    "debug",
    "version",
    "help",
)
_VALUES = (
    "env",
    "base",
    "ids",
    "net",
    "egress-log",
    "learn",
    "workspace",
    "workspace-rw",
    "outputs",
    "workdir",
    "timeout",
    "data",
)
_LISTS = (
    *MANAGERS,
    "allow",
    "allow-private",
    "blocklist",
    "connect-to",
    "mount",
    "file",
    "setenv",
    "pass-env",
)
_SHORT = {"q": "quiet", "v": "verbose", "h": "help"}
_CHOICES = {"ids": ("range", "single"), "net": ("none", "limited", "unrestricted")}


class Options(NamedTuple):
    """What was given: options with a value, options that may be repeated, flags, and the command."""

    values: Mapping[str, str]
    lists: Mapping[str, tuple[str, ...]]
    flags: frozenset[str]
    command: tuple[str, ...]

    def value(self, name: str) -> str | None:
        """The value of an option, None when it was not given."""
        return self.values.get(name)

    def all(self, name: str) -> tuple[str, ...]:
        """The values of an option that may be repeated, in their order."""
        return self.lists.get(name, ())


def parse(arguments: list[str]) -> Options:
    """Sort the arguments. The first that is no option begins the command. InputError for a wrong option.

    getopt, since the standard library's other parser takes as long to load as half a session takes to start.
    """
    names = [*_FLAGS, *(f"{name}=" for name in (*_VALUES, *_LISTS))]
    try:
        found, command = getopt(arguments, "".join(_SHORT), names)
    except GetoptError as error:
        raise InputError(f"{error.msg}", hint="sandboxsh --help lists the options") from error
    values: dict[str, str] = {}
    lists: dict[str, list[str]] = {}
    flags: set[str] = set()
    for option, value in found:
        name = _SHORT[option[1:]] if not option.startswith("--") else option[2:]
        if name in _FLAGS:
            flags.add(name)
        elif name in _LISTS:
            lists.setdefault(name, []).append(value)
        elif name in values:
            raise InputError(f"--{name} was given twice", hint="give it once")
        elif value not in _CHOICES.get(name, (value,)):
            raise InputError(f"--{name} {value}: choose one of {', '.join(_CHOICES[name])}")
        else:
            values[name] = value
    return Options(
        values, {name: tuple(given) for name, given in lists.items()}, frozenset(flags), tuple(command)
    )


def host_mount(text: str) -> HostMount:
    """``SRC:DST[:ro|rw]`` as a mount. InputError when it is malformed, SRC is missing or DST may not be used."""
    rest, _, last = text.rpartition(":")
    writable = last == "rw"
    pair = rest if last in ("ro", "rw") and ":" in rest else text
    source, target = _pair("--mount", pair, "SRC:DST[:ro|rw]")
    return HostMount(_existing("--mount", source), session_path("--mount", target), writable)


def file_copy(text: str) -> tuple[str, str]:
    """``SRC:DST`` as (file of the host, path in the session)."""
    source, target = _pair("--file", text, "SRC:DST")
    path = _existing("--file", source)
    if not os.path.isfile(path):
        raise InputError(f"--file {path}: not a file", hint="use --mount for a directory")
    return path, session_path("--file", target)


def file_copies(texts: Sequence[str]) -> dict[str, bytes]:
    """``SRC:DST`` each, as path in the session → what is in the file of the host."""
    found = {}
    for text in texts:
        path, target = file_copy(text)
        try:
            with open(path, "rb") as file:
                found[target] = file.read()
        except OSError as error:
            raise InputError(
                f"--file {path}: {error.strerror}", hint="name a file that you can read"
            ) from error
    return found


def _pair(option: str, text: str, form: str) -> tuple[str, str]:
    source, colon, target = text.rpartition(":")
    if not colon or not source or not target:
        raise InputError(f"{option} {text}: this is not {form}", hint=f"for example {option} ./data:/data")
    return source, target


def session_path(option: str, path: str) -> str:
    """An absolute path in the session, in its plain form. InputError when it escapes or is reserved."""
    if not path.startswith("/"):
        raise InputError(f"{option} …:{path}: the place in the session must be an absolute path")
    if ".." in path.split("/"):
        raise InputError(
            f"{option} …:{path}: '..' could lead out of the place that is meant",
            hint="write the path without it",
        )
    plain = "/" + "/".join(part for part in path.split("/") if part not in ("", "."))
    if plain == "/" or any(plain == top or plain.startswith(f"{top}/") for top in _RESERVED):
        raise InputError(
            f"{option} …:{plain}: this place belongs to the session itself", hint="choose another"
        )
    return plain


def _existing(option: str, path: str) -> str:
    full = os.path.abspath(path)
    if not os.path.exists(full):
        raise InputError(f"{option}: {full} does not exist", hint="check the path")
    return full


def directory(option: str, path: str) -> str:
    """An existing directory of the host, absolute."""
    full = _existing(option, path)
    if not os.path.isdir(full):
        raise InputError(f"{option}: {full} is not a directory")
    return full


def seconds(text: str) -> float:
    """``90``, ``90s``, ``5m`` or ``1h`` in seconds, more than none."""
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNITS else (text, "s")
    try:
        value = float(number) * _UNITS[unit]
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise InputError(f"--timeout {text}: not a time", hint="give seconds, or 90s, 5m, 1h")
    return value


def variables(
    setenv: tuple[str, ...], pass_env: tuple[str, ...], environment: Mapping[str, str]
) -> dict[str, str]:
    """The variables that the user sets or passes on; a name that is not set here passes nothing."""
    found = {}
    for name in pass_env:
        if not name or "=" in name:
            raise InputError(
                f"--pass-env {name}: not a variable's name", hint="to set a value use --setenv K=V"
            )
        if name in environment:
            found[name] = environment[name]
    for text in setenv:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise InputError(
                f"--setenv {text}: this is not NAME=VALUE", hint="to pass yours on use --pass-env"
            )
        found[name] = value
    return found

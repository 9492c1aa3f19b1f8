"""The options of ``sandboxsh``, and the values that they stand for."""

import argparse
import os
from collections.abc import Mapping
from typing import NoReturn

from sandbox.errors import InputError
from sandbox.spec import HostMount

MANAGERS = ("apt", "cargo", "gem", "go", "npm", "pip")
# Mounting over these would take down a wall of the session's or hide what every program needs.
_RESERVED = ("/proc", "/sys", "/dev")
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}

_EXAMPLES = """\
examples:
  sandboxsh                                   a shell, with no network
  sandboxsh --workspace . -- make test        this directory, copy on write
  sandboxsh --allow api.example.com -- ./job  one host may be reached, over HTTPS
  sandboxsh --env tools.yaml -- pytest        the packages and the network of an environment

exit codes: the command's own; 128+n when signal n ended it; 124 after --timeout; 125 when the session could not
be set up; 126 or 127 when the command can't be run or is not there; 2 for wrong options.
"""


class _Version(argparse.Action):
    """Prints the version; reading the installed package's metadata is too slow to do at every start."""

    def __call__(self, *_: object) -> NoReturn:
        from importlib import metadata

        print(f"sandboxsh {metadata.version('sandboxsh')}")
        raise SystemExit(0)


def parser() -> argparse.ArgumentParser:
    """The parser of ``sandboxsh``."""
    made = argparse.ArgumentParser(
        prog="sandboxsh",
        usage="sandboxsh [OPTIONS] [--] [COMMAND…]",
        description="Run a command, or a shell, in a session of its own: isolated, and gone when it ends.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("command", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)

    group = made.add_argument_group("what the session stands on")
    add = group.add_argument
    add(
        "--env", metavar="FILE|NAME", help="an environment: a YAML or JSON file, or one that was built before"
    )
    add("--base", metavar="NAME", help="host, debian, debian-minimal (default: host; with packages debian)")
    for manager in MANAGERS:
        add(f"--{manager}", metavar="SPEC", action="append", default=[], help=f"a package from {manager}")
    add("--ids", choices=("range", "single"), help="force how the session's ids are made")

    group = made.add_argument_group("network")
    add = group.add_argument
    add("--net", choices=("none", "limited", "unrestricted"), help="default: limited, with nothing allowed")
    add("--allow", metavar="HOST", action="append", default=[], help="allow HOST, *.HOST or HOST:PORT")
    add("--allow-package-managers", action="store_true", help="allow the package managers' own servers")
    add("--connect-to", metavar="HOST[:PORT]=ADDRESS[:PORT]", action="append", default=[],
        help="dial an allowed host at this address instead of looking it up")  # fmt: skip
    add("--egress-log", metavar="FILE", help="append one JSON line for each network decision")

    group = made.add_argument_group("files")
    add = group.add_argument
    add("--workspace", metavar="DIR", help="DIR at /workspace, copy on write: DIR itself is never changed")
    add("--workspace-rw", metavar="DIR", help="DIR at /workspace, written through")
    add(
        "--mount",
        metavar="SRC:DST[:ro|rw]",
        action="append",
        default=[],
        help="SRC at DST, read-only by default",
    )
    add("--file", metavar="SRC:DST", action="append", default=[], help="a read-only copy of a file")
    add("--outputs", metavar="DIR", help="copy what is left in /mnt/session/outputs to DIR")

    group = made.add_argument_group("the command")
    add = group.add_argument
    add("--workdir", metavar="DIR", default="/workspace", help="where it starts (default: /workspace)")
    add("--setenv", metavar="K=V", action="append", default=[], help="set a variable")
    add("--pass-env", metavar="NAME", action="append", default=[], help="pass one of your variables on")
    add("--timeout", metavar="TIME", help="end it after TIME seconds (or 90s, 5m, 1h) with exit code 124")

    group = made.add_argument_group("what sandboxsh says")
    add = group.add_argument
    add("--dry-run", action="store_true", help="print the plan and the policy, and run nothing")
    add("--json", action="store_true", help="a report in JSON, the last line on standard error")
    add("-q", "--quiet", action="store_true", help="only errors")
    add("-v", "--verbose", action="store_true", help="more")
    add("--debug", action="store_true", help="show where an error was raised")
    add("--data", metavar="DIR", help="where sandboxsh keeps its data (default: $SANDBOXSH_DATA)")
    add("--version", action=_Version, nargs=0, help="print the version")
    return made


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


def variables(setenv: list[str], pass_env: list[str], environment: Mapping[str, str]) -> dict[str, str]:
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

"""An environment body, as the Managed Agents API has it, read into values that can be trusted.

Two shapes are read: the API's create body (`name`, `config: {networking, packages}`, ...) and, in a file for
the command line, the configuration alone (`networking` and `packages` at the top). Everything that is wrong
with a body is found in one pass and told in one `InputError`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from sandbox import fields
from sandbox.document import Document, Path, Problem, load, show_path
from sandbox.errors import InputError
from sandbox.fields import Problems


class Networking(NamedTuple):
    """What may be reached. With `unrestricted`, the other fields are empty and mean nothing."""

    type: Literal["unrestricted", "limited"] = "unrestricted"
    allowed_hosts: tuple[str, ...] = ()
    allow_mcp_servers: bool = False
    allow_package_managers: bool = False


class Packages(NamedTuple):
    """Package specs for each manager, as written."""

    apt: tuple[str, ...] = ()
    cargo: tuple[str, ...] = ()
    gem: tuple[str, ...] = ()
    go: tuple[str, ...] = ()
    npm: tuple[str, ...] = ()
    pip: tuple[str, ...] = ()

    def wanted(self) -> dict[str, tuple[str, ...]]:
        """The specs of the managers that have any, in the order in which they are installed."""
        return {manager: specs for manager, specs in zip(self._fields, self, strict=True) if specs}


class Environment(NamedTuple):
    """A validated body. `networking` and `packages` are the defaults for `self_hosted`, which has neither."""

    name: str | None = None
    description: str | None = None
    metadata: Mapping[str, str] = MappingProxyType({})
    scope: str | None = None
    type: Literal["cloud", "self_hosted"] = "cloud"
    networking: Networking = Networking()
    packages: Packages = Packages()


class Checks(NamedTuple):
    """The syntax of a host entry and of each manager's package specs."""

    host: fields.Check
    spec: Mapping[str, fields.Check]


MANAGERS = Packages._fields
BODY_FIELDS = ("name", "description", "metadata", "scope", "config")
CONFIG_FIELDS = ("type", "networking", "packages")
NETWORKING_FIELDS = ("type", "allowed_hosts", "allow_mcp_servers", "allow_package_managers")
PACKAGES_FIELDS = ("type", *MANAGERS)
OLD_LIMITED = "package_managers_and_custom"

_HOMES = {
    **dict.fromkeys(("networking", "packages"), "config"),
    **dict.fromkeys(NETWORKING_FIELDS[1:], "networking"),
    **dict.fromkeys(MANAGERS, "packages"),
}
_OTHER_WORDS = {
    "network": "networking",
    "net": "networking",
    "allow": "allowed_hosts",
    "hosts": "allowed_hosts",
    "allowlist": "allowed_hosts",
    "mode": "type",
    "crates": "cargo",
    "debian": "apt",
    "dpkg": "apt",
    "golang": "go",
    "node": "npm",
    "nodejs": "npm",
    "python": "pip",
    "ruby": "gem",
    "rust": "cargo",
}
_ANSWERED = ("id", "created_at", "updated_at", "archived_at")


def known_checks() -> Checks:
    """The syntax that the other two packages accept."""
    from netpolicy.errors import InputError as HostMistake
    from netpolicy.hosts import parse_pattern
    from pkgcache.errors import InputError as SpecMistake
    from pkgcache.specs import parse as parse_spec

    def host(text: str) -> tuple[str, str] | None:
        try:
            parse_pattern(text)
        except HostMistake as error:
            return str(error), error.hint
        return None

    def spec(manager: str) -> fields.Check:
        def check(text: str) -> tuple[str, str] | None:
            try:
                parse_spec(manager, text)
            except SpecMistake as error:
                return f"{fields.describe(text)}: {error}", error.hint
            return None

        return check

    return Checks(host, {manager: spec(manager) for manager in MANAGERS})


def read(text: str | bytes, checks: Checks, *, source: str) -> Environment:
    """The environment in a file's text, YAML or JSON. Raises InputError, which names `source`."""
    document = load(text)
    if document.value is None and document.problems:
        raise _error(document.problems, source)
    return parse(document, checks, source=source)


def parse(
    body: Document | object, checks: Checks, *, source: str, bare: bool = True, named: bool = False
) -> Environment:
    """The environment that a body describes; InputError with all that is wrong, each with its field's path.

    `bare` accepts a configuration without the body around it; `named` demands a name, as creating one does.
    """
    document = body if isinstance(body, Document) else Document(body)
    environment, problems = judge(document, checks, bare=bare, named=named)
    if problems:
        raise _error(problems, source)
    return environment


def judge(
    document: Document, checks: Checks, *, bare: bool = True, named: bool = False
) -> tuple[Environment, tuple[Problem, ...]]:
    """What `parse` finds, with all that is wrong as values: the environment is only to be used when nothing is."""
    problems = list(document.problems)
    environment = _body(problems, document.value, checks, bare, named)
    return environment, tuple(sorted((_placed(problem, document) for problem in problems), key=_by_line))


def body_of(value: object) -> object:
    """What a file holds, in the shape of the API's body whichever of the two it is written in."""
    if not isinstance(value, dict):
        return value
    config = value.get("config", {name: value[name] for name in CONFIG_FIELDS if name in value})
    rest = {
        name: value[name]
        for name in value
        if name != "config" and ("config" in value or name not in CONFIG_FIELDS)
    }
    if isinstance(config, dict) and "type" not in config:
        config = {"type": "cloud", **config}
    return {**rest, "config": config}


def _placed(problem: Problem, document: Document) -> Problem:
    path = problem.path
    while problem.line is None and path and path not in document.lines:
        path = path[:-1]
    line = problem.line or (document.lines.get(path) if path else None)
    return Problem(problem.path, problem.message, problem.hint, line)


def _by_line(problem: Problem) -> int:
    return problem.line or 0


def _error(problems: Iterable[Problem], source: str) -> InputError:
    """One message: a line for each problem, `source:line: path: what is wrong; what to do`."""
    found = list(problems)
    lines = []
    for problem in found:
        where = f"line {problem.line}: " if problem.line else ""
        path = f"{show_path(problem.path)}: " if problem.path else ""
        hint = f" ({problem.hint})" if problem.hint and len(found) > 1 else ""
        lines.append(f"{where}{path}{problem.message}{hint}")
    if len(found) == 1:
        return InputError(f"{source}: {lines[0]}", hint=found[0].hint)
    message = f"{source}: {len(found)} things are wrong:\n" + "\n".join(f"  {line}" for line in lines)
    return InputError(message, hint="correct them in the file; nothing was done")


def _body(problems: Problems, value: object, checks: Checks, bare: bool, named: bool) -> Environment:
    flat = bare and not (isinstance(value, dict) and "config" in value)
    known = (*BODY_FIELDS[:-1], *CONFIG_FIELDS) if flat else BODY_FIELDS
    example = "write `packages:` and `networking:` with their fields"
    given = fields.mapping(problems, value, (), known, example, _advice)
    name = description = scope = None
    if "name" in given:
        name = fields.text(problems, given["name"], ("name",), 256)
    if name == "" or (named and "name" not in given):
        problems.append(Problem(("name",), "must not be empty", "give the environment a name"))
    if "description" in given:
        description = fields.text(problems, given["description"], ("description",), 2048, several_lines=True)
    if "scope" in given:
        scope = fields.one_of(problems, given["scope"], ("scope",), ("organization",))
    metadata = _metadata(problems, given.get("metadata", {}))
    at: Path = () if flat else ("config",)
    config = value if flat else given.get("config", {})
    kind, networking, packages = _config(problems, config, at, checks)
    return Environment(name, description, metadata, scope, kind, networking, packages)


def _config(
    problems: Problems, value: object, at: Path, checks: Checks
) -> tuple[Literal["cloud", "self_hosted"], Networking, Packages]:
    if at:
        given = fields.mapping(problems, value, at, CONFIG_FIELDS, "write its fields below it", _advice)
    else:
        given = dict(value) if isinstance(value, dict) else {}
        given = {key: given[key] for key in CONFIG_FIELDS if given.get(key) is not None}
    if given.get("type") == "self_hosted":
        hint = 'remove it, or write "cloud" as the type'
        for name in ("networking", "packages"):
            if name in given:
                problems.append(Problem((*at, name), "means nothing in a self_hosted environment", hint))
        return "self_hosted", Networking(), Packages()
    if "type" in given:
        fields.one_of(problems, given["type"], (*at, "type"), ("cloud", "self_hosted"))
    if isinstance(value, dict) and "networking" in value and value["networking"] is None:
        # Left out, the field means no limit; written with nothing below it, someone meant to say something.
        hint = "write `type: limited` below it, or remove it to leave networking unrestricted"
        problems.append(Problem((*at, "networking"), "has nothing below it", hint))
    networking, packages = Networking(), Packages()
    before = len(problems)
    if "networking" in given:
        networking = _networking(problems, given["networking"], (*at, "networking"), checks)
    decided = len(problems) == before
    if "packages" in given:
        packages = _packages(problems, given["packages"], (*at, "packages"), checks)
    if (
        decided
        and packages.wanted()
        and networking.type == "limited"
        and not networking.allow_package_managers
    ):
        first = show_path((*at, "packages", next(iter(packages.wanted()))))
        message = f"must be true: {first} names packages, and limited networking keeps their registries out"
        hint = "write `allow_package_managers: true` below networking, or remove the packages"
        problems.append(Problem((*at, "networking", "allow_package_managers"), message, hint))
    return "cloud", networking, packages


def _networking(problems: Problems, value: object, path: Path, checks: Checks) -> Networking:
    word = value if value in ("limited", "unrestricted") else "limited"
    given = fields.mapping(
        problems, value, path, NETWORKING_FIELDS, f"write `type: {word}` below it", _advice
    )
    hosts = given.get("allowed_hosts", [])
    allowed = fields.strings(problems, hosts, (*path, "allowed_hosts"), "host", checks.host)
    flags = {
        name: fields.boolean(problems, given.get(name, False), (*path, name))
        for name in ("allow_mcp_servers", "allow_package_managers")
    }
    if not isinstance(value, dict):
        return Networking()
    if "type" not in given:
        problems.append(Problem((*path, "type"), "is missing", 'write "limited" or "unrestricted"'))
        return Networking()
    if given["type"] == OLD_LIMITED:
        if given.get("allow_package_managers") is False:
            message = f"is false, but the type {OLD_LIMITED} means true"
            hint = 'write "limited" as the type, or leave this field out'
            problems.append(Problem((*path, "allow_package_managers"), message, hint))
        return Networking("limited", allowed, flags["allow_mcp_servers"], True)
    kind = fields.one_of(problems, given["type"], (*path, "type"), ("limited", "unrestricted"))
    if kind == "limited":
        return Networking("limited", allowed, **flags)
    for name in NETWORKING_FIELDS[1:]:
        if kind == "unrestricted" and given.get(name):
            hint = "write `type: limited` if nothing else should be reached, or remove this field"
            problems.append(Problem((*path, name), "limits nothing under the type unrestricted", hint))
    return Networking()


def _packages(problems: Problems, value: object, path: Path, checks: Checks) -> Packages:
    example = "write a manager and its list below it, such as `pip: [pytest]`"
    given = fields.mapping(problems, value, path, PACKAGES_FIELDS, example, _advice)
    if "type" in given:
        fields.one_of(problems, given["type"], (*path, "type"), ("packages",))
    return Packages(
        *(
            fields.strings(problems, given.get(name, []), (*path, name), f"{name} package", checks.spec[name])
            for name in MANAGERS
        )
    )


def _metadata(problems: Problems, value: object) -> Mapping[str, str]:
    path: Path = ("metadata",)
    if not isinstance(value, dict):
        message = f"must be a mapping of text to text, but is {fields.describe(value)}"
        problems.append(Problem(path, message, "write `key: value` below it"))
        return MappingProxyType({})
    if len(value) > 16:
        problems.append(Problem(path, f"has {len(value)} pairs; 16 are allowed", "remove some"))
    result: dict[str, str] = {}
    for key, inner in value.items():
        if not isinstance(key, str) or not 1 <= len(key) <= 64 or not key.isprintable():
            hint = "a key is text of 1 to 64 printable characters; put a number in quotes"
            problems.append(Problem(path, f"has the key {fields.describe(key)}", hint))
            continue
        text = fields.text(problems, inner, (*path, key), 512, several_lines=True)
        if text is not None:
            result[key] = text
    return MappingProxyType(result)


def _advice(key: str, path: Path, known: tuple[str, ...]) -> str:
    """What to do about an unknown field: its likely meaning, its right place, or the names that there are."""
    meant = _OTHER_WORDS.get(key.lower().replace("-", "_"), key)
    if meant not in known:
        meant = fields.nearest(meant, known) or meant
    if meant in known:
        return f'did you mean "{meant}"?'
    if key in _HOMES:
        return f'it belongs below "{_HOMES[key]}"'
    if not path and key in _ANSWERED:
        return "the service answers with it and doesn't take it: remove it"
    return f"remove it; the fields here are {', '.join(known)}"

"""The shape of the code, held by reading it: who imports whom, what has no effects, what is tested."""

from __future__ import annotations

import ast
import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("sandbox", "netpolicy", "pkgcache")

MAY_IMPORT = {"netpolicy": {"netpolicy"}, "pkgcache": {"pkgcache"}, "sandbox": set(PACKAGES)}

PURE = (
    "netpolicy.addresses",
    "netpolicy.advice",
    "netpolicy.audit",
    "netpolicy.blocklist",
    "netpolicy.clienthello",
    "netpolicy.credentials",
    "netpolicy.dns",
    "netpolicy.dnsreply",
    "netpolicy.errors",
    "netpolicy.hostproxy",
    "netpolicy.hosts",
    "netpolicy.httprules",
    "netpolicy.packets",
    "netpolicy.policy",
    "netpolicy.recent",
    "netpolicy.synthetic",
    "pkgcache.environment",
    "pkgcache.errors",
    "pkgcache.keys",
    "pkgcache.managers.apt",
    "pkgcache.managers.cargo",
    "pkgcache.managers.gem",
    "pkgcache.managers.go",
    "pkgcache.managers.npm",
    "pkgcache.managers.pip",
    "pkgcache.lock",
    "pkgcache.manifest",
    "pkgcache.oci",
    "pkgcache.recipe",
    "pkgcache.records",
    "pkgcache.report",
    "pkgcache.retention",
    "pkgcache.runner",
    "pkgcache.sources",
    "pkgcache.specs",
    "pkgcache.why",
    "sandbox.containers.record",
    "sandbox.containers.spec",
    "sandbox.document",
    "sandbox.environment",
    "sandbox.errors",
    "sandbox.fields",
    "sandbox.learned",
    "sandbox.managed.mountpaths",
    "sandbox.networks",
    "sandbox.plan",
    "sandbox.spec",
)
"""Modules that decide: from values to values, with no look at the machine, the clock or the network."""

VALUES_FROM = {"sandbox.plan": {"sandbox.hostview", "sandbox.operations"}}
"""A plan is made of operations and of what was seen of the host: it uses their types and executes nothing."""

PURE_MAY_IMPORT = {
    "__future__",
    "base64",
    "bisect",
    "collections",
    "dataclasses",
    "difflib",
    "enum",
    "functools",
    "h11",
    "hashlib",
    "idna",
    "importlib",
    "ipaddress",
    "itertools",
    "json",
    "math",
    "packaging",
    "posixpath",
    "re",
    "string",
    "struct",
    "types",
    "typing",
    "yaml",
}
EFFECTS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}

BODIES = {
    *(
        f"sandbox.managed.{name}_bodies"
        for name in ("agent", "credential", "environment", "resource", "session")
    ),
    "sandbox.managed.client_events",
    "sandbox.managed.content",
    "sandbox.managed.toolsets",
    "sandbox.managed.values",
    "sandbox.managed.vault_bodies",
}
"""Modules that read what requests say."""

TESTED_ELSEWHERE = {
    "netpolicy.authority": "a type alone; see tests/netpolicy/test_certificates.py",
    "netpolicy.datagrams": "between network namespaces, in tests/netpolicy/lab_unrestricted.py",
    "netpolicy.errors": "exception classes alone",
    "pkgcache.errors": "exception classes alone",
    "pkgcache.runner": "types alone",
    "sandbox.build_runner": "builds of real layers, in tests/integration",
    "sandbox.commands.adhoc": "whole sessions, in tests/sessions",
    "sandbox.commands.records": "under every command of tests/sandbox/commands/test_env_records.py",
    "sandbox.commands.lasting": "the real command, in tests/sessions/test_bad_input.py",
    "sandbox.commands.sandboxsh": "whole sessions, in tests/sessions",
    "sandbox.containers.attach": "whole containers, in tests/containers",
    "sandbox.containers.building": "whole containers, in tests/containers",
    "sandbox.containers.chores": "whole containers, in tests/containers",
    "sandbox.containers.execution": "whole containers, in tests/containers",
    "sandbox.containers.keeper": "whole containers, in tests/containers",
    "sandbox.containers.changing": "whole containers, in tests/containers",
    "sandbox.containers.jobs": "whole containers, in tests/containers",
    "sandbox.containers.serve": "whole containers, in tests/containers",
    "sandbox.containers.starter": "whole containers, in tests/containers",
    "sandbox.containers.starting": "whole containers, in tests/containers",
    "sandbox.containers.zygote": "whole containers, in tests/containers",
    "sandbox.emulator.answers": "under every request of tests/emulator",
    "sandbox.emulator.app": "under every request of tests/emulator",
    "sandbox.emulator.contents": "with files, in tests/emulator/test_files.py",
    "sandbox.emulator.embedded": "in every test of tests/emulator",
    "sandbox.emulator.multipart": "with files, in tests/emulator/test_files.py",
    "sandbox.emulator.queries": "under the lists of tests/emulator",
    "sandbox.emulator.service": "under every request of tests/emulator",
    "sandbox.emulator.streams": "in tests/emulator/test_events.py",
    "sandbox.containers.wayout": "with traffic, in tests/containers/test_network.py",
    "sandbox.entering": "whole containers, in tests/containers",
    "sandbox.errors": "exception classes alone",
    "sandbox.images": "builds of real layers, in tests/integration",
    "sandbox.launch": "whole sessions, in tests/sessions",
    "sandbox.managed.agent_bodies": "in tests/emulator/test_agents.py",
    "sandbox.managed.build_process": "whole builds, in tests/emulator/test_builds.py",
    "sandbox.managed.builder": "whole builds, in tests/emulator/test_builds.py",
    "sandbox.managed.client_events": "bodies; with what is sent, in tests/emulator/test_events.py",
    "sandbox.managed.console": "with the real command, in tests/sandbox/commands/test_sessions.py",
    "sandbox.managed.content": "bodies; with what is sent, in tests/emulator/test_events.py",
    "sandbox.managed.credential_bodies": "in tests/emulator/test_credentials.py",
    "sandbox.managed.environment_bodies": "in tests/emulator/test_environments.py",
    "sandbox.managed.failures": "an exception class; under every refusal of tests/emulator",
    "sandbox.managed.following": "with the real command, in tests/sandbox/commands/test_sessions.py",
    "sandbox.managed.inbox": "in tests/emulator/test_events.py and test_turns.py",
    "sandbox.managed.looking": "with the real command, in tests/sandbox/commands/test_sessions.py",
    "sandbox.managed.mcp": "with agents, in tests/emulator/test_agents.py",
    "sandbox.managed.machines": "under every command of tests/emulator",
    "sandbox.managed.resource_bodies": "in tests/emulator/test_resources.py",
    "sandbox.managed.service": "under every request of tests/emulator",
    "sandbox.managed.session_agents": "with sessions, in tests/emulator/test_sessions.py",
    "sandbox.managed.session_bodies": "in tests/emulator/test_sessions.py",
    "sandbox.managed.shell": "under the turns of tests/emulator/test_turns.py",
    "sandbox.managed.resetting": "with all that goes, in tests/emulator/test_state.py",
    "sandbox.managed.toolsets": "with agents, in tests/emulator/test_agents.py",
    "sandbox.managed.vault_bodies": "in tests/emulator/test_vaults.py",
    "sandbox.process1": "whole sessions, in tests/sessions",
    "sandbox.restrict": "whole sessions, in tests/sessions",
    "sandbox.sealing": "whole sessions, in tests/escape/test_sealed_downloads.py",
    "sandbox.session": "whole sessions, in tests/sessions",
    "sandbox.spec": "types alone",
    "sandbox.supervise": "whole sessions, in tests/sessions",
    "sandbox.syscalls": "wrappers of system calls, under every test that starts a session",
}
"""Modules without a test file of their own, each with the reason."""


def modules() -> dict[str, Path]:
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


@functools.cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"), str(MODULES[module]))


def imports(module: str, *, lazy: bool = True) -> Iterator[tuple[str, int]]:
    """(module, line) of each import; `lazy` includes those inside functions. Names from a package that are
    modules count as those modules. What only the type checker reads doesn't count."""
    for node in walk(tree(module), lazy):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
                for _ in range(node.level - 1):
                    package = package.rpartition(".")[0]
                base = f"{package}.{base}".rstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield (inner if inner in MODULES else base), node.lineno


def walk(node: ast.AST, lazy: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        if lazy or not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from walk(child, lazy)


@pytest.mark.parametrize("module", MODULES)
def test_packages_import_only_in_the_allowed_directions(module: str) -> None:
    allowed = MAY_IMPORT[module.partition(".")[0]]
    for name, line in imports(module):
        package = name.partition(".")[0]
        assert package not in PACKAGES or package in allowed, f"{MODULES[module]}:{line} imports {name}"


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("sandbox.commands")])
def test_nothing_imports_the_commands(module: str) -> None:
    for name, line in imports(module):
        assert not name.startswith("sandbox.commands"), f"{MODULES[module]}:{line} imports {name}"


@pytest.mark.parametrize(
    "module", [name for name in MODULES if name.startswith(("sandbox.managed", "sandbox.containers"))]
)
def test_what_lasts_knows_nothing_of_http(module: str) -> None:
    """Commands and routes call the same functions, which therefore know neither."""
    for name, line in imports(module):
        where = f"{MODULES[module]}:{line} imports {name}"
        assert not name.startswith(("sandbox.emulator", "fastapi", "starlette", "uvicorn", "click")), where


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("sandbox.containers")])
def test_containers_know_nothing_of_who_keeps_records_of_them(module: str) -> None:
    for name, line in imports(module):
        where = f"{MODULES[module]}:{line} imports {name}"
        assert not name.startswith(("sandbox.managed", "sqlite3")), where


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("sandbox.managed.")])
def test_only_what_reads_bodies_of_requests_loads_pydantic(module: str) -> None:
    """It takes longer to load than a command takes to look at records."""
    if module in BODIES:
        return
    for name, line in imports(module, lazy=False):
        assert name.partition(".")[0] != "pydantic" and name not in BODIES, (
            f"{MODULES[module]}:{line} imports {name}"
        )


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {
        module: {name for name, _ in imports(module, lazy=False) if name in MODULES} for module in MODULES
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " → ".join((*trail, module))
        if module not in done:
            for name in graph[module] - {module}:
                visit(name, (*trail, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", PURE)
def test_modules_that_decide_have_no_effects(module: str) -> None:
    assert module in MODULES, f"{module} is gone: take it off the list"
    for name, line in imports(module):
        where = f"{MODULES[module]}:{line} imports {name}"
        if name.partition(".")[0] in PACKAGES:
            known = name in PURE or name in VALUES_FROM.get(module, ()) or not tree(name).body[1:]
            assert known, f"{where}, which may have effects"
        else:
            assert name.partition(".")[0] in PURE_MAY_IMPORT, where
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in EFFECTS, f"{MODULES[module]}:{node.lineno} calls {node.func.id}"
        if isinstance(node, ast.Attribute):
            assert node.attr != "execute", f"{MODULES[module]}:{node.lineno} executes"


@pytest.mark.parametrize("module", MODULES)
def test_importing_a_module_does_nothing_but_define(module: str) -> None:
    for node in walk(tree(module), lazy=False):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in EFFECTS, f"{MODULES[module]}:{node.lineno} calls {node.func.id}"
        assert not isinstance(node, ast.Global), f"{MODULES[module]}:{node.lineno} has a global"


def test_each_module_has_its_test_file() -> None:
    missing = []
    for module, path in MODULES.items():
        parts = module.split(".")
        if path.name == "__init__.py" or module in TESTED_ELSEWHERE:
            continue
        stem = parts[-1].strip("_")
        folders = (
            ROOT / "tests" / parts[0],
            *(ROOT / "tests" / name for name in ("sessions", "integration", "emulator", "containers")),
        )
        if not any(
            found
            for folder in folders
            for found in (*folder.rglob(f"test_{stem}.py"), *folder.rglob(f"test_{stem}_*.py"))
        ):
            missing.append(module)
    assert not missing, (
        f"write tests/<package>/test_<module>.py, or say in TESTED_ELSEWHERE why not: {missing}"
    )


@pytest.mark.parametrize("module", TESTED_ELSEWHERE)
def test_only_modules_that_exist_are_excused_from_a_test_file(module: str) -> None:
    assert module in MODULES


def test_files_stay_short_enough_to_be_read() -> None:
    lines = {module: len(path.read_text(encoding="utf-8").splitlines()) for module, path in MODULES.items()}
    assert {module: count for module, count in lines.items() if count > 450} == {}


def test_the_map_names_only_what_exists() -> None:
    named = re.findall(r"`([\w./-]+/[\w./-]*)`", (ROOT / "docs/ARCHITECTURE.md").read_text(encoding="utf-8"))
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def own_files() -> Iterator[Path]:
    for path in sorted(ROOT.rglob("*")):
        first = path.relative_to(ROOT).parts[0]
        hidden = first.startswith(".") and first not in (".ci", ".gitignore")
        if path.is_file() and not hidden and first not in ("build", "dist") and path.suffix != ".pyc":
            yield path


def output(*command: str) -> str:
    """What a program prints, or nothing where it isn't installed or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd="/")
    return done.stdout


def python_index() -> str:
    lookup = (
        "from pip._internal.models.index import PyPI as p; print(p.url, 'https://' + p.file_storage_domain)"
    )
    return output(sys.executable, "-c", lookup) + output(sys.executable, "-m", "pip", "config", "list")


def rust_index() -> str:
    cargo = shutil.which("cargo")
    if cargo is None:
        return ""
    # rustup puts a launcher of its own in the path, which knows where the real one is.
    real = output("rustup", "which", "cargo").strip() or cargo
    found = re.findall(rb"sparse\+(https://[a-z0-9.-]+)/", Path(real).read_bytes())
    return " ".join(url.decode() for url in found)


def debian_mirrors() -> str:
    sources = output("apt-get", "indextargets", "--format", "$(URI)")
    program = shutil.which("mmdebstrap")
    if program is not None:
        sources += " ".join(re.findall(r"https?://[a-z.]+/debian\S*", Path(program).read_text()))
    return sources


REGISTRIES = {
    "apt": debian_mirrors,
    "cargo": rust_index,
    "gem": lambda: output("gem", "sources", "--list"),
    "go": lambda: re.sub(
        r"(^|[\s,|])(?=[a-z0-9-]+\.)", r"\1https://", output("go", "env", "GOPROXY", "GOSUMDB")
    ),
    "npm": lambda: output("npm", "config", "list", "--long"),
    "pip": python_index,
}


@pytest.mark.parametrize("manager", REGISTRIES)
def test_no_registry_is_named_in_the_tree(manager: str) -> None:
    """Endpoints come from each manager's own configuration, so that mirrors and private indexes work."""
    hosts = {
        host.lower().rpartition("@")[2]
        for host in re.findall(r"https?://([^/\s:\"',|]+)", REGISTRIES[manager]())
        if "." in host and not host.replace(".", "").isdigit()
    }
    if not hosts:
        pytest.skip(f"{manager} isn't installed or names no registry")
    pattern = re.compile(
        "|".join(rf"(?<![a-z0-9.-]){re.escape(host)}(?![a-z0-9-])" for host in sorted(hosts))
    )
    named = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in own_files()
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line.lower())
    ]
    assert not named

"""What a layer costs: building one, beside the same manager run in a session on the same base; and finding one."""

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmark.processes import output, wall_ms
from benchmark.rounds import Contender
from pkgcache.resolve import resolve
from pkgcache.store import Store
from sandbox import idmap, images
from sandbox.build_runner import make_remove

# For each manager: a package, and what a person types for it. A gem needs a server that not everybody reaches. Layers
# go without translated descriptions, which apt fetches and reads unless it is told not to; so both do.
PACKAGES = {
    "apt": ("jq", "apt-get update -q -o Acquire::Languages=none && apt-get install -q -y jq"),
    "cargo": ("guessing_game", "cargo install -q --locked guessing_game"),
    "go": ("golang.org/x/example/hello@latest", "go install golang.org/x/example/hello@latest"),
    "npm": ("tsx", "npm install -g tsx"),
    "pip": ("pytest==8.3.4", "pip install pytest==8.3.4"),
}
_ENVIRONMENT = """\
name: bench-{manager}
config:
  type: cloud
  packages: {{{manager}: ["{package}"]}}
  networking: {{type: limited, allow_package_managers: true}}
"""


def layer(manager: str) -> str:
    """The series of building a layer."""
    return f"{manager}, layer"


def plain(manager: str) -> str:
    """The series of the manager itself."""
    return f"{manager}, in a session"


@contextmanager
def contenders(
    sandboxsh: str, environment: Mapping[str, str], told: Callable[[str], None]
) -> Iterator[list[Contender]]:
    """``sandboxsh``: the command. The data directory is one of the benchmark's own, with a base built for it."""
    ids = idmap.choose(idmap.read_host_ids(), None)
    place = tempfile.mkdtemp(prefix="sandboxsh-bench-", dir="/var/tmp")
    os.chmod(place, 0o711)  # noqa: S103  (the ids of root's sessions pass through)
    data = f"{place}/data"
    sandboxctl = (sandboxsh.removesuffix("sandboxsh") + "sandboxctl", "--data", data)
    try:
        told("the debian base")
        output((*sandboxctl, "base", "build", "-q"), environment, timeout_s=1800)
        found = []
        for manager, (package, typed) in PACKAGES.items():
            file = Path(place, f"{manager}.yaml")
            file.write_text(_ENVIRONMENT.format(manager=manager, package=package), encoding="ascii")
            build = (*sandboxctl, "env", "build", "-q", str(file))
            session = (
                *(sandboxsh, "--data", data, "--base", images.DEBIAN, "--allow-package-managers"),
                *("--", "sh", "-c", typed),
            )
            found.append(
                _layer(manager, package, build, environment, images.store(data, ids), f"{place}/earlier")
            )
            found.append(Contender((plain(manager),), _seconds(session, environment)))
        yield found
    finally:
        make_remove(ids)(place)


def _seconds(command: tuple[str, ...], environment: Mapping[str, str]) -> Callable[[], tuple[float]]:
    return lambda: (wall_ms(command, environment) / 1000,)


def _layer(
    manager: str,
    package: str,
    command: tuple[str, ...],
    environment: Mapping[str, str],
    store: Store,
    earlier: str,
) -> Contender:
    def run() -> tuple[float]:
        # Put aside, not removed: for minutes after many files went, ext4 takes its time to find room for new ones
        # beside them, and the whole of that would fall to whoever comes next.
        os.makedirs(earlier, exist_ok=True)
        aside = tempfile.mkdtemp(dir=earlier)
        for step in resolve(store, images.DEBIAN, {manager: [package]}).steps:
            if step.present:
                os.rename(store.layer(step.key), f"{aside}/{step.key}")
        kept = store.downloads("")
        for name in os.listdir(kept) if os.path.isdir(kept) else ():
            os.rename(store.downloads(name), f"{aside}/{name}")
        return (wall_ms(command, environment) / 1000,)

    return Contender((layer(manager),), run, ours=True)

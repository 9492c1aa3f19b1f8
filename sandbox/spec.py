"""What a session is to be: the run specification that everything else is derived from. Plain values, no effects."""

from collections.abc import Mapping
from typing import NamedTuple

DEFAULT_PATH = (
    "/root/.local/bin:/root/go/bin:/root/.cargo/bin:"
    "/usr/local/sbin:/usr/local/bin:/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)
WORKSPACE = "/workspace"
OUTPUTS = "/mnt/session/outputs"
UPLOADS = "/mnt/session/uploads"
HOSTNAME = "sandbox"
# Where programs look by themselves, and where the environment points them: a package that rebuilds the first one
# must not take the host's certificates away from the others.
CA_BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
TRUST_FILE = "/etc/ssl/sandbox-ca.pem"
_TRUST_VARIABLES = (
    "SSL_CERT_FILE",
    "CURL_CA_BUNDLE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
)


CALLER, SESSION = "caller", "session"


class HostMount(NamedTuple):
    """``source`` of the host (absolute) seen at ``target``; ``writable`` writes reach the host.

    ``owner``: whose ids its files have on the host. ``caller``: as the host's users know them, so that root's
    appear as, and are written as, the session's user 0's. ``session``: the session's own, as they are.
    """

    source: str
    target: str
    writable: bool
    owner: str = CALLER


class Workspace(NamedTuple):
    """The host directory ``source`` at /workspace: copy on write, or written through when ``writable``."""

    source: str
    writable: bool


class RootFs(NamedTuple):
    """What a session stands on.

    ``base``: the directory of a root file system, None for the machine's own /usr, /etc and /opt. ``layers``:
    directory trees rooted at /, topmost first. ``in_place``: the base itself is written.
    """

    base: str | None
    layers: tuple[str, ...] = ()
    in_place: bool = False


class RunSpec(NamedTuple):
    """One session.

    ``command`` empty means a shell. ``environment`` is all that the command gets beside what its terminal
    brings. ``network``: none, limited or unrestricted; ``listeners``: what the proxy hears, as (role, port).
    ``scratch``: a directory that keeps the changes as ``upper`` (a layer being built); None for the session's own
    directory. ``ca_bundle``: certificates (PEM) that the session trusts; empty leaves its own. ``java_stores``: files
    in which Java looks for them (see sandbox.javatrust).
    """

    root: RootFs
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]
    network: str = "limited"
    listeners: tuple[tuple[str, int], ...] = ()
    workdir: str = WORKSPACE
    workspace: Workspace | None = None
    mounts: tuple[HostMount, ...] = ()
    files: tuple[tuple[str, str], ...] = ()
    scratch: str | None = None
    ca_bundle: bytes = b""
    java_stores: tuple[str, ...] = ()
    timeout_s: float | None = None

    @property
    def writes_for_caller(self) -> bool:
        """Whether what the session writes somewhere is the caller's on the host."""
        workspace = self.workspace is not None and self.workspace.writable
        return workspace or any(mount.writable and mount.owner == CALLER for mount in self.mounts)


def base_environment(path: str = DEFAULT_PATH) -> dict[str, str]:
    """The variables that every session has. Nothing of the caller's own is among them."""
    trust = dict.fromkeys(_TRUST_VARIABLES, TRUST_FILE)
    return {
        "PATH": path,
        "HOME": "/root",
        "USER": "root",
        "LOGNAME": "root",
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        # The image is thrown away with its session: neither warning helps anybody.
        "PIP_BREAK_SYSTEM_PACKAGES": "1",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        **trust,
    }


def session_environment(image: Mapping[str, str]) -> dict[str, str]:
    """The variables of a session on an image that brings its own: they add to what every session has.

    An image's PATH comes first, and what it lacks of the usual one after it. An image may choose its language.
    """
    own = base_environment()
    path = [*image.get("PATH", "").split(":"), *DEFAULT_PATH.split(":")]
    own["PATH"] = ":".join(dict.fromkeys(folder for folder in path if folder))
    own["LANG"] = image.get("LANG", own["LANG"])
    return {**image, **own}

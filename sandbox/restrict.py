"""What a session's processes lose before the command runs: capabilities, new privileges, system calls."""

import resource
import sys

import prctl

from sandbox import syscalls as sys_
from sandbox.errors import HostError

# The set that container engines leave to root: enough for package managers, nothing that reaches the kernel's own
# configuration. Numbers from capability.h.
KEPT = {
    "chown": 0,
    "dac_override": 1,
    "fowner": 3,
    "fsetid": 4,
    "kill": 5,
    "setgid": 6,
    "setuid": 7,
    "setpcap": 8,
    "net_bind_service": 10,
    "net_raw": 13,
    "sys_chroot": 18,
    "mknod": 27,
    "audit_write": 29,
    "setfcap": 31,
}


def load_nothing() -> None:
    """Modules that are not loaded by now are not to be had: what Python would find is the session's, and would run with
    the rights of this process."""
    sys.path.clear()
    sys.path_importer_cache.clear()
    sys.meta_path[:] = [each for each in sys.meta_path if each.__module__ == "_frozen_importlib"]


def drop_capabilities(*, file_capabilities: bool) -> None:
    """Keep KEPT in every set of this process and leave no way to regain the others.

    Without ``file_capabilities``, the one for giving files capabilities goes as well. On an id-mapped mount they are
    written as root's of the host, not as the session's, and would hold there.

    HostError when the kernel has a capability that can't be named here: it could not be dropped.
    """
    last = sys_.last_capability()
    kept = frozenset(number for name, number in KEPT.items() if file_capabilities or name != "setfcap")
    for number in range(last + 1):
        if number not in kept:
            try:
                prctl.capbset_drop(number)
            except (ValueError, OSError) as error:
                raise HostError(
                    f"capability {number} of this kernel can't be dropped: {error}",
                    hint="reinstall sandboxsh (scripts/setup) so that python-prctl is built for this kernel",
                ) from error
    prctl.set_caps(
        *((number, prctl.CAP_EFFECTIVE, number in kept) for number in range(last + 1)),
        *((number, prctl.CAP_PERMITTED, number in kept) for number in range(last + 1)),
        *((number, prctl.CAP_INHERITABLE, False) for number in range(last + 1)),
    )


def drop_all_capabilities() -> None:
    """Keep no capability in any set of this process; those that files could bring are forbidden separately."""
    last = sys_.last_capability()
    kinds = (prctl.CAP_EFFECTIVE, prctl.CAP_PERMITTED, prctl.CAP_INHERITABLE)
    prctl.set_caps(*((number, kind, False) for kind in kinds for number in range(last + 1)))


def forbid_new_privileges() -> None:
    """Set-id programs and file capabilities give nothing from now on (PR_SET_NO_NEW_PRIVS)."""
    prctl.set_no_new_privs(1)


def forbid_inspection() -> None:
    """No process of the session may trace this one or read its memory, environment or descriptors in /proc."""
    prctl.set_dumpable(0)


def allow_inspection() -> None:
    """Undo what was inherited of `forbid_inspection`: whoever may look into this process may again."""
    prctl.set_dumpable(1)


def hide_arguments() -> None:
    """Overwrite this copy's arguments: /proc/1/cmdline is open to everybody, and the supervisor's may hold secrets."""
    prctl.set_proctitle("init")
    prctl.set_name("init")


def die_with_parent() -> None:
    """The kernel kills this process when the one that made it ends. Changing ids undoes it: call it after."""
    prctl.set_pdeathsig(9)


def no_core_dumps() -> None:
    """A core dump would be written by the host's own handler.

    One byte and not none: a handler that core_pattern pipes to is run whatever the limit is, except for 1 (core(5)).
    """
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))

"""Programs kept in files, so that a session's start needs no libseccomp.

A file holds a digest and the program it covers. It is believed only when it belongs to this user,
no one else may write it, and the digest fits; anything else is built anew.
"""

from __future__ import annotations

import os
from _blake2 import blake2b

# Digest of the rules and of the code made from them; tests/sandbox/test_seccomp.py holds it to both.
IDENTITY = "2221a37d78abc1ce"

DIGEST_SIZE = 32
LARGEST = 4096 * 8


def program(emulate_root: bool, cache_dir: str, refuse_set_id: bool = False) -> bytes:
    """The filter's program: an array of struct sock_filter, for `install`.

    `emulate_root` and `refuse_set_id` are what `policy.rules` makes of them.
    `cache_dir` is private to the user and is made when missing. A cache that can't be written is no
    error: the program is then built each time. Raises HostError when it can't be built.
    """
    machine = os.uname().machine
    owners = "pretended" if emulate_root else "real"
    modes = "no-set-id" if refuse_set_id else "any"
    name = f"seccomp-{machine}-owners-{owners}-modes-{modes}-{IDENTITY}"
    cached = _read(f"{cache_dir}/{name}")
    if cached is not None:
        return cached

    from sandbox.seccomp.build import build

    built = build(emulate_root, machine, refuse_set_id)
    try:
        _write(cache_dir, name, built)
    except OSError:
        pass
    return built


def _read(path: str) -> bytes | None:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        status = os.fstat(file)
        if status.st_uid != os.geteuid() or status.st_mode & 0o170022 != 0o100000:
            return None
        content = os.read(file, DIGEST_SIZE + LARGEST + 1)
    except OSError:
        return None
    finally:
        os.close(file)
    digest, body = content[:DIGEST_SIZE], content[DIGEST_SIZE:]
    if not body or len(body) % 8 or len(body) > LARGEST or _digest(body) != digest:
        return None
    return body


def _write(directory: str, name: str, body: bytes) -> None:
    from pathlib import Path

    Path(directory).mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = Path(directory, f".{name}.{os.getpid()}")
    try:
        partial.unlink(missing_ok=True)
        file = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.write(file, _digest(body) + body)
        finally:
            os.close(file)
        partial.rename(Path(directory, name))
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def forget_old(directory: str, *, dry_run: bool = False) -> tuple[str, ...]:
    """Remove the programs that other versions of these rules made; returns their paths."""
    try:
        names = sorted(os.listdir(directory))
    except FileNotFoundError:
        return ()
    old = []
    for name in names:
        _, _, maker = name.rpartition(".")
        partial = name.startswith(".") and not os.path.exists(f"/proc/{maker}")
        if partial or (name.startswith("seccomp-") and not name.endswith(f"-{IDENTITY}")):
            old.append(f"{directory}/{name}")
    if not dry_run:
        for path in old:
            os.unlink(path)
    return tuple(old)


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=DIGEST_SIZE).digest()

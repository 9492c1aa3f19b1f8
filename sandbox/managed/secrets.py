"""Secrets at rest: sealed with a key that only its owner reads, so that a copy of the records tells none.

AES-256-GCM, each with a nonce of its own. Who reads both the key and the records reads the secrets: the same user can
read this process, too.
"""

import os
from typing import TYPE_CHECKING

from sandbox.errors import HostError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
_KEY = 32


class Secrets:
    """``path``: the file of the key, made with the first secret. HostError when it can't be used."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._cipher: AESGCM | None = None

    def seal(self, text: str, purpose: str = "") -> bytes:
        """``text``, which only ``open`` with the same ``purpose`` gives back."""
        nonce = os.urandom(_NONCE)
        return nonce + self._key(make=True).encrypt(nonce, text.encode(), purpose.encode())

    def open(self, sealed: bytes, purpose: str = "") -> str:
        """The text of what was sealed. HostError when the key is another one or the bytes were changed."""
        from cryptography.exceptions import InvalidTag

        try:
            text = self._key(make=False).decrypt(sealed[:_NONCE], sealed[_NONCE:], purpose.encode())
        except (InvalidTag, ValueError) as error:
            raise HostError(
                f"a secret in the records can't be opened with the key in {self._path}",
                hint="set the secret again, or bring back the key that it was sealed with",
            ) from error
        return text.decode()

    def _key(self, *, make: bool) -> "AESGCM":
        if self._cipher is None:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM

            try:
                self._cipher = AESGCM(_read_or_make(self._path) if make else _read(self._path))
            except (OSError, ValueError) as error:
                raise HostError(
                    f"the key of the secrets, {self._path}, can't be used: {error}",
                    hint="bring it back, or remove it and set the secrets again",
                ) from error
        return self._cipher


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        key = file.read(_KEY + 1)
    if len(key) != _KEY:
        raise ValueError(f"it does not hold {_KEY} bytes")
    return key


def _read_or_make(path: str) -> bytes:
    try:
        return _read(path)
    except FileNotFoundError:
        pass
    made = f"{path}.{os.urandom(6).hex()}"
    file = os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, os.urandom(_KEY))
        os.fsync(file)
    finally:
        os.close(file)
    try:
        # The first one's stays: another process may have sealed with it by now.
        os.link(made, path)
    except FileExistsError:
        pass
    finally:
        os.unlink(made)
    return _read(path)

"""What Java programs trust: where a base or a layer keeps their certificates, and the store that stands there instead.

Java reads no PEM and no variable of the environment; each JDK has a store of its own, which Debian and Fedora replace
by one for the whole system.
"""

import os
import stat

from sandbox.spec import RootFs

_SYSTEM = ("/etc/ssl/certs/java/cacerts", "/etc/pki/ca-trust/extracted/java/cacerts")
# Where packages put JDKs, and where people and the images of vendors do.
_OF_PACKAGES = "/usr/lib/jvm"
_OF_OTHERS = ("/usr/local", "/opt", "/opt/java")
_WITHIN = ("lib/security/cacerts", "jre/lib/security/cacerts")

_MAGIC, _VERSION, _TRUSTED = 0xFEEDFEED, 2, 2
# What everybody's store has; it protects nothing, and Java opens the store without it, too.
_PASSWORD = "changeit"


def find(root: RootFs) -> tuple[str, ...]:
    """The stores that a session on this root would read, as paths in it. Links lead to others of them."""
    trees = [root.base or "", *root.layers]
    found = {path for path in _SYSTEM if any(_is_file(tree + path) for tree in trees)}
    for tree in trees:
        for parent in (_OF_PACKAGES, *(_OF_OTHERS if tree == trees[0] else ())):
            found.update(_below(tree, parent))
    return tuple(sorted(found))


def _below(tree: str, parent: str) -> list[str]:
    try:
        with os.scandir(tree + parent) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    paths = [f"{parent}/{name}/{within}" for name in names for within in _WITHIN]
    return [path for path in paths if _is_file(tree + path) and _is_straight(tree, path)]


def _is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _is_straight(tree: str, path: str) -> bool:
    """Whether no directory on the way is a link: what is written there would stand elsewhere."""
    folder = os.path.dirname(tree + path)
    return os.path.realpath(folder) == os.path.realpath(tree or "/").rstrip("/") + os.path.dirname(path)


def keystore(bundle: bytes) -> bytes:
    """A store in Java's own format (JKS) with the certificates of a PEM bundle; the same bundle gives the same store.

    Every Java reads it, with its usual password and without any. PKCS #12 has no form for both.
    """
    import hashlib
    from struct import pack

    certificates = list(dict.fromkeys(_certificates(bundle)))
    parts = [pack(">III", _MAGIC, _VERSION, len(certificates))]
    for number, certificate in enumerate(certificates):
        parts.append(pack(">I", _TRUSTED) + _text(f"sandbox:{number}") + bytes(8) + _text("X.509"))
        parts.append(pack(">I", len(certificate)) + certificate)
    data = b"".join(parts)
    # The format's own checksum: SHA-1 over password, these words and the data.
    check = hashlib.sha1(_PASSWORD.encode("utf-16-be") + b"Mighty Aphrodite" + data, usedforsecurity=False)
    return data + check.digest()


def _certificates(bundle: bytes) -> list[bytes]:
    from base64 import b64decode
    from binascii import Error

    found = []
    for piece in bundle.split(b"-----BEGIN CERTIFICATE-----")[1:]:
        try:
            found.append(b64decode(b"".join(piece.partition(b"-----END")[0].split()), validate=True))
        except Error:
            continue
    return found


def _text(text: str) -> bytes:
    """A string as the format has it: its length in two octets, then UTF-8."""
    return len(text).to_bytes(2, "big") + text.encode("ascii")

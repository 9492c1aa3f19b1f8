"""The installation's own certificate authority, which vouches for nothing but refusals.

Sessions trust it, and nobody else does. With its certificates the wall can say inside TLS why a name is denied; the
names that are allowed never meet it.
"""

from typing import NamedTuple


class Authority(NamedTuple):
    """Both as PEM; the key is PKCS #8 without a passphrase."""

    certificate: bytes
    key: bytes

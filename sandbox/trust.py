"""The certificates that sessions trust: the host's own, so that a company's proxy works inside as it does outside,
and the installation's authority, so that a refusal can be read."""

import os
from collections.abc import Mapping

from sandbox import authority

# Where distributions keep the bundle that OpenSSL, curl and others read (Debian, Fedora, Alpine, openSUSE).
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
    "/etc/ssl/ca-bundle.pem",
)


def host_bundle(environment: Mapping[str, str]) -> bytes:
    """The host's CA bundle (PEM): the file of $SSL_CERT_FILE, else the system's; empty when there is none."""
    for path in (environment.get("SSL_CERT_FILE", ""), *_BUNDLES):
        if path and os.path.isfile(path):
            try:
                with open(path, "rb") as file:
                    return file.read()
            except OSError:
                continue
    return b""


def session_bundle(data: str, environment: Mapping[str, str], network: str) -> bytes:
    """What a session with this kind of network trusts (PEM); empty, to leave what its base trusts, when the host has
    no bundle. HostError when the installation's authority can't be kept.
    """
    bundle = host_bundle(environment)
    if not bundle or network == "none":
        return bundle
    if not bundle.endswith(b"\n"):
        bundle += b"\n"
    return bundle + authority.ensure(data).certificate

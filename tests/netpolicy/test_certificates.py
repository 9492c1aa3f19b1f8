"""An authority for refusals, and what it signs, judged by OpenSSL's own verification."""

from __future__ import annotations

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from netpolicy.authority import Authority
from netpolicy.certificates import Issuer, make_authority

NOW = datetime.now(UTC)


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority(NOW)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, host: str) -> ssl.SSLObject:
    """A whole handshake in memory; the client's side of it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(to_client, to_server, server_hostname=host)
    answering = server.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(10):
        done = 0
        for side in (asking, answering):
            try:
                side.do_handshake()
                done += 1
            except ssl.SSLWantReadError:
                pass
        if done == 2:
            return asking
    raise AssertionError("no end to the handshake")


def trusting(authority: Authority) -> ssl.SSLContext:
    client = ssl.create_default_context()
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    client.load_verify_locations(cadata=authority.certificate.decode())
    return client


HOSTS = (
    "d.test",
    "xn--bcher-kva.test",
    "a_b.d.test",
    f"{'a' * 60}.{'b' * 60}.test",
    "203.0.113.9",
    "2001:db8::9",
)


@pytest.mark.parametrize("host", HOSTS)
def test_whoever_trusts_the_authority_accepts_its_certificates(authority: Authority, host: str) -> None:
    found = handshake(Issuer(authority).context(host), trusting(authority), host).getpeercert()
    assert found is not None
    (name,) = found["subjectAltName"]
    address = ":" in host or host[-1].isdigit()
    assert name[0] == ("IP Address" if address else "DNS")
    if not address:
        assert name[1] == host


def test_whoever_does_not_trust_it_refuses_them(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="local issuer"):
        handshake(Issuer(authority).context("d.test"), ssl.create_default_context(), "d.test")


def test_a_certificate_is_good_for_its_name_alone(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match=r"(?i)hostname mismatch"):
        handshake(Issuer(authority).context("d.test"), trusting(authority), "a.test")


def test_another_authority_of_the_same_name_is_another(authority: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(Issuer(make_authority(NOW)).context("d.test"), trusting(authority), "d.test")


def test_the_authority_may_sign_servers_and_nothing_below(authority: Authority) -> None:
    certificate = x509.load_pem_x509_certificate(authority.certificate)
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc - NOW > timedelta(days=3600)


def test_openssl_reads_the_key_and_finds_it_fitting(authority: Authority, tmp_path: Path) -> None:
    def public(*options: str, data: bytes) -> bytes:
        return subprocess.run(["openssl", *options], input=data, capture_output=True, check=True).stdout

    assert public("pkey", "-pubout", data=authority.key) == public(
        "x509", "-noout", "-pubkey", data=authority.certificate
    )


def test_a_name_asked_for_again_gets_the_same_and_many_do_not_pile_up(authority: Authority) -> None:
    issuer = Issuer(authority)
    first = issuer.context("d0.test")
    assert issuer.context("d0.test") is first
    for number in range(80):
        issuer.context(f"d{number}.test")
    assert len(issuer._contexts) <= 64


def test_a_file_that_is_no_authority_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="PEM"):
        Issuer(Authority(b"-----BEGIN CERTIFICATE-----\n", b"-----BEGIN PRIVATE KEY-----\n"))

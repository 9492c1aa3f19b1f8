"""The host's certificates, wherever it keeps them."""

from pathlib import Path

import pytest

from sandbox import authority, trust


def test_the_environment_names_the_bundle_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.pem").write_bytes(b"own")
    (tmp_path / "system.pem").write_bytes(b"system")
    monkeypatch.setattr(trust, "_BUNDLES", (str(tmp_path / "absent"), str(tmp_path / "system.pem")))
    assert trust.host_bundle({"SSL_CERT_FILE": str(tmp_path / "own.pem")}) == b"own"
    assert trust.host_bundle({"SSL_CERT_FILE": str(tmp_path / "gone.pem")}) == b"system"
    assert trust.host_bundle({}) == b"system"


def test_a_host_without_certificates_has_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_BUNDLES", (str(tmp_path),))
    assert trust.host_bundle({"SSL_CERT_FILE": str(tmp_path)}) == b""


def test_a_session_trusts_the_hosts_certificates_and_the_installations(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "system.pem").write_bytes(b"system")
    monkeypatch.setattr(trust, "_BUNDLES", (str(tmp_path / "system.pem"),))
    bundle = trust.session_bundle(str(tmp_path), {}, "limited")
    assert bundle == b"system\n" + authority.ensure(str(tmp_path)).certificate
    assert b"PRIVATE" not in bundle


def test_without_a_network_there_is_no_refusal_to_trust(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust, "_BUNDLES", ())
    assert trust.session_bundle(str(tmp_path), {}, "none") == b""
    assert trust.session_bundle(str(tmp_path), {}, "limited") == b""
    assert list(tmp_path.iterdir()) == []

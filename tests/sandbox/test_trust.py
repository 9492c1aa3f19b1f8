"""The host's certificates, wherever it keeps them."""

from pathlib import Path

import pytest

from sandbox import trust


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

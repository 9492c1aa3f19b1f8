"""What Java trusts in a session: the format by Java's own tools, and real programs beside it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from sandbox.javatrust import find, keystore
from sandbox.operations import JavaTrust
from sandbox.spec import RootFs

ONE, OTHER = trustme.CA().cert_pem.bytes(), trustme.CA().cert_pem.bytes()
BUNDLE = b"# a comment\n" + ONE + b"text between\n" + OTHER + ONE


def fingerprint(pem: bytes) -> str:
    return x509.load_pem_x509_certificate(pem).fingerprint(hashes.SHA256()).hex()


def listed(store: Path, *options: str) -> set[str]:
    """The fingerprints that Java's own tool finds in a store."""
    done = subprocess.run(
        ["keytool", "-J-Duser.language=en", "-list", "-v", "-keystore", str(store), *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    lines = (line.strip() for line in done.stdout.splitlines())
    return {line[8:].replace(":", "").lower() for line in lines if line.startswith("SHA256: ")}


@pytest.mark.parametrize("options", [["-storepass", "changeit"], []], ids=["with password", "without"])
def test_javas_own_tool_finds_every_certificate_once(tmp_path: Path, options: list[str]) -> None:
    if shutil.which("keytool") is None:
        pytest.skip("Java is not installed")
    store = tmp_path / "cacerts"
    store.write_bytes(keystore(BUNDLE))
    assert listed(store, *options) == {fingerprint(ONE), fingerprint(OTHER)}


def test_a_store_that_was_changed_is_noticed_by_who_gives_the_password(tmp_path: Path) -> None:
    if shutil.which("keytool") is None:
        pytest.skip("Java is not installed")
    store = tmp_path / "cacerts"
    data = bytearray(keystore(BUNDLE))
    data[-30] ^= 1
    store.write_bytes(data)
    with pytest.raises(AssertionError, match=r"(?i)tampered|incorrect|keytool error"):
        listed(store, "-storepass", "changeit")


def test_the_same_bundle_gives_the_same_store_and_what_is_no_certificate_is_left_out() -> None:
    assert keystore(BUNDLE) == keystore(ONE + OTHER)
    assert keystore(BUNDLE) != keystore(OTHER + ONE)
    broken = b"-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n"
    assert keystore(broken + ONE) == keystore(ONE)
    empty = keystore(b"")
    assert empty[:12] == bytes.fromhex("feedfeed0000000200000000")
    assert len(empty) == 12 + hashlib.sha1(usedforsecurity=False).digest_size


def put(tree: Path, *paths: str) -> None:
    for path in paths:
        place = tree / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"")


def test_stores_are_found_where_bases_and_layers_have_them(tmp_path: Path) -> None:
    base, layer, lower = tmp_path / "base", tmp_path / "layer", tmp_path / "lower"
    for tree in (base, layer, lower):
        tree.mkdir()
    root = RootFs(str(base), (str(layer), str(lower)))
    assert find(root) == ()
    put(
        base,
        "opt/jdk-21/lib/security/cacerts",
        "opt/java/openjdk/lib/security/cacerts",
        "usr/local/old/jre/lib/security/cacerts",
        "usr/lib/jvm/none/lib/security/other",
        "opt/file",
    )
    put(lower, "etc/ssl/certs/java/cacerts", "usr/lib/jvm/vendor/lib/security/cacerts")
    debian = layer / "usr/lib/jvm/debian/lib/security"
    debian.mkdir(parents=True)
    # Debian's JDKs have a link to the system's store, and one JDK under several names.
    (debian / "cacerts").symlink_to("/etc/ssl/certs/java/cacerts")
    (layer / "usr/lib/jvm/default").symlink_to("debian")
    # What is written through a link would stand elsewhere, perhaps nowhere.
    put(base, "elsewhere/security/cacerts")
    (base / "opt/linked").mkdir()
    (base / "opt/linked/lib").symlink_to("/elsewhere")
    assert find(root) == (
        "/etc/ssl/certs/java/cacerts",
        "/opt/java/openjdk/lib/security/cacerts",
        "/opt/jdk-21/lib/security/cacerts",
        "/usr/lib/jvm/vendor/lib/security/cacerts",
        "/usr/local/old/jre/lib/security/cacerts",
    )


def test_the_machines_own_is_found_for_the_host_base() -> None:
    stores = find(RootFs(None))
    assert all(os.path.isfile(path) for path in stores)
    if shutil.which("java") and os.path.isfile("/etc/ssl/certs/java/cacerts"):
        assert "/etc/ssl/certs/java/cacerts" in stores


def test_the_step_writes_it_in_place_of_what_is_there(tmp_path: Path) -> None:
    put(tmp_path, "etc/ssl/certs/java/cacerts")
    step = JavaTrust("/etc/ssl/certs/java/cacerts", BUNDLE)
    step.execute(str(tmp_path))
    assert (tmp_path / "etc/ssl/certs/java/cacerts").read_bytes() == keystore(BUNDLE)
    assert step.describe() == "file /etc/ssl/certs/java/cacerts (certificates for Java)"

"""The bill of materials is valid, complete, and the same for the same packages."""

from __future__ import annotations

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from pkgcache.lock import Lock, LockedLayer
from pkgcache.records import Locked
from sandbox import sbom
from sandbox.sbom import Subject

WHEN = "2026-01-01T00:00:00Z"
SHA = "ab" * 32


def subject(manager: str, *packages: Locked, base: tuple[Locked, ...] = ()) -> Subject:
    layer = LockedLayer(manager, ("asked",), WHEN, packages)
    return Subject("tools", Lock("debian", "debian-1", "linux/x86_64", (layer,)), base, "trixie")


def bill(of: Subject) -> dict[str, object]:
    text = sbom.to_json(of, "1.2")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_a_validator_that_is_asked_does_refuse() -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str('{"bomFormat": "other"}') is not None


@pytest.mark.parametrize(
    ("manager", "package", "name", "purl"),
    [
        (
            "apt",
            Locked("jq:amd64", "1.7-1+b1"),
            "jq",
            "pkg:deb/debian/jq@1.7-1%2Bb1?arch=amd64&distro=trixie",
        ),
        ("cargo", Locked("ripgrep", "14.1.1"), "ripgrep", "pkg:cargo/ripgrep@14.1.1"),
        ("gem", Locked("rails", "7.1.0"), "rails", "pkg:gem/rails@7.1.0"),
        (
            "go",
            Locked("host.test/x/tools", "v0.1.0"),
            "host.test/x/tools",
            "pkg:golang/host.test/x/tools@v0.1.0",
        ),
        ("npm", Locked("tsx", "4.19.2"), "tsx", "pkg:npm/tsx@4.19.2"),
        ("npm", Locked("@scope/name", "1.0.0"), "@scope/name", "pkg:npm/%40scope/name@1.0.0"),
        ("pip", Locked("six", "1.17.0"), "six", "pkg:pypi/six@1.17.0"),
    ],
)
def test_each_managers_packages_have_their_url(manager: str, package: Locked, name: str, purl: str) -> None:
    (component,) = bill(subject(manager, package))["components"]  # type: ignore[misc]
    assert (component["name"], component["version"], component["purl"]) == (name, package.version, purl)
    assert "hashes" not in component


def test_hashes_are_told_where_they_are_known() -> None:
    (component,) = bill(subject("pip", Locked("six", "1.17.0", f"sha256:{SHA}")))["components"]  # type: ignore[misc]
    assert component["hashes"] == [{"alg": "SHA-256", "content": SHA}]


def test_the_bases_packages_are_in_it_and_the_environment_depends_on_all() -> None:
    found = bill(subject("pip", Locked("six", "1"), base=(Locked("bash:amd64", "5.2"),)))
    names = [component["name"] for component in found["components"]]  # type: ignore[attr-defined]
    assert names == ["bash", "six"]
    top = next(entry for entry in found["dependencies"] if entry["ref"] == "environment")  # type: ignore[attr-defined]
    assert len(top["dependsOn"]) == 2
    assert found["metadata"]["component"]["name"] == "tools"  # type: ignore[index]


def test_one_package_in_two_layers_stands_once() -> None:
    package = Locked("bash:amd64", "5.2")
    assert len(bill(subject("apt", package, base=(package,)))["components"]) == 1  # type: ignore[arg-type]


def test_the_same_packages_give_the_same_text_and_others_another_number() -> None:
    one, other = subject("pip", Locked("six", "1")), subject("pip", Locked("six", "2"))
    assert sbom.to_json(one, "1.2") == sbom.to_json(one, "1.2")
    assert bill(one)["serialNumber"] != bill(other)["serialNumber"]


def test_an_environment_without_packages_has_a_bill_too() -> None:
    assert (
        bill(Subject("empty", Lock("host", "host-1", "linux/x86_64", ()), (), ""))["bomFormat"] == "CycloneDX"
    )

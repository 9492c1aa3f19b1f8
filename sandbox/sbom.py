"""A bill of materials of an environment: what is installed in it, in CycloneDX's JSON.

The only module that needs cyclonedx-python-lib, which is loaded when one is asked for.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from sandbox import images
from sandbox.idmap import IdMap

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from packageurl import PackageURL

    from pkgcache.lock import Lock
    from pkgcache.records import Locked


class Subject(NamedTuple):
    """What the bill is of: an environment's name, what is installed in its layers, the packages that its base was
    made of, and that base's Debian release ("" for others)."""

    name: str
    lock: "Lock"
    base: tuple["Locked", ...]
    suite: str


def subject(data: str, ids: IdMap, name: str, base: str, wanted: images.Wanted) -> Subject:
    """What is installed of ``wanted`` on ``base``. StoreError while it is not built."""
    from pkgcache.bases import read_base, read_packages

    lock = images.lock(data, ids, base, wanted)
    store = images.store(data, ids)
    record = read_base(store, lock.base_id)
    if record is None:
        return Subject(name, lock, (), "")
    return Subject(name, lock, read_packages(store, record), record.suite)


def to_json(subject: Subject, program_version: str) -> str:
    """The bill. The same packages give the same text."""
    from datetime import UTC, datetime
    from uuid import NAMESPACE_URL, uuid5

    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    from pkgcache.lock import name_of

    lock = subject.lock
    installed = [("apt", subject.base), *((layer.manager, layer.packages) for layer in lock.layers)]
    components = {
        str(component.bom_ref.value): component
        for manager, packages in installed
        for component in _components(manager, packages, subject.suite)
    }
    whole = Component(name=subject.name, type=ComponentType.CONTAINER, bom_ref="environment")
    tool = Component(name="sandboxsh", type=ComponentType.APPLICATION, version=program_version)
    newest = max((layer.resolved for layer in lock.layers), default="")
    bom = Bom(
        components=components.values(),
        serial_number=uuid5(
            NAMESPACE_URL, " ".join((subject.name, lock.base_id, *map(name_of, lock.layers)))
        ),
        metadata=BomMetaData(
            component=whole,
            timestamp=datetime.fromisoformat(newest) if newest else datetime(1970, 1, 1, tzinfo=UTC),
        ),
    )
    bom.metadata.tools.components.add(tool)
    bom.register_dependency(whole, components.values())
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _components(manager: str, packages: Iterable["Locked"], suite: str) -> "Iterable[Component]":
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType

    algorithms = {"sha256": HashAlgorithm.SHA_256, "sha512": HashAlgorithm.SHA_512}
    for package in packages:
        name, _, _ = package.name.partition(":") if manager == "apt" else (package.name, "", "")
        kind, _, value = package.hash.partition(":")
        address = _purl(manager, package, suite)
        yield Component(
            name=name,
            version=package.version,
            type=ComponentType.LIBRARY,
            purl=address,
            bom_ref=str(address),
            hashes=[HashType(alg=algorithms[kind], content=value)] if kind in algorithms else [],
        )


def _purl(manager: str, package: "Locked", suite: str) -> "PackageURL":
    """The package's URL, as the types of the specification of package URLs have it."""
    from packageurl import PackageURL

    name, version = package.name, package.version
    if manager == "apt":
        name, _, architecture = name.partition(":")
        qualifiers = {"arch": architecture} | ({"distro": suite} if suite else {})
        return PackageURL("deb", "debian", name, version, qualifiers)
    if manager in ("npm", "go"):
        namespace, _, name = name.rpartition("/")
        return PackageURL("golang" if manager == "go" else "npm", namespace or None, name, version)
    return PackageURL({"pip": "pypi"}.get(manager, manager), None, name, version)

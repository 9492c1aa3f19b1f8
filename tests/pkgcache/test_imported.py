"""Importing: what is checked before and while it is unpacked, and that nothing half-made stays."""

from __future__ import annotations

import gzip
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netpolicy.policy import Endpoint, compile_policy
from pkgcache import names, oci
from pkgcache.bases import list_bases, read_base, remove_base
from pkgcache.build import build
from pkgcache.errors import InputError, StoreError
from pkgcache.imported import import_base
from pkgcache.records import BaseRecord
from pkgcache.resolve import image, resolve
from pkgcache.runner import Job
from pkgcache.store import Store, open_store
from sandbox import idmap
from sandbox.confined import inside
from sandbox.removal import remove_tree
from tests.capabilities import need
from tests.pkgcache.archives import folder, layout, member, put, tar
from tests.pkgcache.scripted import Scripted, add_base, installs_files, remove, standing

Import = Callable[..., BaseRecord]

SMALL = tar(folder("bin"), ("bin/sh", b"#!"), ("etc/os-release", b"ID=small\n"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def runner() -> Scripted:
    return Scripted()


@pytest.fixture
def import_(store: Store, runner: Scripted) -> Import:
    need("user-namespaces")
    ids = idmap.choose(idmap.read_host_ids(), idmap.SINGLE)

    def import_it(path: Path, name: str = "small", **options: Any) -> BaseRecord:
        return import_base(
            store,
            name,
            str(path),
            inside=lambda root, work: inside(ids, root, work),
            runner=runner,
            remove=lambda path: remove_tree(path, ids),
            **options,
        )

    return import_it


def file(tmp_path: Path, data: bytes, name: str = "root.tar") -> Path:
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


def content(store: Store, record: BaseRecord, path: str) -> bytes:
    return Path(store.base(record.id), "root", path).read_bytes()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, lzma.compress], ids=["plain", "gzip", "xz"])
def test_an_archive_becomes_a_base(
    tmp_path: Path, store: Store, import_: Import, pack: Callable[[bytes], bytes]
) -> None:
    record = import_(file(tmp_path, pack(SMALL)))
    assert content(store, record, "etc/os-release") == b"ID=small\n"
    assert (record.name, record.profile) == ("small", "imported")
    assert read_base(store, "small") == record
    left = standing(store)
    assert (left["work"], left["logs"]) == ([], [])


def test_an_image_becomes_a_base_with_its_variables(tmp_path: Path, store: Store, import_: Import) -> None:
    upper = tar(("etc/.wh.os-release", b""), ("new", b"2"))
    place = layout(tmp_path / "image", SMALL, upper, environment={"PATH": "/opt/bin:/bin"})
    record = import_(place)
    assert sorted(os.listdir(f"{store.base(record.id)}/root/etc")) == []
    assert content(store, record, "new") == b"2"
    made = image(store, resolve(store, "small"))
    assert made.environment["PATH"] == "/opt/bin:/bin"
    assert made.environment["NODE_PATH"]


def test_the_tools_of_an_image_are_asked_with_its_variables(
    tmp_path: Path, import_: Import, runner: Scripted
) -> None:
    import_(layout(tmp_path / "image", SMALL, environment={"MINE": "1"}))
    assert runner.jobs and {job.environment.get("MINE") for job in runner.jobs} == {"1"}
    assert all(not job.endpoints and not job.in_place for job in runner.jobs)


def test_an_images_settings_are_not_the_users(
    tmp_path: Path, store: Store, import_: Import, runner: Scripted
) -> None:
    """What the user configures may be at a private address; an image that says so opens nothing there."""

    def tells(job: Job) -> int:
        for source in ("/etc/pip.conf", "environment", ""):
            job.output(
                f"@sandbox\tendpoint\tpip\thttp://{source.strip('/') or 'x'}.test/\t{source}\n".encode()
            )
        return 0

    runner.act = tells
    record = import_(file(tmp_path, SMALL))
    assert len(record.endpoints) == 3 and record.foreign
    assert {endpoint.source for endpoint in record.endpoints} == {
        "imported image, /etc/pip.conf",
        "imported image, environment",
        "imported image, built-in default",
    }
    endpoints = [Endpoint(e.scheme, e.host, e.port, e.manager, e.source) for e in record.endpoints]  # type: ignore[arg-type]
    policy = compile_policy("limited", endpoints=endpoints, allow_package_managers=True)
    assert len(policy.rules) >= 3 and not any(rule.private for rule in policy.rules)
    own = [endpoint._replace(source="/etc/pip.conf") for endpoint in endpoints]
    assert any(
        rule.private for rule in compile_policy("limited", endpoints=own, allow_package_managers=True).rules
    )


def test_what_an_image_says_of_servers_is_kept_for_no_other_base(
    tmp_path: Path, store: Store, import_: Import, runner: Scripted
) -> None:
    def tells(job: Job) -> int:
        job.output(b"@sandbox\tfollow\tpip\thttp://index.test/\n")
        job.output(b"@sandbox\tendpoint\tpip\thttp://index.test/\t\n")
        return 0

    runner.act = tells
    assert import_(file(tmp_path, SMALL)).endpoints
    assert len([job for job in runner.jobs if job.endpoints]) == 1
    assert not os.path.exists(store.downloads("servers"))


def test_what_an_images_managers_download_is_its_own(
    tmp_path: Path, store: Store, import_: Import, runner: Scripted
) -> None:
    """They could leave anything among the kept downloads, where other bases' managers would take it for theirs."""
    add_base(store)
    record = import_(file(tmp_path, SMALL))

    def sources(base: str) -> set[str]:
        made = Scripted(installs_files)
        build(store, base, {"apt": ["jq"], "pip": ["six"]}, runner=made, remove=remove)
        return {mount.source for job in made.jobs for mount in job.mounts}

    its_own = store.downloads("", record.id)
    seen = sources("small")
    assert seen and all(source.startswith(its_own) for source in seen)
    seen = sources("debian")
    assert seen and not any(source.startswith(its_own) for source in seen)
    assert os.path.isdir(its_own)
    remove_base(store, "small", remove=remove)
    assert not os.path.exists(its_own) and os.path.isdir(store.downloads("apt"))


def test_managers_that_a_layer_brings_to_an_image_are_an_images_too(
    tmp_path: Path, store: Store, import_: Import
) -> None:
    import_(file(tmp_path, SMALL))

    def act(job: Job) -> int:
        if job.scratch is None:
            job.output(b"@sandbox\tendpoint\tpip\thttp://index.test/\t/etc/pip.conf\n")
            return 0
        return installs_files(job)

    built = build(store, "small", {"apt": ["jq"]}, runner=Scripted(act), remove=remove)
    assert {endpoint.source for endpoint in built.endpoints} == {"imported image, /etc/pip.conf"}


def test_a_root_without_a_shell_is_not_asked(tmp_path: Path, import_: Import, runner: Scripted) -> None:
    import_(file(tmp_path, tar(("static", b""))))
    assert runner.jobs == []


def test_the_same_content_is_the_same_base(
    tmp_path: Path, store: Store, import_: Import, runner: Scripted
) -> None:
    archive = file(tmp_path, SMALL)
    first = import_(archive)
    assert import_(archive, replace=True).id == first.id
    place = layout(tmp_path / "image", SMALL)
    second = import_(place, "image")
    before = len(runner.jobs)
    assert import_(place, "image") == second
    assert len(runner.jobs) == before
    assert len(list_bases(store)) == 2


def test_a_name_is_given_up_only_when_asked(tmp_path: Path, store: Store, import_: Import) -> None:
    first = import_(file(tmp_path, SMALL))
    other = file(tmp_path, tar(("other", b"")), "other.tar")
    with pytest.raises(InputError, match="there is a base 'small' already"):
        import_(other)
    second = import_(other, replace=True)
    assert read_base(store, "small") == second != first
    assert read_base(store, first.id) == first
    # Back to the first, which is still there.
    assert import_(file(tmp_path, SMALL), replace=True) == first
    assert read_base(store, "small") == first


def test_an_image_is_chosen_by_its_tag(tmp_path: Path, import_: Import) -> None:
    place = layout(tmp_path / "image", SMALL, tags=("1", "2"))
    with pytest.raises(InputError, match="2 images"):
        import_(place)
    assert dict(import_(place, tag="2").environment)["TAG"] == "2"
    with pytest.raises(InputError, match="this is a file"):
        import_(file(tmp_path, SMALL), tag="2")


def nested(place: Path) -> Path:
    """A layout whose index lists an index."""
    layout(place, SMALL)
    inner = (place / "index.json").read_bytes()
    digest, size = put(place, inner)
    entry = {"mediaType": "application/vnd.oci.image.index.v1+json", "digest": digest, "size": size}
    (place / "index.json").write_text(json.dumps({"manifests": [entry]}))
    return place


def test_an_index_in_an_index_is_followed(tmp_path: Path, import_: Import) -> None:
    assert import_(nested(tmp_path / "image")).name == "small"


def blobs(place: Path) -> list[Path]:
    return sorted((place / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("change", ["flipped", "longer", "shorter", "gone", "pipe", "elsewhere"])
def test_a_blob_that_is_not_what_was_announced_is_refused(
    tmp_path: Path, store: Store, import_: Import, number: int, change: str
) -> None:
    """The configuration, the manifest and the layer alike."""
    place = layout(tmp_path / "image", tar(("f", os.urandom(2000)), ("bin/sh", b"")))
    assert import_(place).name == "small"
    blob = blobs(place)[number]
    data = blob.read_bytes()
    if change in ("flipped", "longer", "shorter"):
        middle = len(data) // 2
        blob.write_bytes(
            {
                "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
                "longer": data + b"\0",
                "shorter": data[:-1],
            }[change]
        )
    else:
        blob.unlink()
        if change == "pipe":
            os.mkfifo(blob)
        if change == "elsewhere":
            blob.symlink_to("/etc/hostname")
    before = standing(store)
    with pytest.raises(InputError, match=blob.name):
        import_(place, "again")
    after = standing(store)
    assert after["bases"] == before["bases"] and after["work"] == []
    assert read_base(store, "again") is None


def test_a_layer_that_is_not_what_the_configuration_says_is_refused(
    tmp_path: Path, store: Store, import_: Import
) -> None:
    place = tmp_path / "image"
    blob = put(place, gzip.compress(SMALL))
    config = oci.write_config(names.platform(), "", {}, [f"sha256:{'0' * 64}"], ["by hand"])
    manifest = oci.write_manifest(
        oci.config_descriptor(*put(place, config)), [oci.layer_descriptor(*blob, "gzip")]
    )
    descriptor = oci.manifest_descriptor(*put(place, manifest))
    (place / "index.json").write_bytes(oci.write_index(descriptor, names.platform(), "x"))
    with pytest.raises(InputError, match=r"it was changed|announced are"):
        import_(place)
    assert list_bases(store) == ()


def test_another_platforms_image_is_refused(tmp_path: Path, import_: Import) -> None:
    with pytest.raises(InputError, match="no image for"):
        import_(layout(tmp_path / "image", SMALL, platform="linux/s390x"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"hello", "no tar archive|damaged"),
        (b"", "no tar archive"),
        (tar(("../out", b"")), r"'\.\.'"),
        (gzip.compress(SMALL)[:-9], "damaged"),
        (gzip.compress(SMALL) + b"more", "damaged"),
        (lzma.compress(SMALL)[:-9], "damaged"),
        (b"\x28\xb5\x2f\xfd" + b"x" * 50, "damaged"),
        (tar(member("f", uid=100_000)), "belongs to user 100000"),
    ],
)
def test_a_bad_archive_is_refused_and_leaves_nothing(
    tmp_path: Path, store: Store, import_: Import, data: bytes, why: str
) -> None:
    with pytest.raises(InputError, match=why):
        import_(file(tmp_path, data))
    left = standing(store)
    assert left["bases"] == [] and left["work"] == []
    assert import_(file(tmp_path, SMALL)).name == "small"


def test_an_archive_that_unpacks_to_more_than_the_disk_has_is_refused(
    tmp_path: Path, store: Store, import_: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A megabyte that becomes a gigabyte: stopped at what is free, which this test makes 16 MiB."""
    bomb = file(tmp_path, gzip.compress(tar(("f", b"\0" * (64 << 20)))), "bomb")
    monkeypatch.setattr("pkgcache.imported._room", lambda _: 16 << 20)
    with pytest.raises(StoreError, match=r"more than the disk .* has room for"):
        import_(bomb)
    assert standing(store)["work"] == [] and list_bases(store) == ()
    monkeypatch.setattr("pkgcache.imported._room", lambda _: 256 << 20)
    assert import_(bomb).name == "small"


def test_an_archive_that_takes_too_much_memory_is_refused(
    tmp_path: Path, import_: Import, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An extended header is read into memory before anything can be said about it."""

    def greedy(*_: Any, **__: Any) -> None:
        bytearray(8 << 30)

    archive = file(tmp_path, SMALL)
    with monkeypatch.context() as patch:
        patch.setattr("pkgcache.imported.unpack", greedy)
        with pytest.raises(InputError, match="more memory than an honest archive"):
            import_(archive)
    assert import_(archive).name == "small"


@pytest.mark.parametrize("names_", [("oci-layout", "index.json"), ("manifest.json",)])
def test_an_archive_of_images_is_told_from_a_root_file_system(
    tmp_path: Path, import_: Import, names_: tuple[str, ...]
) -> None:
    inside_ = [(name, b"{}") for name in names_]
    with pytest.raises(InputError, match="an archive of images"):
        import_(file(tmp_path, tar(*inside_)))
    assert import_(file(tmp_path, tar(folder("usr"), ("manifest.json", b"{}")))).name == "small"


def test_an_image_without_layers_is_refused(tmp_path: Path, import_: Import) -> None:
    with pytest.raises(InputError, match="has no layers"):
        import_(layout(tmp_path / "image"))


@pytest.mark.parametrize("path", ["gone", "."])
def test_what_is_no_image_says_so(tmp_path: Path, import_: Import, path: str) -> None:
    with pytest.raises(InputError, match=r"No such file|no index.json"):
        import_(tmp_path / path)


def test_the_machine_keeps_its_name(tmp_path: Path, import_: Import) -> None:
    with pytest.raises(InputError, match="'host' is the machine itself"):
        import_(file(tmp_path, SMALL), "host")

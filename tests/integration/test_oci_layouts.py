"""Real systems out to OCI layouts and back, read by another program too; in either id mode."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pkgcache.bases import remove_base
from pkgcache.export import Exported, export_image
from pkgcache.image import Image
from pkgcache.imported import import_base
from pkgcache.names import platform
from pkgcache.records import LayerRecord, to_json
from pkgcache.runner import Job, Root
from pkgcache.store import discard, publish, workplace
from sandbox import images
from sandbox.build_runner import make_inside
from tests.capabilities import need
from tests.integration.layers import Place
from tests.integration.test_layers import MODES, place_of

pytestmark = pytest.mark.timeout(600)

# All that an image can hold, of everything but what sessions themselves put in. Directories' sizes are the disk's.
LIST = r"""cd / && find . -xdev \
  \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./tmp -o -path ./mnt \) -prune -o \
  -path ./etc/resolv.conf -o -path ./etc/ssl/sandbox-ca.pem -o -path ./etc/ssl/certs/ca-certificates.crt -o \
  -path ./etc/ssl/certs -o -path ./etc/ssl -o -path ./etc -o -path . -o \
  -type d -printf '%P %y %m %U %G %T@\n' -o -printf '%P %y %m %U %G %s %n %l %T@\n' | sed 's/\.[0-9]*$//' | sort
find bin usr/bin usr/sbin usr/share srv -xdev -type f -exec sha256sum {} + | sort
"""
CHANGES = r"""
rm /usr/bin/tac
rm -r /usr/share/doc/apt
rm -r /usr/share/common-licenses; mkdir /usr/share/common-licenses; echo mine > /usr/share/common-licenses/own
rm -r /usr/share/bug; echo 'a file now' > /usr/share/bug
rm /bin; mkdir /bin; cp -a /usr/bin/dash /usr/bin/env /bin; ln -s dash /bin/sh
mkdir -p /srv/deep/er; echo 1 > /srv/deep/er/one; ln /srv/deep/er/one /srv/two; ln -s ../srv/two /srv/three
mkfifo /srv/pipe; printf 'x' > "/srv/$(printf 'odd\377 name')"; : > /srv/$(printf '%0150d' 0)
cp /usr/bin/id /srv/id; chown 12:34 /srv/id; chmod 6755 /srv/id; chown -h 5:6 /srv/three
chmod 2711 /var/mail; touch -d 2001-01-01 /srv/deep
mv /etc/apt /etc/tpa
"""


@pytest.fixture(params=MODES)
def place(request: pytest.FixtureRequest, data_dir: Path) -> Place:
    return place_of(request.param, data_dir)


@pytest.fixture
def image(place: Place) -> Iterator[Image]:
    with changed(place) as image:
        yield image


@contextmanager
def changed(place: Place) -> Iterator[Image]:
    """A base and a layer on it, which overlayfs itself wrote: whatever a layer can change of what is below it."""
    base = place.build("debian-minimal", {})
    key = "0" * 64
    with workplace(place.store, place.remove) as work:
        os.mkdir(f"{work}/scratch")
        job = Job(Root(base.base), ("/bin/sh", "-ec", CHANGES), scratch=f"{work}/scratch")
        assert place.run_job(job).exit_code == 0
        os.mkdir(f"{work}/made")
        os.rename(f"{work}/scratch/upper", f"{work}/made/upper")
        record = LayerRecord(key, "apt", ("by hand",), "", base.base_id, platform(), "2030-01-01T00:00:00Z")
        Path(work, "made/layer.json").write_text(to_json(record))
        discard(place.store, place.store.layer(key), place.remove)
        publish(place.store, f"{work}/made", place.store.layer(key))
    layer = place.store.layer(key)
    try:
        yield base._replace(layers=(f"{layer}/upper",), keys=(key,), held=(*base.held, layer))
    finally:
        discard(place.store, layer, place.remove)


@pytest.fixture
def out(empty_data_dir: Path) -> Iterator[Path]:
    yield empty_data_dir / "out"


def export(place: Place, image: Image, target: Path, compression: str = "none") -> Exported:
    return export_image(
        place.store,
        image,
        str(target),
        tag="latest",
        environment=images.exported_environment(image),
        inside=make_inside(place.ids),
        compression=compression,
    )


def test_a_base_and_its_layer_come_back_the_same(place: Place, image: Image, out: Path) -> None:
    exported = export(place, image, out)
    assert exported.layers == 2
    import_returned(place, out)
    try:
        returned = place.build("returned", {})
        code, before = place.run(image, LIST)
        assert code == 0 and len(before.splitlines()) > 4000, before[-500:]
        assert "usr/bin/tac " not in before and "srv/two f" in before
        code, after = place.run(returned, LIST)
        assert set(after.splitlines()) ^ set(before.splitlines()) == set()
        assert returned.environment["PATH"].startswith("/root/.local/bin:")
        assert export(place, image, out.with_name("again")).digest == exported.digest
    finally:
        remove_base(place.store, "returned", remove=place.remove)


def test_packages_are_installed_on_an_imported_base(data_dir: Path, out: Path) -> None:
    place = place_of("range", data_dir)
    base = place.build("debian-minimal", {})
    export(place, base, out)
    import_returned(place, out)
    try:
        image = place.build("returned", {"apt": ["hello"]})
        assert {endpoint.manager for endpoint in image.endpoints} == {"apt"}
        assert place.run(image, "hello")[0] == 0
    finally:
        remove_base(place.store, "returned", remove=place.remove)


def import_returned(place: Place, out: Path) -> None:
    import_base(
        place.store,
        "returned",
        str(out),
        inside=make_inside(place.ids),
        runner=place.run_job,
        remove=place.remove,
    )


def test_another_program_unpacks_what_is_exported(data_dir: Path, out: Path) -> None:
    need("umoci")
    place = place_of("range", data_dir)
    with changed(place) as image:
        compare(place, image, out)


def compare(place: Place, image: Image, out: Path) -> None:
    export(place, image, out, "gzip")
    bundle = out.with_name("bundle")
    done = subprocess.run(
        ["umoci", "unpack", "--rootless", "--image", f"{out}:latest", str(bundle)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    script = r"find /usr /var /opt -xdev ! -type d -printf '%p %y %m %s %l\n' | sort"
    code, said = place.run(image, script)
    assert code == 0
    unpacked = set()
    for top in ("usr", "var", "opt"):
        for here, folders, files in os.walk(bundle / "rootfs" / top):
            for name in (*folders, *files):
                path = Path(here, name)
                status = path.lstat()
                if not stat.S_ISDIR(status.st_mode):
                    unpacked.add(_told(bundle / "rootfs", path, status))
    assert unpacked == set(said.splitlines())


def _told(root: Path, path: Path, status: os.stat_result) -> str:
    kind = "l" if path.is_symlink() else "f"
    target = os.readlink(path) if path.is_symlink() else ""
    return f"/{path.relative_to(root)} {kind} {stat.S_IMODE(status.st_mode):o} {status.st_size} {target}"

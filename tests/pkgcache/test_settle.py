"""What a root file system from elsewhere is given."""

from __future__ import annotations

from pathlib import Path

from pkgcache.settle import settle
from sandbox import idmap
from sandbox.confined import inside
from tests.capabilities import need
from tests.pkgcache.archives import tree


def settled(root: Path) -> str:
    need("user-namespaces")
    return inside(idmap.choose(idmap.read_host_ids(), idmap.SINGLE), str(root), settle)


def test_a_debian_is_told_that_services_do_not_start(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for folder in ("var/lib/dpkg", "etc/apt/apt.conf.d", "etc/dpkg/dpkg.cfg.d", "usr/sbin"):
        (root / folder).mkdir(parents=True)
        (root / folder).chmod(0o777)
    assert len(settled(root).split()) == 3
    assert "exit 101" in (root / "usr/sbin/policy-rc.d").read_text()
    assert (root / "usr/sbin/policy-rc.d").stat().st_mode & 0o777 == 0o755
    before = tree(root)
    assert settled(root) == "" and tree(root) == before


def test_other_systems_and_odd_ones_stay_as_they_are(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "usr/sbin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/dpkg").write_text("a file")
    (root / "etc/apt").symlink_to("/etc/apt")
    before = tree(root)
    assert settled(root) == ""
    assert tree(root) == before

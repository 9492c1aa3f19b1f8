"""Archives laid over one another: what honest ones come to, and that others are refused and reach nothing."""

from __future__ import annotations

import io
import json
import os
import random
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pkgcache.unpack import Full, Left, Refused, unpack
from sandbox import idmap
from sandbox.confined import inside
from tests.capabilities import need
from tests.pkgcache.archives import folder, hard, link, member, tar, tree

Lay = Callable[..., Left]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def lay(root: Path) -> Lay:
    """Lays archives over one another in `root`, as an import does."""
    need("user-namespaces")
    ids = idmap.choose(idmap.read_host_ids(), idmap.SINGLE)

    def lay_(*archives: bytes, layer: bool = True, **limits: Any) -> Left:
        def work() -> str:
            left = Left(0, 0)
            try:
                for archive in archives:
                    left = unpack(io.BytesIO(archive), layer=layer, **limits)
            except Refused as error:
                return json.dumps({"refused": str(error)})
            except Full:
                return json.dumps({"full": True})
            return json.dumps(left)

        told = json.loads(inside(ids, str(root), work))
        if isinstance(told, list):
            return Left(*told)
        if "full" in told:
            raise Full
        raise Refused(told["refused"])

    return lay_


def test_files_of_every_kind_come_out_as_they_are_told(root: Path, lay: Lay) -> None:
    left = lay(
        tar(
            folder("./", mode=0o750),
            folder("bin", mode=0o2755, mtime=1_500_000_000),
            (member("bin/tool", mode=0o4755, mtime=1_400_000_000), b"#!x"),
            hard("bin/other", "bin/tool"),
            link("bin/short", "tool"),
            link("out", "/etc/passwd"),
            member("pipe", tarfile.FIFOTYPE),
            ("no/folder/of/its/own", b"x"),
            ("ümläut \udcff", b"y"),
        )
    )
    assert left == Left(9, 0)
    assert stat.S_IMODE(root.stat().st_mode) == 0o750
    tool = (root / "bin/tool").stat()
    assert (stat.S_IMODE(tool.st_mode), tool.st_mtime, tool.st_nlink) == (0o4755, 1_400_000_000, 2)
    assert (root / "bin").stat().st_mtime == 1_500_000_000
    assert os.readlink(root / "out") == "/etc/passwd" and os.readlink(root / "bin/short") == "tool"
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert (root / "no/folder/of/its/own").read_bytes() == b"x"
    assert (root / "ümläut \udcff").read_bytes() == b"y"


def test_device_nodes_are_left_out_and_counted(root: Path, lay: Lay) -> None:
    null = member("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3)
    left = lay(
        tar(folder("dev"), null, hard("dev/zero", "dev/null"), member("disk", tarfile.BLKTYPE), ("f", b""))
    )
    assert left.devices == 3
    assert sorted(tree(root)) == ["dev", "f"]


@pytest.mark.parametrize(
    ("members", "why"),
    [
        ((("../out", b""),), "'..'"),
        ((("a/../../out", b""),), "'..'"),
        ((("/etc/out", b""),), "absolute"),
        ((folder("a"), ("a/..", b"")), "'..'"),
        ((link("way", ".."), ("way/out", b"")), "beneath a symbolic link"),
        ((link("way", "/etc"), ("way/out", b"")), "beneath a symbolic link"),
        ((folder("real"), link("way", "real"), ("way/out", b"")), "beneath a symbolic link"),
        ((("f", b""), ("f/out", b"")), "is no directory"),
        ((hard("out", "../../etc/passwd"),), "'..'"),
        ((hard("out", "/etc/passwd"),), "absolute"),
        ((hard("out", "nothing"),), "not there"),
        ((folder("d"), hard("out", "d")), "hard link to the directory"),
        ((link("way", "/etc"), hard("out", "way/passwd")), "beneath a symbolic link"),
        ((("f", b"1"), ("f", b"2")), "twice"),
        ((("f", b"1"), ("./f", b"2")), "twice"),
        ((("f", b"1"), folder("f")), "twice"),
        ((("a/f", b"1"), ("a", b"2")), "files beneath it"),
        ((link("f", "x"), ("f", b"2")), "twice"),
        ((member("f", b"9"),), "unknown type"),
        ((member("f", uid=70000),), "belongs to user 70000"),
        ((member("f", gid=70000),), "group 70000"),
        (((".wh.", b""),), "whiteout of nothing"),
        (((".wh...", b""),), "whiteout of nothing"),
        ((("a" * 300, b""),), "File name too long"),
        ((member("./"),), "only be a directory"),
    ],
)
def test_what_no_honest_archive_has_is_refused(
    root: Path, lay: Lay, members: tuple[Any, ...], why: str
) -> None:
    before = tree(root.parent)
    with pytest.raises(Refused, match=why):
        lay(tar(*members))
    after = {path for path in tree(root.parent) if not path.startswith("root/")}
    assert after == {path for path in before if not path.startswith("root/")}
    lay(tar(("honest", b"")))
    assert (root / "honest").exists()


def test_a_lower_layers_link_leads_nowhere_but_to_the_root(root: Path, lay: Lay) -> None:
    (root.parent / "outside").mkdir()
    lay(
        tar(folder("usr/bin"), link("bin", "usr/bin"), link("up", "../../../outside"), folder("outside")),
        tar(("bin/tool", b"1"), ("up/seen", b"2")),
    )
    assert (root / "usr/bin/tool").read_bytes() == b"1"
    assert (root / "outside/seen").read_bytes() == b"2"
    assert os.listdir(root.parent / "outside") == []


def test_whiteouts_hide_what_lower_layers_brought(root: Path, lay: Lay) -> None:
    lay(
        tar(("a/1", b""), ("a/2", b""), ("b/deep/3", b""), ("c", b"")),
        tar(("a/.wh.1", b""), (".wh.b", b""), (".wh.never-there", b""), ("a/.wh..wh.aufs", b"")),
    )
    assert sorted(tree(root)) == ["a", "a/2", "c"]


@pytest.mark.parametrize("opaque_first", [True, False])
def test_an_opaque_directory_shows_its_own_layer_alone(root: Path, lay: Lay, opaque_first: bool) -> None:
    own = [(("d/.wh..wh..opq"), b""), ("d/sub/new", b"")]
    lay(
        tar(("d/old", b""), ("d/sub/old", b""), ("e", b"")),
        tar(folder("d"), *(own if opaque_first else reversed(own))),
    )
    assert sorted(tree(root)) == ["d", "d/sub", "d/sub/new", "e"]


def test_a_whiteout_hides_nothing_of_its_own_layer(root: Path, lay: Lay) -> None:
    lay(
        tar(("d/old", b""), ("f", b"old")),
        tar(("d/new", b""), (".wh.d", b""), ("f", b"new"), (".wh.f", b"")),
    )
    assert sorted(tree(root)) == ["d", "d/new", "f"]
    assert (root / "f").read_bytes() == b"new"


def test_whiteouts_mean_nothing_in_a_root_file_systems_archive(root: Path, lay: Lay) -> None:
    lay(tar((".wh.odd", b"x")), layer=False)
    assert sorted(tree(root)) == [".wh.odd"]


def test_a_later_layer_replaces_what_is_of_another_kind(root: Path, lay: Lay) -> None:
    lay(
        tar(
            ("tree/leaf", b""),
            ("file", b""),
            link("link", "tree"),
            folder("same", mode=0o700),
            ("same/in", b""),
        ),
        tar(("tree", b"now a file"), folder("file"), folder("link"), folder("same", mode=0o711)),
    )
    assert (root / "tree").read_bytes() == b"now a file"
    assert (root / "file").is_dir() and (root / "link").is_dir() and not (root / "link").is_symlink()
    assert (root / "same/in").exists() and stat.S_IMODE((root / "same").stat().st_mode) == 0o711


def test_holes_stay_holes(root: Path, lay: Lay) -> None:
    size = 64 << 20
    sparse = member("f")
    sparse.pax_headers = {
        "GNU.sparse.map": f"0,1,{size - 1},1",
        "GNU.sparse.size": str(size),
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "f",
    }
    lay(tar((sparse, b"ab")))
    status = (root / "f").stat()
    assert status.st_size == size and status.st_blocks * 512 < size // 4
    with pytest.raises(Full):
        lay(tar((sparse, b"ab")), largest=size - 1)


def test_attributes_are_kept_but_those_that_overlayfs_reads(root: Path, lay: Lay) -> None:
    wanted = {"user.note": "kept", "user.overlay.opaque": "y", "trusted.overlay.opaque": "y"}
    marked = folder("d")
    marked.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in wanted.items()}
    lay(tar(marked))
    try:
        os.setxattr(root, "user.probe", b"")
    except OSError:
        pytest.skip("this file system has no user attributes")
    assert os.listxattr(root / "d") == ["user.note"]


@pytest.mark.parametrize("cut", [512, 700, 1500, 2048])
def test_an_archive_that_was_cut_short_or_damaged_is_refused(root: Path, lay: Lay, cut: int) -> None:
    whole = tar(("a", b"x" * 1000), ("b", b"y" * 1000))
    lay(whole)
    for name in ("a", "b"):
        os.unlink(root / name)
    # tarfile takes an archive that ends between two members for whole, as tar does.
    if cut != 1536:
        with pytest.raises(Refused):
            lay(whole[:cut])
    damaged = bytearray(whole)
    damaged[1536:1540] = b"\xff\xff\xff\xff"
    (root / "a").unlink(missing_ok=True)
    with pytest.raises(Refused, match="damaged"):
        lay(bytes(damaged))


def damaged(archive: bytes, chance: random.Random) -> bytes:
    """The archive with a few bytes of its headers changed, most of them with the right checksum again."""
    data = bytearray(archive)
    for _ in range(chance.randint(1, 6)):
        header = chance.randrange(len(data) // 512) * 512
        data[header + chance.randrange(512)] = chance.choice(
            (0, 255, 0x2F, 0x2E, 0x2D, chance.randrange(256))
        )
        if chance.random() < 0.8:
            data[header + 148 : header + 156] = b" " * 8
            data[header + 148 : header + 156] = b"%06o\0 " % sum(data[header : header + 512])
    return bytes(data)


def test_whatever_is_wrong_with_an_archive_it_is_refused_and_nothing_else(root: Path) -> None:
    need("user-namespaces")
    marked = member("ümläut" * 30)
    marked.pax_headers = {"SCHILY.xattr.user.a": "b", "mtime": "1.5"}
    sparse = member("s")
    sparse.pax_headers = {
        "GNU.sparse.map": "0,1,1000,1",
        "GNU.sparse.size": "1001",
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "s",
    }
    archives = (
        tar(folder("a"), ("a/f", b"x" * 700), link("l", "a"), hard("h", "a/f"), marked, ("a/.wh.x", b"")),
        tar((sparse, b"ab"), ("b/.wh..wh..opq", b""), ("c" * 150, b"z")),
    )

    def work() -> str:
        chance = random.Random(1)
        ends: dict[str, int] = {}
        for number in range(1000):
            here = f"/{number}"
            os.mkdir(here)
            os.chroot(here)
            os.chdir("/")
            try:
                unpack(io.BytesIO(damaged(chance.choice(archives), chance)), layer=True, largest=1 << 24)
                end = "whole"
            except (Refused, Full) as error:
                end = type(error).__name__
            ends[end] = ends.get(end, 0) + 1
            os.fchdir(top)
            os.chroot(".")
        return json.dumps(ends)

    top = os.open(root, os.O_RDONLY)
    try:
        ends = json.loads(inside(idmap.choose(idmap.read_host_ids(), idmap.SINGLE), str(root), work))
    finally:
        os.close(top)
    assert ends["whole"] > 100 and ends["Refused"] > 100


def test_the_number_of_entries_is_limited(lay: Lay) -> None:
    lay(tar(("a", b""), ("b", b"")), entries=2)
    with pytest.raises(Refused, match="more than 2 entries"):
        lay(tar(("c", b""), ("d", b""), ("e", b"")), entries=2)


def test_something_else_than_an_archive_is_refused(lay: Lay) -> None:
    for data in (b"", b"hello", b"x" * 4096):
        with pytest.raises(Refused):
            lay(data)

"""Trees as archives: what overlayfs notes becomes whiteouts, and the same tree gives the same bytes."""

from __future__ import annotations

import io
import json
import os
import socket
import tarfile
from pathlib import Path

import pytest

from pkgcache.pack import Packed, Unpackable, pack
from sandbox import idmap
from sandbox.confined import inside
from tests.capabilities import need
from tests.pkgcache.archives import digest


def packed(root: Path, compression: str = "", *, layer: bool = False) -> tuple[Packed, bytes]:
    need("user-namespaces")
    out = root.parent / "out"
    with open(out, "wb") as file:

        def work() -> str:
            try:
                return json.dumps(pack(file, compression, layer=layer))
            except Unpackable as error:
                return json.dumps(str(error))
            finally:
                file.flush()

        ids = idmap.choose(idmap.read_host_ids(), idmap.SINGLE)
        told = json.loads(inside(ids, str(root), work))
    if isinstance(told, str):
        raise Unpackable(told)
    return Packed(*told), out.read_bytes()


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        return {member.name: member for member in archive}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "b").mkdir(parents=True)
    (made / "b/z").write_text("z")
    (made / "b/tool").write_bytes(b"#!")
    (made / "b/tool").chmod(0o4755)
    os.link(made / "b/tool", made / "c")
    (made / "a").symlink_to("/etc/passwd")
    os.mkfifo(made / "pipe")
    (made / ("n" * 120)).write_text("long")
    os.utime(made / "b/z", ns=(0, 1_600_000_000_999_999_999))
    return made


def test_what_is_there_is_told_in_order(root: Path) -> None:
    found = members(packed(root)[1])
    assert list(found) == [".", "a", "b", "b/tool", "b/z", "c", "n" * 120, "pipe"]
    assert (found["b/tool"].mode, found["b/tool"].size) == (0o4755, 2)
    assert (found["c"].type, found["c"].linkname) == (tarfile.LNKTYPE, "b/tool")
    assert found["a"].linkname == "/etc/passwd" and found["pipe"].isfifo()
    assert found["b/z"].mtime == 1_600_000_000
    assert {one.uname for one in found.values()} == {""}
    assert "." not in members(packed(root, layer=True)[1])


@pytest.mark.parametrize("compression", ["", "gzip", "zstd"])
def test_the_same_tree_gives_the_same_bytes(root: Path, compression: str) -> None:
    first, data = packed(root, compression)
    second, again = packed(root, compression)
    assert (first, data) == (second, again)
    assert (first.digest, first.size) == (digest(data), len(data))
    assert first.diff_id == packed(root)[0].digest
    (root / "b/z").write_text("y")
    assert packed(root, compression)[0] != first


def test_sockets_are_left_out(root: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = os.open(root, os.O_PATH)
        server.bind(f"/proc/self/fd/{here}/s")
        os.close(here)
    assert "s" not in members(packed(root)[1])


def test_overlayfs_marks_become_whiteouts(root: Path) -> None:
    try:
        os.setxattr(root / "b", "user.overlay.opaque", b"y")
    except OSError:
        pytest.skip("this file system has no user attributes")
    os.setxattr(root / "b", "user.note", b"kept")
    (root / "b/gone").touch()
    os.setxattr(root / "b/gone", "user.overlay.whiteout", b"")
    found = members(packed(root, layer=True)[1])
    assert [name for name in found if ".wh." in name] == ["b/.wh..wh..opq", "b/.wh.gone"]
    assert found["b"].pax_headers == {"SCHILY.xattr.user.note": "kept"}
    # A base has no layers below, so nothing is hidden by it.
    assert not [name for name in members(packed(root)[1]) if ".wh." in name]


def test_real_whiteouts_become_whiteouts(root: Path) -> None:
    need("overlay")
    os.mkdir(root / "sub")
    inside(
        idmap.choose(idmap.read_host_ids(), idmap.SINGLE),
        str(root / "sub"),
        # The kernel lets anybody make this one device, for overlay file systems in user namespaces.
        lambda: str(os.mknod("/gone", 0o020000, 0)),
    )
    assert ".wh.gone" in {Path(name).name for name in members(packed(root, layer=True)[1])}


def test_a_name_that_would_be_read_as_a_whiteout_is_refused(root: Path) -> None:
    (root / "b/.wh.odd").touch()
    with pytest.raises(Unpackable, match=r"/b/\.wh\.odd"):
        packed(root)

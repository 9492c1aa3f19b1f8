"""Keeping real layers in order: what sessions use stays, what is damaged is found, whoever owns the files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sandbox import idmap, upkeep
from tests.capabilities import need
from tests.integration.layers import Place
from tests.sessions.running import Sandbox

pytestmark = pytest.mark.timeout(600)

PACKAGES = {"apt": ["dbus", "openssh-server"]}


@pytest.fixture(params=["range", "single"])
def place(request: pytest.FixtureRequest, data_dir: Path) -> Place:
    need("user-namespaces", "overlay", "registries", "mmdebstrap")
    if request.param == "range":
        need("subids")
    return Place(str(data_dir), request.param)


def test_what_packages_made_is_in_order_and_one_changed_file_is_not(place: Place) -> None:
    """openssh-server's layer has files that only its owner reads, which is an id of sessions."""
    image = place.build("debian-minimal", PACKAGES)
    verdicts = upkeep.verify(place.data, place.ids, lambda _: None)
    ours = [verdict for verdict in verdicts if verdict.kept.id in (*image.keys, image.base_id)]
    assert len(ours) == 2 and not any(verdict.damaged for verdict in ours), ours
    code, said = place.run(image, "stat -c %a /etc/ssh/ssh_host_ed25519_key /usr/bin/passwd")
    assert (code, said.split()) == (0, ["600", "4755"])
    key = Path(image.layers[0], "etc/ssh/ssh_host_ed25519_key")

    def damage() -> None:
        with key.open("ab") as file:
            file.write(b"x")

    def mend() -> None:
        os.truncate(key, key.stat().st_size - 1)

    place.store.as_owner(damage)
    try:
        # Other tests take layers away beneath others.
        verdicts = upkeep.verify(place.data, place.ids, lambda _: None)
    finally:
        place.store.as_owner(mend)
    (found,) = (verdict for verdict in verdicts if verdict.damaged and verdict.kept.id in image.keys)
    assert [file.path for file in found.files] == ["upper/etc/ssh/ssh_host_ed25519_key"]


def test_a_damaged_layer_is_removed_whoever_owns_it_and_built_again(place: Place) -> None:
    packages = {"apt": ["hello"]}
    image = place.build("debian-minimal", packages)
    program = Path(image.layers[0], "usr/bin/hello")
    place.store.as_owner(program.unlink)
    (found,) = (
        verdict
        for verdict in upkeep.verify(place.data, place.ids, lambda _: None)
        if verdict.damaged and verdict.kept.id in image.keys
    )
    assert [(file.path, file.what) for file in found.files] == [("upper/usr/bin/hello", "missing")]
    assert [kept.id for kept in upkeep.repair(place.data, place.ids, (found,)).gone] == list(image.keys)
    assert place.run(place.build("debian-minimal", packages), "hello")[0] == 0


def test_pruning_leaves_a_running_session_what_it_stands_on(empty_data_dir: Path) -> None:
    need("user-namespaces", "overlay")
    sandbox = Sandbox(empty_data_dir)
    ids = idmap.choose(idmap.read_host_ids())
    with sandbox.start("--", "sh", "-c", "echo ready; read line; cat /etc/hosts", stdin=-1) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == b"ready\n"
        assert upkeep.prune(str(empty_data_dir), ids).grounds == ()
        out, _ = session.communicate(b"go on\n", timeout=60)
    assert b"localhost" in out
    (ground,) = upkeep.prune(str(empty_data_dir), ids).grounds
    assert not os.path.exists(ground)
    assert "localhost" in sandbox.ok("--", "cat", "/etc/hosts")

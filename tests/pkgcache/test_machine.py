from __future__ import annotations

from pathlib import Path

import pytest

from pkgcache import machine


def test_the_machines_id_is_the_same_while_nothing_changes() -> None:
    assert machine.identity() == machine.identity()
    assert machine.identity().startswith("host-")


def test_a_changed_package_manager_makes_another_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "pip.conf"
    monkeypatch.setattr(machine, "_FILES", (str(settings),))
    seen = {machine.identity()}
    settings.write_text("[global]\n")
    seen.add(machine.identity())
    settings.write_text("[global]\nindex-url = https://index.test/simple\n")
    seen.add(machine.identity())
    assert len(seen) == 3

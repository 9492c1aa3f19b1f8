"""``sandboxctl state``, the real command."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.sessions.running import SANDBOXCTL, control


def test_a_state_is_carried_by_a_file_and_by_a_pipe(empty_data_dir: Path) -> None:
    here, there, third = (empty_data_dir / name for name in ("here", "there", "third"))
    assert control(here, "agent", "create", "--name", "a", "--model", "m").code == 0
    target = empty_data_dir / "state.tar"
    done = control(here, "state", "export", str(target))
    assert (done.code, done.out) == (0, "")
    assert "1 agents" in done.err
    assert target.stat().st_mode & 0o777 == 0o600
    assert control(there, "state", "import", str(target)).code == 0
    listed = control(here, "agent", "list").out
    assert listed and control(there, "agent", "list").out == listed
    again = control(there, "state", "import", str(target))
    assert again.code == 2 and "already" in again.err
    assert control(there, "state", "import", "--replace", str(target)).code == 0
    assert control(there, "agent", "list").out == listed
    pipe = subprocess.run(
        [SANDBOXCTL, "--data", str(here), "state", "export", "-"], capture_output=True, check=True, timeout=60
    )
    subprocess.run(
        [SANDBOXCTL, "--data", str(third), "state", "import", "-"],
        input=pipe.stdout,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert control(third, "agent", "list").out == listed


def test_mistakes_are_2_and_nothing_half_made_stays(empty_data_dir: Path) -> None:
    data = empty_data_dir / "data"
    (empty_data_dir / "bad.tar").write_bytes(b"x" * 10_000)
    for words in (
        ("import", str(empty_data_dir / "gone.tar")),
        ("import", str(empty_data_dir / "bad.tar")),
        ("export", str(empty_data_dir / "gone/state.tar")),
    ):
        done = control(data, "state", *words)
        assert (done.code, done.out) == (2, ""), done
        assert words[1] in done.err or "state can't be read" in done.err
    assert sorted(path.name for path in empty_data_dir.iterdir()) == ["bad.tar", "data"]

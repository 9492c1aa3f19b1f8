"""``sandboxctl env``, the real command. That builds make layers is tested in tests/integration."""

from pathlib import Path

import pytest

from tests.sessions.running import control

PLAIN = "name: plain\nconfig: {type: cloud, networking: {type: limited, allowed_hosts: [example.com]}}\n"


def test_an_environment_is_kept_under_its_name(empty_data_dir: Path) -> None:
    file = empty_data_dir / "plain.yaml"
    file.write_text(PLAIN)
    data = empty_data_dir / "data"
    by_file = control(data, "env", "build", str(file))
    assert (by_file.code, by_file.out) == (0, "plain: ready (no packages; 0 layers)\n")
    file.unlink()
    by_name = control(data, "env", "build", "plain")
    assert (by_name.code, by_name.out) == (0, by_file.out)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("name: [", "plain.yaml"),
        ("name: plain\nconfig: {type: cloud, colour: red}\n", "colour"),
        ("name: plain\nconfig: {type: cloud, packages: {pip: [--index-url=x]}}\n", "pip"),
    ],
)
def test_a_bad_file_is_refused_and_not_kept(text: str, word: str, empty_data_dir: Path) -> None:
    file = empty_data_dir / "plain.yaml"
    file.write_text(text)
    data = empty_data_dir / "data"
    done = control(data, "env", "build", str(file))
    assert done.code == 2
    assert word in done.err
    assert control(data, "env", "build", "plain").code == 2

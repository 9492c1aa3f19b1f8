"""Commands that are loaded when they are named: all are there, and each says what it does."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from sandbox.commands.groups import LazyGroup
from sandbox.commands.lasting import main


def paths(group: click.Group, so_far: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The names that lead to each command below ``group``, and to each group."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield (*so_far, name)
        if isinstance(command, click.Group):
            yield from paths(command, (*so_far, name))


ALL = tuple(paths(main))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_loads_and_shows_its_help(path: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, [*path, "--help"], prog_name="sandboxctl")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: sandboxctl {path[0]} ")


def test_the_help_of_a_group_tells_all_of_them_and_what_they_do() -> None:
    for group in ((), ("env",)):
        told = CliRunner().invoke(main, [*group, "--help"]).stdout.partition("Commands:\n")[2]
        names = [line.split(maxsplit=1) for line in told.splitlines() if line[2:3].strip()]
        assert [words[0] for words in names] == [path[-1] for path in ALL if path[:-1] == group]
        assert all(len(words) == 2 for words in names)


def test_a_name_that_is_none_is_refused() -> None:
    for words in (["nonsense"], ["env", "nonsense"]):
        done = CliRunner().invoke(main, words)
        assert (done.exit_code, done.stdout) == (2, "")
        assert "No such command 'nonsense'" in done.stderr


def test_commands_of_both_kinds_stand_in_one_group() -> None:
    group = LazyGroup("g", later={"build": "sandbox.commands.envs:env_build"})
    group.add_command(click.Command("also"))
    context = click.Context(group)
    assert group.list_commands(context) == ["also", "build"]
    assert [getattr(group.get_command(context, name), "name", None) for name in ("also", "build", "no")] == [
        "also",
        "build",
        None,
    ]

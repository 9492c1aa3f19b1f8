"""What process 1 is told survives the way there."""

from hypothesis import given
from hypothesis import strategies as st

from sandbox.operations import Bind, Directory, Overlay, Proc, WriteFile
from sandbox.setup import Command, Setup, TerminalSettings, decode, encode

SETUP = Setup(
    steps=(
        Overlay("/", ("/a", "/b"), "/upper", "/work"),
        Proc(),
        Bind("/x", "/y", True, 3),
        Directory("/tmp", 0o1777),
        WriteFile("/etc/hosts", b"\0\xff"),
    ),
    root="/root-of-it",
    network="limited",
    listeners=(("tls", 443), ("tcp", 8443)),
    filter=b"\x06\0\0\0",
    drop_groups=True,
    file_capabilities=False,
    window="/w",
    command=Command(("sh", "-c", "x"), (("A", "b"),), "/workspace", (0, None, 1)),
    terminal=TerminalSettings([1, 2, 3, 4, 5, 6, [b"\x03", b"\x1c"]], b"\0" * 8),
    first_tree=2,
)


def test_a_setup_is_the_same_after_its_journey() -> None:
    assert decode(encode(SETUP)) == SETUP
    bare = SETUP._replace(terminal=None, steps=())
    assert decode(encode(bare)) == bare


def test_its_parts_keep_their_types() -> None:
    made = decode(encode(SETUP))
    assert [type(step) for step in made.steps] == [type(step) for step in SETUP.steps]
    assert isinstance(made.command, Command)
    assert isinstance(made.terminal, TerminalSettings)


@given(
    st.lists(st.text()),
    st.lists(st.tuples(st.text(), st.text())),
    st.text(),
    st.binary(),
    st.integers(0, 2**31),
)
def test_any_content_survives(
    arguments: list[str], environment: list[tuple[str, str]], workdir: str, filter_: bytes, tree: int
) -> None:
    command = Command(tuple(arguments), tuple(environment), workdir, (None, None, None))
    setup = SETUP._replace(command=command, filter=filter_, first_tree=tree)
    assert decode(encode(setup)) == setup


def test_names_that_are_not_utf8_survive() -> None:
    name = b"/\xff\xfe".decode("utf-8", "surrogateescape")
    setup = SETUP._replace(steps=(Directory(name),))
    assert decode(encode(setup)) == setup

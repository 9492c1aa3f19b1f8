"""An order is the same after its journey."""

import os

from sandbox.containers.orders import Order, decode, encode, in_memory
from sandbox.setup import TerminalSettings

ORDER = Order(("sh", "-c", "\udcff"), (("A", "b"),), None, (0, None, 1), TerminalSettings(None, b"\0" * 8))


def test_an_order_survives() -> None:
    assert decode(encode(ORDER)) == ORDER
    assert decode(encode(ORDER._replace(terminal=None, workdir="/x"))) == ORDER._replace(
        terminal=None, workdir="/x"
    )


def test_a_file_in_memory_is_read_from_its_beginning() -> None:
    fd = in_memory(b"x" * 100_000)
    with open(fd, "rb") as file:
        assert file.read() == b"x" * 100_000
    assert not os.path.exists(f"/proc/self/fd/{fd}")

"""Keeping the last bytes of what is said. Real commands are in test_containers.py."""

from hypothesis import given
from hypothesis import strategies as st

from sandbox.containers.collecting import Tail


@given(st.lists(st.binary(max_size=40)), st.integers(0, 50))
def test_a_tail_is_the_end_of_everything(pieces: list[bytes], limit: int) -> None:
    tail = Tail(limit)
    for piece in pieces:
        tail.add(piece)
    whole = b"".join(pieces)
    kept = tail.take()
    assert kept == (whole[-limit:] if limit else b"")
    assert len(kept) + tail.omitted == len(whole)


def test_it_does_not_grow_with_what_is_said() -> None:
    tail = Tail(10)
    for _ in range(100):
        tail.add(b"x" * 65536)
        assert len(tail._kept) < 300_000
    assert len(tail.take()) == 10

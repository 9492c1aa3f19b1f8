"""The ways in which a program calls the kernel."""

from __future__ import annotations

import pytest

from tests.sandbox.seccomp.calls import ABIS, Call, runs_32_bit_calls


@pytest.fixture(params=["64", "32"])
def abi(request: pytest.FixtureRequest) -> Call:
    """Makes a system call by its name, natively and as a 32-bit program does."""
    if request.param == "32" and not runs_32_bit_calls():
        pytest.skip("the kernel runs no 32-bit calls")
    return ABIS[request.param]

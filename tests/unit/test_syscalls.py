"""The numbers of system calls are those of the C library's headers, on whichever machine this runs."""

from __future__ import annotations

import re
import subprocess

import pytest

from minipod.linux import libc
from minipod.linux.syscalls import table


def test_our_numbers_are_those_of_the_headers_of_this_machine() -> None:
    """Excluded: what is newer than the headers, or older than all that still compile."""
    macros = subprocess.run(
        ["gcc", "-E", "-dM", "-include", "asm/unistd.h", "-x", "c", "/dev/null"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    headers = {
        name: int(number)
        for name, number in re.findall(r"#define __NR_(\w+) (\d+)$", macros, re.MULTILINE)
    }
    ours = table(libc.MACHINE)
    wrong = {name: number for name, number in headers.items() if ours.get(name) != number}
    wrong.pop("syscalls", None)  # how many there are (asm-generic/unistd.h)
    assert not wrong
    assert len(headers) > 200


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_numbers_of_the_calls_we_make_are_those_of_the_table(machine: str) -> None:
    called = libc._COMMON | libc._BY_MACHINE[machine]
    assert called.items() <= table(machine).items()

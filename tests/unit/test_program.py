"""Programs of system calls: what runs, what is skipped, what a failure leads to; in a process whose C library registered nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minipod.linux import program
from minipod.linux.program import SIZE

PRELUDE = """
import os, sys
from minipod.linux.program import FAIL, Buffer, Call, Machine, Result
machine, told = Machine(), os.pipe()
os.set_blocking(told[0], False)
failed = Call("write", (told[1], b"failed", 6))
true = Call("execve", (b"/bin/true", (b"true", 0), (0,)))

def run(*theirs, **more):
    pid = machine.launch(theirs, failed=failed, **more)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        return code, os.read(told[0], 16)
    except BlockingIOError:
        return code, b""
"""
MISSING = 'Call("chdir", (b"/nosuch",)'


def python(code: str) -> str:
    environment = {**os.environ, "GLIBC_TUNABLES": program.TUNABLE}
    command = [sys.executable, "-c", PRELUDE + code]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param("run(true)", "(0, b'')", id="execve is the end"),
        pytest.param("run()", "(1, b'failed')", id="nothing to execute"),
        pytest.param(f"run({MISSING}), true)", "(1, b'failed')", id="a failure ends it"),
        pytest.param(f"run({MISSING}, on_error=0), true)", "(0, b'')", id="one that may fail"),
        pytest.param(
            f"run({MISSING}, on_error=1), {MISSING}), true)", "(0, b'')", id="one that skips"
        ),
        pytest.param(
            "run(Call('chdir', (b'/',), on_error=1), Call('exit_group', (7,)), true)", "(7, b'')",
            id="one that works skips nothing",
        ),
        pytest.param(
            "run(Call('dup', (0,), on_zero=FAIL), Call('getuid', (), on_zero=FAIL) if os.getuid() == 0 else failed)",
            "(1, b'failed')",
            id="a zero that is a failure",
        ),
        pytest.param(
            "run(Call('getcwd', (b := Buffer(4096), b.size)), Call('faccessat', (-1, b, 0)), true)", "(0, b'')",
            id="two calls share a buffer",
        ),
        pytest.param(
            "run(Call('execve', (b'/bin/sh', (b'sh', b'-c', b'exit $((A+B))', 0), (b'A=20', b'B=3', 0))))", "(23, b'')",
            id="words and environment",
        ),
        pytest.param(
            "run(Call('openat', (-100, b'/bin', 0), gives=(f := Result())), Call('fchdir', (f,)), Call('chdir', (b'.',)), true)",
            "(0, b'')",
            id="one takes what another gives",
        ),
    ],
)  # fmt: skip
def test_a_program_runs(code: str, said: str) -> None:
    assert python(f"print({code})") == said


def test_what_is_entered_is_left_again_and_an_entrance_that_fails_forks_nobody() -> None:
    """The working directory stands for the namespaces, which need root."""
    code = f"""
os.chdir("/proc")
home = Call("chdir", (b"/proc",))
print(run(true, enter=[Call("chdir", (b"/",))], leave=[home]), os.getcwd())
try:
    run(true, enter=[Call("chdir", (b"/",)), {MISSING})], leave=[home])
except FileNotFoundError as e:
    print(e.errno, os.getcwd())
"""
    assert python(code).splitlines() == ["(0, b'') /proc", "2 /proc"]
    leave = f"machine.launch([true], failed=failed, leave=[{MISSING})])"
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + leave],
        env={**os.environ, "GLIBC_TUNABLES": program.TUNABLE}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 70  # not where it should be: it ends


def test_a_child_has_no_memory_but_its_program_and_ours_is_complete_afterwards() -> None:
    code = """
pid = machine.launch([Call("pause", ())] if "pause" in machine._numbers else [Call("ppoll", (0, 0, 0, 0, 8))], failed=failed)
names = [line.split()[5:] for line in open(f"/proc/{pid}/maps")]
print(names.count([]), sorted(n[0] for n in names if n and not n[0].startswith("[v")))
os.kill(pid, 9), os.waitpid(pid, 0)
print("dc" in [flag for line in open("/proc/self/smaps") if line.startswith("VmFlags") for flag in line.split()])
fork = os.fork()
if fork == 0:
    import time
    os._exit(int(time.time() > 0))
print(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]))
"""
    assert python(code).splitlines() == ["2 []", "False", "1"]


def test_a_program_that_is_too_long_is_an_error_and_the_next_one_runs() -> None:
    code = f"""
try:
    run(Call("chdir", (b"x" * {SIZE},)))
except OverflowError as e:
    print(e)
print(run(true))
"""
    assert python(code).splitlines() == [f"a program of more than {SIZE} bytes", "(0, b'')"]


def test_with_memory_that_the_kernel_writes_to_it_refuses_to_work() -> None:
    """glibc 2.35 and later register it; the supervisor starts without."""
    if not program._registered():
        pytest.skip("this C library registers no restartable sequences")
    with pytest.raises(OSError, match="restartable sequences"):
        program.Machine()

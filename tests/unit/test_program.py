"""Programs of system calls: what runs, what is skipped, what a failure leads to; in a process whose C library registered nothing."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from minipod.linux import machine_fork
from minipod.linux.machine import SIZE

PRELUDE = """
import os, sys
from minipod.linux.machine_fork import ForkMachine, Part
from minipod.linux.program import FAIL, Buffer, Call, Result, Words, either, equal, unless
machine, told = ForkMachine(), os.pipe()
os.set_blocking(told[0], False)
failed = Call("write", (told[1], b"failed", 6))
true = Call("execve", (b"/bin/true", (b"true", 0), (0,)))

def run(*theirs, **more):
    pid = machine.launch(Part([theirs], failed), **more)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    try:
        return code, os.read(told[0], 16)
    except BlockingIOError:
        return code, b""
"""
MISSING = 'Call("chdir", (b"/nosuch",)'


def python(code: str) -> str:
    environment = {**os.environ, "GLIBC_TUNABLES": machine_fork.TUNABLE}
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
            "run(Call('execve', (b'/bin/sh', Words([b'sh', b'-c', b'exit $((A+B))', b'']), Words([b'A=20', b'B=3']))))", "(23, b'')",
            id="words and environment as texts",
        ),
        pytest.param("run(Call('execve', (b'/bin/true', Words([b'true']), Words([]))))", "(0, b'')", id="no environment"),
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
    leave = f"machine.launch(Part([[true]], failed), leave=[{MISSING})])"
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + leave],
        env={**os.environ, "GLIBC_TUNABLES": machine_fork.TUNABLE}, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 70  # not where it should be: it ends


def test_a_child_has_no_memory_but_its_program_and_ours_is_complete_afterwards() -> None:
    code = """
pid = machine.launch(Part([[Call("pause", ())] if "pause" in machine._numbers else [Call("ppoll", (0, 0, 0, 0, 8))]], failed))
names = [line.split()[5:] for line in open(f"/proc/{pid}/maps")]
print(names.count([]), sorted(n[0] for n in names if n and not n[0].startswith("[v")))
os.kill(pid, 9), os.waitpid(pid, 0)
hidden = lambda: "dc" in [flag for line in open("/proc/self/smaps") if line.startswith("VmFlags") for flag in line.split()]
print(hidden(), machine.show(), hidden())
run(true)
fork = os.fork()
if fork == 0:
    import time
    os._exit(int(time.time() > 0))
print(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]))
"""
    assert python(code).splitlines() == ["2 []", "True None False", "1"]


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
    if not machine_fork._registered():
        pytest.skip("this C library registers no restartable sequences")
    with pytest.raises(OSError, match="restartable sequences"):
        machine_fork.ForkMachine()


NO = "Call('exit_group', (7,))"


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param(f"run(*either(Call('chdir', (b'/',)), [true], [{NO}]))", "(0, b'')", id="good"),
        pytest.param(f"run(*either({MISSING}), [{NO}], [true]))", "(0, b'')", id="bad"),
        pytest.param(
            f"run(*either(Call('chdir', (b'/',)), [{MISSING}, on_error=0)], [{NO}, {NO}]), true)", "(0, b'')",
            id="what leads out of the good ones leads behind the bad ones",
        ),
        pytest.param(f"run(*either(Call('chdir', (b'/',)), [], [{NO}]), true)", "(0, b'')", id="no good ones"),
        pytest.param(f"run(*unless(Call('chdir', (b'/',)), [{NO}]), true)", "(0, b'')", id="not needed"),
        pytest.param(f"run(*unless({MISSING}), [Call('chdir', (b'/',))]), true)", "(0, b'')", id="needed"),
        pytest.param(f"run(*unless({MISSING}), [{MISSING})]), true)", "(1, b'failed')", id="needed in vain"),
        pytest.param(f"run(Call('chdir', (b'/',), then=1), {NO}, true)", "(0, b'')", id="a success that skips"),
        pytest.param("run(Call('chdir', (b'/',), then=FAIL), true)", "(1, b'failed')", id="a success that is none"),
        pytest.param(
            f"run({MISSING}, on_error=0, gives=(b := Buffer(8))), equal(b, -2, yes=1, no=FAIL), {NO}, true)", "(0, b'')",
            id="the errno it was to be",
        ),
        pytest.param(
            f"run({MISSING}, on_error=0, gives=(b := Buffer(8))), equal(b, -20, yes=FAIL, no=1), {NO}, true)", "(0, b'')",
            id="another errno",
        ),
    ],
)  # fmt: skip
def test_an_outcome_leads_where_it_is_to(code: str, said: str) -> None:
    assert python(f"print({code})") == said


def test_the_second_part_fails_in_its_own_way_and_tells_what_it_was() -> None:
    code = f"""
outcome = Buffer(8)
told_errno = Call("write", (told[1], outcome, 8))
first, second = Part([[Call("chdir", (b"/",))]], failed), Part([[{MISSING}, gives=outcome)]], told_errno)
pid = machine.launch(first, second)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), int.from_bytes(os.read(told[0], 16), sys.byteorder, signed=True))
"""
    assert python(code) == "1 -2"


def test_a_block_that_is_kept_runs_again_with_other_texts_while_they_fit() -> None:
    code = """
from minipod.linux.program import Text
path = Text(b"/")
block = machine.keep([Call("chdir", (path,)), Call("chdir", (path,))])
launch = lambda: os.waitstatus_to_exitcode(os.waitpid(machine.launch(Part([block, [true]], failed)), 0)[1])
print(launch(), machine.fill(block, [b"/nosuch"]), launch(), machine.fill(block, [b"/proc"]), launch())
print(machine.fill(block, [b"x" * 256]), launch())
try:
    machine.fill(block, [])
except ValueError as e:
    print("not as many")
kept = 0
while machine.keep([true] * 100):
    kept += 1
machine.forget()
print(kept > 5, machine.keep([true]) is not None)
"""
    assert python(code).splitlines() == ["0 True 1 True 0", "False 0", "not as many", "True True"]


def test_a_block_that_is_kept_takes_other_numbers_each_time_and_one_too_large_is_not_kept() -> None:
    code = """
from minipod.linux.program import Number
pipes = [os.pipe() for _ in range(3)]

def says(fd):
    number = Number(fd)
    calls = [Call("write", (number, letter, 1)) for letter in (b"a", b"b")]
    return machine.once("says", (), lambda: calls, numbers=(fd,))

for reader, writer in pipes:
    pid = machine.launch(Part([says(writer), [true]], failed))
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), os.read(reader, 9).decode())
print(len(machine._blocks))
for _ in range(2):
    machine.once("large", (), lambda: [true] * 100, most=4096)
print(list(machine._blocks))
"""
    assert python(code).splitlines() == ["0 ab"] * 3 + ["1", "['says']"]


def test_a_volume_that_root_may_not_search_is_taken_for_no_file() -> None:
    """As on NFS, where root is nobody: who looks into it gets EACCES, which does not say that it is no directory."""
    if os.getuid() != 0:
        pytest.skip("needs root")
    code = """
import tempfile
from minipod.init.attach import AttachMount
from minipod.init.descriptors import Descriptors
from minipod.init.operation import Context
from minipod.init.sources import CLONED
from minipod.init.sync import Unheard
from minipod.linux import credentials, flags, mount, namespaces
namespaces.unshare(flags.CloneFlag.CLONE_NEWNS)
mount.mount("", "/", "", flags.MountFlag.MS_REC | flags.MountFlag.MS_PRIVATE)
with tempfile.TemporaryDirectory() as root, tempfile.TemporaryDirectory() as volume:
    os.chown(volume, 1000, 1000)
    tree = mount.open_tree(flags.AT_FDCWD, volume, CLONED)
    context = Context(sync=Unheard(), hierarchy=None, fds={"volume": tree, "root": os.open(root, os.O_PATH)})
    context.numbers = Descriptors(map(int, os.listdir("/proc/self/fd")[:-1]))
    rights = frozenset({credentials.number("SYS_ADMIN")})
    less = credentials.capset_arguments(effective=rights, permitted=rights, inheritable=frozenset())
    attach = AttachMount(key="volume", target="/target").calls(context)
    print(run(Call("capset", less), *attach, true), os.listdir(root))
"""
    assert python(code) == "(1, b'failed') []"

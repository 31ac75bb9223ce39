"""A container by the short way, a child without an interpreter: it becomes what the long way makes, whatever it asks for."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import resource
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from minipod.errors import MinipodError, SetupFailed
from minipod.runtime.prepared_roots import PreparedRoots
from minipod.runtime.state import SandboxRecord
from minipod.spec.container import (
    ContainerSpec,
    Mount,
    Propagation,
    Resources,
    SeccompMode,
    Security,
)
from tests.node import eventually, python
from tests.parked import children
from tests.parts import Parts, sandbox_spec

SHOW = (
    "exec 2>&1; id; pwd; umask; env | sort; stat -c %A /proc/self/fd/0; readlink /proc/self/fd/0; ls /proc/self/fd | wc -l;"
    " cat /proc/self/limits /proc/self/oom_score_adj /proc/self/cgroup; cut -d' ' -f5-6,8- /proc/self/mountinfo | sort;"
    " for n in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$n | cut -d: -f1; done; readlink /proc/self/ns/net;"
    " grep -v -E '^(Pid|Ngid|Tgid|PPid|NS|Vm|Rss|Hugetlb|Threads|.*_ctxt_switches|SigQ|Cpus|Mems|Speculation|x86_)' /proc/self/status;"
    " ls -lR /dev | sed -E 's/ [A-Z][a-z]+ +[0-9]+ [0-9:]+ / /'; find / -xdev | sort; cat /a/file /f /sub/x; echo $$; echo THE END"
)
MOUNTS = (
    Mount(host_path="{0}", container_path="/a"),
    Mount(host_path="{0}", container_path="/b/c", readonly=True),
    Mount(
        host_path="{0}",
        container_path="/r",
        recursive_readonly=True,
        propagation=Propagation.HOST_TO_CONTAINER,
    ),
    Mount(host_path="{0}/file", container_path="/f", readonly=True),
    Mount(host_path="{0}/file", container_path="/etc/passwd"),  # over a file of the image's
    Mount(host_path="{0}", container_path="/sub", sub_path="deep/er"),
    Mount(host_path="{0}", container_path="/dev/own", propagation=Propagation.BIDIRECTIONAL),
)
SPECS = {
    "plain": {},
    "mounts": {"mounts": MOUNTS},
    "user": {
        "security": Security(run_as_user=1000, run_as_group=2000, no_new_privs=True, supplemental_groups=(4000,)),
        "working_dir": "/new/one",
    },
    "privileged": {"security": Security(privileged=True)},
    "few rights": {
        "security": Security(
            readonly_rootfs=True, drop_capabilities=("ALL",), add_capabilities=("CHOWN",), seccomp=SeccompMode.UNCONFINED
        ),
    },
    "limits": {
        "resources": Resources(memory_limit=64 << 20, cpu_shares=512, cpu_quota=50000, cpu_period=100000, pids_limit=50),
        "rlimits": (("RLIMIT_NOFILE", 64, 64),),
    },
    "stdin": {"stdin": True},
}  # fmt: skip


def _roots(node) -> str:
    """Where the tests' own prepared roots are: on the file system of containers' storage, which temporary files may not be on."""
    return f"{node.instance.state_dir}/roots"


@asynccontextmanager
async def sandbox_of(node, logs: str) -> AsyncIterator[tuple[Parts, SandboxRecord]]:
    """A sandbox whose containers log to *logs*."""
    parts = Parts(node)
    parts.containers.roots = PreparedRoots(_roots(node), parts.containers.trash)
    parts.containers.roots.keep(1)
    parts.supervisor.connect()
    await parts.supervisor.request("subscribe")
    made = await parts.sandboxes.run(sandbox_spec(logs=logs))
    try:
        yield parts, parts.state.sandbox(made)
    finally:
        await parts.sandboxes.remove(made)
        await parts.containers.roots.close()
        parts.supervisor.close()
        parts.close()


async def said(
    parts: Parts, sandbox: SandboxRecord, spec: ContainerSpec, fault: str = ""
) -> tuple[str, bool]:
    """Return what a container says, and whether it was made without an interpreter; *fault*: where its set-up fails."""
    made = await parts.containers.create(sandbox, spec, "", fail_at=fault)
    try:
        known = parts.state.container(made)
        maps = await asyncio.to_thread(Path(f"/proc/{known.pid}/maps").read_text, "ascii")
        await parts.containers.start(known)
        log = Path(known.record.log_path)
        await asyncio.to_thread(
            eventually, lambda: log.exists() and "THE END" in log.read_text("utf-8")
        )
        lines = log.read_text("utf-8").splitlines()
    finally:
        await parts.containers.remove(made)
    log.unlink()
    words = "\n".join(line.split(" ", 3)[3] for line in lines)
    return re.sub(r"/\S*/[0-9a-f]{32}", "ID", words), "python" not in maps


@pytest.mark.parametrize("name", list(SPECS))
def test_a_container_is_the_same_by_both_ways(node, tmp_path, name: str) -> None:
    """Excluded: numbers of processes, numbers and so the order of mounts. A fault that never comes asks for the long way."""
    volume = tmp_path / "volume"
    (volume / "deep" / "er").mkdir(parents=True)
    (volume / "file").write_text("a file")
    (volume / "deep" / "er" / "x").write_text("x")
    asked = SPECS[name]
    mounts = tuple(
        replace(m, host_path=m.host_path.format(volume)) for m in asked.get("mounts", ())
    )
    spec = ContainerSpec(
        name="c", image="busybox", command=("sh", "-c", SHOW), log_path="c.log", envs=(("A", "b c"),),
        **{**asked, "mounts": mounts},
    )  # fmt: skip

    async def both() -> list[tuple[str, bool]]:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            # Twice by the short way: the second one finds its calls written down. And twice with a root that was mounted before.
            found = [await said(parts, sandbox, spec) for _ in range(2)]
            for _ in range(2):
                assert await parts.containers.roots.more()
                found.append(await said(parts, sandbox, spec))
                assert not os.listdir(_roots(node))  # it was taken
            return [*found, await said(parts, sandbox, spec, "nothing")]

    *short, long = asyncio.run(both())
    assert short == [(long[0], True)] * 4
    assert not long[1]
    assert re.search(r"^NoNewPrivs:\s" + ("1" if name == "user" else "0"), long[0], re.MULTILINE)


def test_what_the_short_way_can_not_do_the_long_one_does(node, tmp_path) -> None:
    """A path of a volume that is to be made, a file of /proc; the next one takes the short way again."""
    (tmp_path / "v").mkdir()
    more = (
        {"mounts": (Mount(host_path=f"{tmp_path}/v", container_path="/s", sub_path="to/be/made"),)},
        {"mounts": (Mount(host_path="/proc/uptime", container_path="/proc/uptime"),)},
        {},
    )
    base = ContainerSpec(
        name="c", image="busybox", command=("sh", "-c", "pwd; ls -d /s; echo THE END"), log_path="c.log"
    )  # fmt: skip

    async def all_of_them() -> list[tuple[str, bool]]:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            made = []
            for asked in (*more, *more):  # with a root that waits, from the second one on
                made.append(await said(parts, sandbox, replace(base, **asked)))
                await parts.containers.roots.more()
                shutil.rmtree(tmp_path / "v" / "to", ignore_errors=True)
            return made

    (mounted, _), *_ = made = asyncio.run(all_of_them())
    assert "/s\n" in mounted
    assert [bare for _, bare in made] == [False, False, True] * 2


@pytest.mark.parametrize("fault", ["", "nothing"])
def test_the_mounts_of_an_ended_container_go_behind_its_end(node, tmp_path, fault: str) -> None:
    """By both ways: while somebody has its mount namespace, its process need not unmount it. Nothing else is left of it by then."""
    spec = ContainerSpec(name="c", image="busybox", command=("true",))

    def held() -> list[str]:
        links = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # that of the listing
                links.append(os.readlink(f"/proc/self/fd/{fd}"))
        return [link for link in links if link.startswith("mnt:")]

    async def run() -> None:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            made = await parts.containers.create(sandbox, spec, "", fail_at=fault)
            known = parts.state.container(made)
            own = os.readlink(f"/proc/{known.pid}/ns/mnt")
            assert held() == [own]
            await parts.containers.start(known)
            await known.ended.wait()
            assert held() == [own]
            await parts.containers.remove(made)
            while held():  # noqa: ASYNC110 a thread closes it
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize("fault", ["", "nothing"])
def test_a_profile_that_can_not_be_entered_is_told_alike(node, tmp_path, fault: str) -> None:
    """The first thing that a child may fail at, before it has closed what it does not need. Without AppArmor there is no profile at all."""
    spec = ContainerSpec(name="c", image="busybox", security=Security(apparmor="nobody-has-it"))

    async def create() -> SetupFailed:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            with pytest.raises(SetupFailed) as caught:
                await parts.containers.create(sandbox, spec, "", fail_at=fault)
            return caught.value

    assert "AppArmor" in str(asyncio.run(create()))


@pytest.mark.parametrize(
    ("command", "number", "detail"),
    [
        pytest.param("nosuch", errno.ENOENT, "executable file not found in $PATH", id="in no directory"),
        pytest.param("/no/such", errno.ENOENT, "no such file or directory", id="named, missing"),
        pytest.param("/etc/passwd", errno.EACCES, "permission denied", id="not executable"),
        pytest.param("/v/broken", errno.ENOEXEC, "exec format error", id="no program"),
        pytest.param("/v/lost", errno.ENOENT, "no such file or directory", id="no interpreter"),
        pytest.param("/tmp", errno.EACCES, "permission denied", id="a directory"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("fault", ["", "nothing"])
def test_what_can_not_be_executed_is_told_alike(
    node, tmp_path, command: str, number: int, detail: str, fault: str
) -> None:
    for name, content in (("broken", "\1\2\3\4"), ("lost", "#!/no/interpreter\n")):
        (tmp_path / name).write_text(content)
        (tmp_path / name).chmod(0o755)
    spec = ContainerSpec(
        name="c", image="busybox", command=(command,), mounts=(Mount(host_path=str(tmp_path), container_path="/v"),)
    )  # fmt: skip

    async def start() -> SetupFailed:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            made = await parts.containers.create(sandbox, spec, "", fail_at=fault)
            try:
                with pytest.raises(SetupFailed) as caught:
                    await parts.containers.start(parts.state.container(made))
            finally:
                await parts.containers.remove(made)
            return caught.value

    error = asyncio.run(start())
    assert (error.step, error.errno, error.subject, error.detail) == (
        "exec",
        number,
        command,
        detail,
    )


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"envs": (("A", "b\0c"),)}, id="a value with a null byte"),
        pytest.param({"envs": (("", "c"),)}, id="a variable without a name"),
        pytest.param({"args": ("\0",)}, id="a word with a null byte"),
        pytest.param({"working_dir": "/tmp\0/x"}, id="a path with a null byte"),
    ],
)
def test_what_the_kernel_would_read_in_part_is_refused_by_both_ways(node, tmp_path, asked) -> None:
    """A program of calls holds it, and execve(2) reads up to the null byte."""
    spec = ContainerSpec(name="c", image="busybox", command=("true",), **asked)

    async def create_and_start() -> None:
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            made = await parts.containers.create(sandbox, spec, "")
            try:
                await parts.containers.start(parts.state.container(made))
            finally:
                await parts.containers.remove(made)

    with pytest.raises(SetupFailed, match=r"null byte|illegal environment variable name"):
        asyncio.run(create_and_start())


ESCAPE = """
import os, time
root = os.open("/", os.O_RDONLY)
open("/tmp/mark", "w").close()
os.mkdir("/tmp/trap")
os.chroot("/tmp/trap")
os.fchdir(root)
for _ in range(64):
    os.chdir("..")
os.chroot(".")
print("ours:", os.path.exists("/tmp/mark"), flush=True)
time.sleep(1000)
"""


def test_nothing_is_behind_the_root(node) -> None:
    """chroot(2) tells how one leaves a root that is only that; a container's is mounted over all there is, and leads to itself."""
    container, volumes = python(ESCAPE)
    node.pod("escape", container, volumes=volumes)
    try:
        assert node.await_log("escape", "ours:") == "ours: True\n"
    finally:
        node.delete("escape")


def test_a_container_that_finds_no_descriptors_is_refused_and_takes_none(node, tmp_path) -> None:
    """The supervisor has room for none, for one, and so on: it tells, lives, and forgets the container."""
    supervisor = node.status()["supervisor_pid"]
    services = children(supervisor)
    limits = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)

    def held() -> set[int]:
        return set(map(int, os.listdir(f"/proc/{supervisor}/fd")))

    async def main() -> list[bool]:
        done = []
        async with sandbox_of(node, str(tmp_path)) as (parts, sandbox):
            spec = ContainerSpec(name="c", image="busybox", command=("sleep", "1000"))
            await parts.containers.remove(await parts.containers.create(sandbox, spec, ()))
            before = held()
            missing = sorted(set(range(1000)) - before)
            for room in range(10):
                resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (missing[room], limits[1]))
                try:
                    made = await parts.containers.create(sandbox, spec, ())
                    await parts.containers.remove(made)
                    done.append(True)
                except MinipodError:
                    done.append(False)
                finally:
                    resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limits)
                assert not parts.state.containers
                await asyncio.to_thread(eventually, lambda: held() == before)
                await asyncio.to_thread(eventually, lambda: not children(supervisor) - services)
                made = await parts.containers.create(sandbox, spec, ())
                await parts.containers.remove(made)
        return done

    done = asyncio.run(main())
    assert (done[0], done[-1]) == (False, True)
    assert node.status()["supervisor_pid"] == supervisor

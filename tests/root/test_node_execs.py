"""An exec by the short way, a child without an interpreter: what it is when it is born, and that it becomes what the long way makes."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess

import pytest

from tests.node import eventually, sleeper
from tests.parked import children, descriptors, exec_by_the_long_way, parked_exec
from tests.strace import needs_strace, slowed

SHOW = (
    "id; pwd; umask; env | sort; ls /proc/self/fd | wc -l; cat /proc/self/limits /proc/self/oom_score_adj; cat /proc/1/cgroup;"
    " cat /proc/self/cgroup; for n in cgroup ipc mnt net pid uts user; do readlink /proc/self/ns/$n; done;"
    " grep -v -E '^(Pid|Ngid|Tgid|PPid|NS|Vm|Rss|Hugetlb|Threads|.*_ctxt_switches|SigQ|Cpus|Mems|Speculation|x86_)' /proc/self/status;"
    " cut -d' ' -f6 /proc/$$/stat | grep -c -x $$; [ -t 0 ] || echo no tty"
)
CONTEXTS = {
    "root": {},
    "user": {"runAsUser": 1000, "runAsGroup": 2000, "allowPrivilegeEscalation": False},
    "few": {"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}, "seccompProfile": {"type": "Unconfined"}},
}  # fmt: skip


def namespaces(pid: int) -> dict[str, str]:
    return {
        kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in ("mnt", "net", "ipc", "uts", "pid")
    }


@pytest.mark.parametrize("context", list(CONTEXTS))
def test_an_exec_is_the_same_by_both_ways(node, pods, context: str) -> None:
    """Excluded: numbers of processes."""
    pods.append("both")
    more = {"fsGroup": 3000, "supplementalGroups": [4000]}
    pod = node.pod(
        "both",
        sleeper(
            securityContext=CONTEXTS[context],
            workingDir="/a/b",
            env=[{"name": "A", "value": "b c"}],
        ),
        securityContext=more,
    )
    container = node.containers(pod)["app"]["id"]
    short = node.exec("both", "sh", "-c", SHOW)
    long = exec_by_the_long_way(node, container, "sh", "-c", SHOW)
    assert short == long
    assert re.search(r"^Seccomp:\s*" + ("0" if context == "few" else "2"), short, re.MULTILINE)
    assert "uid=1000 gid=2000" in short or context != "user"


@needs_strace
def test_an_exec_is_born_where_it_belongs_and_with_no_memory_of_ours(node, pods) -> None:
    """Before its first call. /proc/PID/net and mountinfo are for everybody who sees it."""
    pods.append("born")
    pid = node.containers(node.pod("born", sleeper()))["app"]["pid"]
    supervisor = node.status()["supervisor_pid"]
    before = children(supervisor)
    with slowed(supervisor, "close_range", 0.7):
        client = subprocess.Popen([*node.command, "exec", "born", "--", "true"])
        (child,) = eventually(lambda: children(supervisor) - before)
        assert namespaces(child) == namespaces(pid)
        with open(f"/proc/{child}/maps", encoding="ascii") as f:
            names = [" ".join(line.split()[5:]) for line in f]
        assert client.wait() == 0
    assert names.count("") <= 2, names  # the code, and the program
    assert set(names) <= {"", "[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]"}


@needs_strace
def test_who_debugs_a_container_meets_no_exec_with_what_is_ours(node, pods) -> None:
    """It has CAP_SYS_PTRACE, which its target has not: the target's execs take the long way from then on."""
    pods.append("met")
    node.pod("met", sleeper())
    debug = ["debug", "met", "--image=busybox:1.36", "--target=app", "-c", "tools", "--"]
    node.run(*debug, "sh", "-c", "echo begun; sleep 1000")
    eventually(lambda: "begun" in node.run("logs", "met", "-c", "tools", check=False).stdout)
    supervisor = node.status()["supervisor_pid"]
    before = children(supervisor)
    with slowed(supervisor, "close_range", 0.3):
        client = subprocess.Popen([*node.command, "exec", "met", "-c", "app", "--", "true"])
        (child,) = eventually(lambda: children(supervisor) - before)
        with open(f"/proc/{child}/maps", encoding="ascii") as f:
            assert "python" in f.read()  # it joins no namespace before it has closed what is ours
        assert client.wait() == 0


@needs_strace
def test_who_comes_to_debug_a_container_meets_no_exec_that_was_stopped_on_its_way(
    node, pods
) -> None:
    """Its own processes may stop it right after its birth, when it still has what is ours. It begins anew, by the long way."""
    pods.append("stopped")
    node.pod("stopped", sleeper())
    supervisor = node.status()["supervisor_pid"]
    before = children(supervisor)
    with slowed(supervisor, "close_range", 2):
        client = subprocess.Popen(
            [*node.command, "exec", "stopped", "-c", "app", "--", "echo", "done"], stdout=subprocess.PIPE, text=True
        )  # fmt: skip
        (child,) = eventually(lambda: children(supervisor) - before)
        os.kill(child, signal.SIGSTOP)
    debug = ["debug", "stopped", "--image=busybox:1.36", "--target=app", "-c", "tools", "--"]
    node.run(*debug, "sh", "-c", "echo begun; sleep 1000")
    eventually(lambda: "begun" in node.run("logs", "stopped", "-c", "tools", check=False).stdout)
    assert not os.path.exists(f"/proc/{child}")
    assert client.communicate(timeout=60)[0] == "done\n"


def test_what_the_short_way_can_not_do_is_told_by_the_long_one(node, pods) -> None:
    """A command that is not there, one that is no program, a directory that went away; each after a try that left nothing."""
    pods.append("odd")
    node.pod("odd", sleeper(workingDir="/work"))
    supervisor = node.status()["supervisor_pid"]
    node.exec("odd", "true")  # the first one opens what the others have, too
    before = descriptors(supervisor)
    fails = [node.run("exec", "odd", "--", name, check=False) for name in ("nosuch", "/etc", "./x")]
    assert "executable file not found" in fails[0].stderr
    assert "permission denied" in fails[1].stderr
    assert all(failed.returncode != 0 for failed in fails)
    node.exec("odd", "sh", "-c", "printf 'echo it ran' > /work/x; chmod +x /work/x")
    assert "exec format error" in node.run("exec", "odd", "--", "./x", check=False).stderr
    node.exec("odd", "sh", "-c", "rm -r /work")
    assert "chdir /work" in node.run("exec", "odd", "--", "true", check=False).stderr
    assert eventually(lambda: len(descriptors(supervisor)) == len(before))


@pytest.mark.parametrize("command", [["true"], ["nosuch"], ["sleep", "0.3"]])
def test_an_exec_that_finds_no_descriptors_is_refused_and_takes_none(node, pods, command) -> None:
    """The supervisor has room for none, for one, and so on, on each of the ways: it tells, lives, and forgets the exec."""
    pods.append("room")
    node.pod("room", sleeper())
    node.exec("room", "true")
    supervisor = node.status()["supervisor_pid"]
    before = descriptors(supervisor)
    limits = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
    services, missing = children(supervisor), sorted(set(range(1000)) - before)
    codes = []
    for room in range(15):
        resource.prlimit(supervisor, resource.RLIMIT_NOFILE, (missing[room], limits[1]))
        try:
            codes.append(node.run("exec", "room", "--", *command, check=False).returncode)
        finally:
            resource.prlimit(supervisor, resource.RLIMIT_NOFILE, limits)
        assert node.status()["supervisor_pid"] == supervisor
        node.exec("room", "true")
        assert eventually(lambda: descriptors(supervisor) == before)
        eventually(lambda: not children(supervisor) - services)
    assert codes[0] != 0
    assert command == ["nosuch"] or codes[-1] == 0


def test_an_exec_can_be_killed_before_it_has_a_process(node, pods) -> None:
    """Its first process hangs outside of the container; who asked hears of both (`parked_exec`)."""
    pods.append("early")
    container = node.containers(node.pod("early", sleeper()))["app"]["id"]
    supervisor = node.status()["supervisor_pid"]
    before = children(supervisor)
    with parked_exec(node, container, "JoinContainer"):
        assert children(supervisor) != before
    assert eventually(lambda: children(supervisor) == before)
    node.exec("early", "true")


def test_what_execs_keep_open_goes_with_their_container(node, pods) -> None:
    node.pod("before", sleeper())
    node.exec("before", "true")  # what the first one opens for all
    node.run("delete", "pod", "before", "--now")
    supervisor = node.status()["supervisor_pid"]
    before = descriptors(supervisor)
    pods.append("kept")
    node.pod("kept", sleeper())
    cgroups = node.exec("kept", "cat", "/proc/1/cgroup")
    for _ in range(3):
        assert node.exec("kept", "cat", "/proc/self/cgroup") == cgroups
    node.run("delete", "pod", "kept", "--now")
    assert eventually(lambda: len(descriptors(supervisor)) <= len(before))

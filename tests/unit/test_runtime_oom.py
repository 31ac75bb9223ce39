"""What the kernel's log says of an OOM kill (mm/oom_kill.c)."""

import pytest

from minipod.runtime.oom import OomKill, parse

HEAD = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/n/pod/c1,"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            HEAD + "task_memcg=/n/pod/c1,task=tail,pid=4242,uid=0",
            OomKill(cgroup="/n/pod/c1", process="tail", pid=4242),
        ),
        (
            HEAD + "task_memcg=/n/pod/c1,task=odd,pid=1,uid,pid=77,uid=1000",
            OomKill(cgroup="/n/pod/c1", process="odd,pid=1,uid", pid=77),
        ),
        ("Memory cgroup out of memory: Killed process 4242 (tail)", None),
        ("eth0: entered promiscuous mode", None),
    ],
)
def test_only_the_victims_line_counts(text, expected):
    assert parse(text) == expected

"""minipod run NAME --image: an image as a pod, attached or not; what is made is what kubectl's run makes."""

from __future__ import annotations

import pytest

from tests.person import visits

IMAGE = "--image=busybox:1.36"


def names(node) -> set[str]:
    pods = node.client.request("GET", "/api/v1/namespaces/default/pods")["items"]
    return {p["metadata"]["name"] for p in pods}


def test_a_pod_is_what_kubectl_makes_of_the_same_words(newest, node) -> None:
    """Excluded: a container's name, which is the pod's; what the API adds."""
    words = ("run", "same", IMAGE, "--env=A=b", "--port=80", "--labels=x=y", "--", "sleep", "1000")
    made = []
    for run in (lambda: node.run(*words), lambda: newest(*words)):
        run()
        pod = node.get("same")
        pod["spec"].pop("volumes")
        for container in pod["spec"]["containers"]:
            container.pop("volumeMounts")
        made.append((pod["metadata"]["labels"], pod["spec"]))
        node.delete("same")
    assert made[0] == made[1]


def test_what_is_attached_is_seen_through_and_removed(node) -> None:
    done = node.run(
        "run", "whole", IMAGE, "-i", "--rm", "--restart=Never", "--", "sh", "-c", "read x; echo got $x; exit 3",
        text="this\n", check=False,
    )  # fmt: skip
    assert done.returncode == 3
    assert done.stdout == 'got this\npod "whole" deleted\n'
    assert "whole" not in names(node)


def test_nothing_of_a_short_command_is_lost(node) -> None:
    done = node.run(
        "run", "short", IMAGE, "--attach", "--rm", "-q", "--restart=Never", "--", "echo", "short"
    )
    assert done.stdout == "short\n"


def test_a_command_may_end_at_any_time_and_is_heard_whole(node) -> None:
    """Before it is attached to, meanwhile, afterwards: each once, if not in this run, then in another."""
    for pause in ("0", "0.1", "0.3", "0.6"):
        script = f"echo a word; usleep {int(float(pause) * 1e6)}; echo and another"
        words = ("run", "brief", IMAGE, "-i", "--rm", "--restart=Never", "--", "sh", "-c", script)
        assert node.run(*words).stdout == 'a word\nand another\npod "brief" deleted\n'


def test_at_a_terminal(node) -> None:
    command = [*node.command, "run", "typed", IMAGE, "-it", "--rm", "--restart=Never", "--", "sh"]
    try:
        visits(command, b'"typed" deleted')
    finally:
        node.delete("typed")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param(["x", IMAGE, "--rm"], "only be used for attached", id="rm of what goes on"),
        pytest.param(["x", IMAGE, "-t"], "-i/--stdin is required", id="a terminal without stdin"),
        pytest.param(["x", IMAGE, "--env=A"], "'A' is not NAME=VALUE", id="env"),
        pytest.param(["X_", IMAGE], "metadata.name", id="name"),
    ],
)
def test_what_run_refuses(node, words, said) -> None:
    before = names(node)
    done = node.run("run", *words, check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
    assert names(node) == before

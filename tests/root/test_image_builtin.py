"""The built-in images do what their recipes say. Excluded: busybox, which nearly every test runs."""

from __future__ import annotations


def test_httpecho_turns_bad_and_good_when_it_is_told_to(node, pods):
    pods.append("echo")
    probe = {
        "httpGet": {"path": "/healthz", "port": 8080},
        "periodSeconds": 1,
        "failureThreshold": 1,
    }
    image = {"name": "app", "image": "minipod/httpecho", "readinessProbe": probe}
    node.pod("echo", image)
    turn = "http://localhost:8080/cgi-bin/turn"
    assert node.exec("echo", "wget", "-qO-", f"{turn}?bad") == "turned bad\n"
    node.wait("echo", "condition=Ready=false")
    assert node.exec("echo", "wget", "-qO-", f"{turn}?good") == "turned good\n"
    node.wait("echo", "condition=Ready")
    assert "GET /cgi-bin/echo" in node.exec(
        "echo", "wget", "-qO-", "http://localhost:8080/cgi-bin/echo"
    )


def test_pause_ends_at_once_when_it_is_asked_to(node, pods):
    pods.append("pause")
    node.pod(
        "pause",
        {"name": "app", "image": "registry.k8s.io/pause:3.9"},
        terminationGracePeriodSeconds=600,
    )
    node.run("delete", "pod", "pause")  # waits for its end, which would take longer than a test may

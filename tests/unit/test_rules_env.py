"""Where a container's variables come from, which wins, what they may refer to, and the words of errors."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from minipod.errors import InvalidSpec
from minipod.kubelet.rules import env
from minipod.kubelet.rules.pods import compile_pod

OBJECTS = {
    ("configmaps", "cm"): {"data": {"A": "cm-a", "B": "cm-b", "1bad": "x", "file.txt": "t"}},
    ("configmaps", "second"): {"data": {"A": "second-a"}},
    ("secrets", "s"): {"data": {"PASSWORD": base64.b64encode(b"hunter2").decode()}},
    ("configmaps", "gone"): None,
    ("secrets", "gone"): None,
}


def variables(
    env_list: list[Any] = (), env_from: list[Any] = (), **sources: Any
) -> env.Environment:
    container = {"name": "app", "image": "x", "env": list(env_list), "envFrom": list(env_from)}
    pod = compile_pod(
        {"metadata": {"name": "web", "namespace": "shop"}, "spec": {"containers": [container]}}
    )
    made = env.Sources(facts=env.NodeFacts(), objects=OBJECTS, **sources)
    return env.environment(pod, pod.containers[0], made)


def ref(kind: str, name: str, key: str, **more: Any) -> dict[str, Any]:
    return {"name": "X", "valueFrom": {kind: {"name": name, "key": key, **more}}}


def test_env_wins_over_env_from_and_later_over_earlier() -> None:
    found = variables(
        [{"name": "B", "value": "own"}, {"name": "C", "value": "$(A)-$(B)-$(PASSWORD)"}],
        [
            {"configMapRef": {"name": "cm"}},
            {"configMapRef": {"name": "second"}},
            {"secretRef": {"name": "s"}},
        ],
        links={"A": "link", "ONLY": "link"},
    ).variables
    assert found["A"] == "second-a"
    assert found["B"] == "own"
    assert found["C"] == "second-a-own-hunter2"
    assert found["ONLY"] == "link"


def test_a_prefix_stands_before_every_name_and_makes_a_bad_one_good() -> None:
    found = variables([], [{"prefix": "P_", "configMapRef": {"name": "cm"}}])
    assert set(found.variables) == {"P_A", "P_B", "P_1bad", "P_file.txt"}
    assert found.skipped == ()


def test_invalid_names_are_skipped_and_told() -> None:
    found = variables([], [{"configMapRef": {"name": "cm"}}])
    assert "1bad" not in found.variables
    assert found.skipped == (("configMap shop/cm", ("1bad",)),)


def test_keys_of_objects() -> None:
    assert variables([ref("configMapKeyRef", "cm", "A")]).variables == {"X": "cm-a"}
    assert variables([ref("secretKeyRef", "s", "PASSWORD")]).variables == {"X": "hunter2"}


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        (ref("configMapKeyRef", "gone", "A"), 'configmap "gone" not found'),
        (ref("secretKeyRef", "gone", "A"), 'secret "gone" not found'),
        (ref("configMapKeyRef", "cm", "Z"), "couldn't find key Z in ConfigMap shop/cm"),
        (ref("secretKeyRef", "s", "Z"), "couldn't find key Z in Secret shop/s"),
    ],
)
def test_what_is_missing_is_named_unless_optional(entry: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        variables([entry])
    assert caught.value.detail == words
    (kind,) = entry["valueFrom"]
    entry["valueFrom"][kind]["optional"] = True
    assert variables([entry]).variables == {}


def test_a_missing_source_of_env_from() -> None:
    with pytest.raises(InvalidSpec) as caught:
        variables([], [{"secretRef": {"name": "gone"}}])
    assert caught.value.detail == 'secret "gone" not found'
    assert variables([], [{"secretRef": {"name": "gone", "optional": True}}]).variables == {}


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("$(A)", "a"), ("$$(A)", "$(A)"), ("$(Z)", "$(Z)"), ("$A", "$A"), ("$(A", "$(A"), ("$$", "$"), ("", ""),
        ("$(A)$(A)", "aa"), ("$$$(A)", "$a"), ("x$", "x$"),
    ],
)  # fmt: skip
def test_expansion(text: str, wanted: str) -> None:
    assert env.expand(text, {"A": "a"}) == wanted


def test_a_file_of_variables() -> None:
    text = "# comment\nA=1\n\n B = 'two words' \nC=\"x=y\"\nnothing\n"
    assert env.parse_env_file(text) == {"A": "1", "B": "two words", "C": "x=y"}
    entry = {"name": "X", "valueFrom": {"fileKeyRef": {"volumeName": "v", "path": "e", "key": "A"}}}
    assert variables([entry], files={("v", "e"): {"A": "1"}}).variables == {"X": "1"}
    with pytest.raises(InvalidSpec, match="couldn't find key A in file e of volume v"):
        variables([entry])


def service(name: str, address: str, *ports: dict[str, Any]) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"clusterIP": address, "ports": list(ports)}}


def test_service_links_are_dockers() -> None:
    services = [
        service("redis-primary", "10.0.0.11", {"port": 6379, "protocol": "TCP", "name": "db-main"}, {"port": 53, "protocol": "UDP"}),
        service("headless", "None", {"port": 80}),
    ]  # fmt: skip
    found = env.service_links(services, None, enabled=True)
    assert found == {
        "REDIS_PRIMARY_SERVICE_HOST": "10.0.0.11",
        "REDIS_PRIMARY_SERVICE_PORT": "6379",
        "REDIS_PRIMARY_SERVICE_PORT_DB_MAIN": "6379",
        "REDIS_PRIMARY_PORT": "tcp://10.0.0.11:6379",
        "REDIS_PRIMARY_PORT_6379_TCP": "tcp://10.0.0.11:6379",
        "REDIS_PRIMARY_PORT_6379_TCP_PROTO": "tcp",
        "REDIS_PRIMARY_PORT_6379_TCP_PORT": "6379",
        "REDIS_PRIMARY_PORT_6379_TCP_ADDR": "10.0.0.11",
        "REDIS_PRIMARY_PORT_53_UDP": "udp://10.0.0.11:53",
        "REDIS_PRIMARY_PORT_53_UDP_PROTO": "udp",
        "REDIS_PRIMARY_PORT_53_UDP_PORT": "53",
        "REDIS_PRIMARY_PORT_53_UDP_ADDR": "10.0.0.11",
    }


def test_without_service_links_only_the_api_server_is_named() -> None:
    services = [service("web", "10.0.0.1", {"port": 80})]
    master = service("kubernetes", "10.0.0.9", {"port": 6443, "name": "https"})
    found = env.service_links(services, master, enabled=False)
    assert found["KUBERNETES_SERVICE_HOST"] == "10.0.0.9"
    assert found["KUBERNETES_SERVICE_PORT_HTTPS"] == "6443"
    assert not any(name.startswith("WEB_") for name in found)

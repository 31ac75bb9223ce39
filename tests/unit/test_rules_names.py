"""What a container finds in its environment, its resolv.conf and its hosts file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.errors import InvalidSpec
from minipod.kubelet.rules import dns, env
from minipod.spec.sandbox import DnsConfig
from tests.pods import pod


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$(A)", "1"),
        ("$$(A)", "$(A)"),
        ("$(X)", "$(X)"),
        ("$A $ $(", "$A $ $("),
        ("$$$(A)", "$1"),
        ("a$(A)b$(A)", "a1b1"),
    ],
)
def test_expansion(text, expected):
    assert env.expand(text, {"A": "1"}) == expected


@given(st.text(alphabet="abc(){} "))
def test_text_without_a_dollar_never_changes(text):
    assert env.expand(text, {"a": "1"}) == text


def test_env_sources():
    raw = {
        "name": "a0",
        "image": "x",
        "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}},
        "env": [
            {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "L", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {
                "name": "MEM",
                "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}},
            },
            {"name": "ALL", "value": "$(N)-$(L)-$(LATER)"},
            {"name": "LATER", "value": "x"},
        ],
    }
    subject = pod(containers=[raw], metadata={"labels": {"app": "shop"}})
    facts = env.NodeFacts(pod_ips=("10.0.0.9",))
    sources = env.Sources(facts=facts)
    found = env.environment(subject, subject.containers[0], sources).variables
    assert found == {
        "N": "web",
        "L": "shop",
        "IP": "10.0.0.9",
        "CPU": "2",
        "MEM": "64",
        "ALL": "web-shop-$(LATER)",
        "LATER": "x",
    }


def test_a_missing_config_map_is_named():
    source = {"configMapKeyRef": {"name": "settings", "key": "k"}}
    subject = pod(containers=[{"name": "a0", "env": [{"name": "K", "valueFrom": source}]}])
    with pytest.raises(InvalidSpec, match='configmap "settings" not found'):
        env.environment(subject, subject.containers[0], env.Sources(facts=env.NodeFacts()))


NODE_DNS = DnsConfig(servers=("192.0.2.1",), searches=("corp",), options=("edns0",))


@pytest.mark.parametrize(
    ("spec", "cluster", "expected", "warnings"),
    [
        pytest.param({}, (), NODE_DNS, ["MissingClusterDNS"], id="no-cluster-dns"),
        pytest.param(
            {},
            ("10.96.0.10",),
            DnsConfig(
                servers=("10.96.0.10",),
                searches=("ns.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp"),
                options=("ndots:5",),
            ),
            [],
            id="cluster-first",
        ),
        pytest.param({"hostNetwork": True}, ("10.96.0.10",), NODE_DNS, [], id="host-network"),
        pytest.param({"dnsPolicy": "Default"}, (), NODE_DNS, [], id="default"),
        pytest.param(
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"]}},
            (),
            DnsConfig(servers=("1.1.1.1",)),
            [],
            id="none",
        ),
        pytest.param(
            {"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1", "2", "3", "4"]}},
            (),
            DnsConfig(servers=("1", "2", "3")),
            ["DNSConfigForming"],
            id="too-many",
        ),
    ],
)
def test_dns(spec, cluster, expected, warnings):
    found = dns.pod_dns(pod(**spec), dns.Cluster(dns=cluster), NODE_DNS)
    assert found.config == expected
    assert [reason for reason, _ in found.warnings] == warnings


def test_hosts_file_has_the_fqdn_of_a_subdomain_and_the_aliases():
    subject = pod(subdomain="sub", hostAliases=[{"ip": "9.9.9.9", "hostnames": ["a", "b"]}])
    text = dns.hosts_file(subject, ("10.0.0.9",), "cluster.local", "")
    assert text.startswith("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n")
    assert "10.0.0.9\tweb.sub.ns.svc.cluster.local\tweb\n" in text
    assert text.endswith("\n# Entries added by HostAliases.\n9.9.9.9\ta\tb\n")


def test_a_long_pod_name_is_cut_to_a_host_name():
    subject = pod(metadata={"name": "a" * 62 + "-" + "b" * 9})
    assert dns.hostname(subject, "node", "cluster.local") == "a" * 62

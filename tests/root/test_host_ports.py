"""Host ports: who reaches a pod by a port of the node, and what that does not open."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import urllib.request

import pytest

from minipod.network.portmap import elements
from minipod.spec.sandbox import PortMapping
from tests.node import eventually, python, shell, sleeper
from tests.ports import free_port

ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("", 53))
while True:
    data, client = server.recvfrom(100)
    server.sendto(data.upper(), client)
"""


SCTP_ECHO = """
import socket
server = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP)
server.bind(("", 36412))
server.listen()
print("listening", flush=True)
while True:
    client, _ = server.accept()
    client.send(client.recv(100).upper())
    client.close()
"""


def serving(*ports: dict[str, object]):
    """A web server that is Ready when it listens, and not when its shell runs."""
    return shell(
        "mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www", ports=list(ports),
        readinessProbe={"tcpSocket": {"port": 80}, "periodSeconds": 1},
    )  # fmt: skip


@pytest.fixture
def port() -> int:
    """A port of the node that nobody uses."""
    return free_port()


def fetch(address: str, port: int) -> str:
    shown = f"[{address}]" if ":" in address else address
    with urllib.request.urlopen(f"http://{shown}:{port}/", timeout=20) as answer:
        return answer.read().decode().strip()


@pytest.mark.smoke
def test_a_port_of_the_node_leads_to_the_pod(node, pods, port: int) -> None:
    """From the node, by its loopback and by its own addresses of both families; from another pod; from the pod itself."""
    pods += ["web", "client"]
    node.pod("web", serving({"containerPort": 80, "hostPort": port}))
    node.pod("client", sleeper())
    v4, v6 = node.instance.gateways
    for address in ("127.0.0.1", v4, v6):
        assert fetch(address, port) == "page"
    with pytest.raises(OSError, match="refused"):  # at once, not after a time-out
        fetch("::1", port)
    for pod in ("client", "web"):
        get = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 20 {v4} {port} | tail -n 1"
        assert node.exec(pod, "sh", "-c", get) == "page\n"
    node.run("delete", "pod", "web", "--grace-period=1")
    with pytest.raises(OSError, match=r"refused|reset"):
        fetch("127.0.0.1", port)


def test_a_port_of_one_address_and_a_port_that_is_taken(node, pods, port: int) -> None:
    pods += ["local", "second"]
    node.pod("local", serving({"containerPort": 80, "hostPort": port, "hostIP": "127.0.0.1"}))
    assert fetch("127.0.0.1", port) == "page"
    with pytest.raises(OSError, match="refused"):
        fetch(node.instance.gateways[0], port)
    node.pod(
        "second", serving({"containerPort": 80, "hostPort": port}), wait="jsonpath={.status.phase}=Failed"
    )  # fmt: skip
    status = node.get("second")["status"]
    assert (status["reason"], status["message"]) == (
        "NodePorts",
        "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
    )


def test_a_pod_does_not_reach_the_nodes_loopback(node, pods, port: int) -> None:
    """CVE-2020-8558: route_localnet would let a pod send packets to 127.0.0.1 of the node."""
    pods += ["opens", "attacker"]
    node.pod("opens", serving({"containerPort": 80, "hostPort": port}))
    node.pod("attacker", sleeper(securityContext={"privileged": True}))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        secret = server.getsockname()[1]
        gateway = node.instance.gateways[0]
        script = (
            f"ip addr del 127.0.0.1/8 dev lo; ip route add 127.0.0.0/8 via {gateway};"
            f" nc -w 2 127.0.0.1 {secret} </dev/null && echo reached || echo blocked"
        )
        assert node.exec("attacker", "sh", "-c", f"({script}) 2>/dev/null").strip() == "blocked"
        server.settimeout(0.2)
        with pytest.raises(TimeoutError):
            server.accept()


def test_datagrams_come_through_and_are_answered(node, pods, port: int) -> None:
    pods.append("udp")
    container, volumes = python(ECHO)
    container["ports"] = [{"containerPort": 53, "hostPort": port, "protocol": "UDP"}]
    node.pod("udp", container, volumes=volumes)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(0.2)

        def answered() -> bytes:
            client.sendto(b"hello", (node.instance.gateways[0], port))
            with contextlib.suppress(TimeoutError):  # it may not listen yet
                return client.recv(100)
            return b""

        assert eventually(answered) == b"HELLO"


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])
def test_a_client_that_goes_on_sending_reaches_the_next_pod(node, pods, port: int, family) -> None:
    """Its flow led to nobody, then to a pod that is replaced: the kernel would remember both for as long as it sends."""
    address = node.instance.gateways[family == socket.AF_INET6]

    def echo(name: str) -> None:
        script = ECHO.replace("AF_INET", family.name).replace("data.upper()", f"{name!r}.encode()")
        container, volumes = python(script)
        container["ports"] = [{"containerPort": 53, "hostPort": port, "protocol": "UDP"}]
        pods.append(name)
        node.pod(name, container, volumes=volumes)

    def answered(client: socket.socket) -> bytes:
        client.send(b"who")
        with contextlib.suppress(OSError):  # nobody there, or not yet
            return client.recv(100)
        return b""

    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.connect((address, port))
        client.settimeout(0.1)
        assert answered(client) == b""
        echo("first")
        eventually(lambda: answered(client) == b"first")
        node.run("delete", "pod", "first", "--grace-period=1")
        echo("second")
        # answers of the first may be on their way
        eventually(lambda: answered(client) == b"second")


def test_ports_survive_a_new_daemon(node, pods, port: int) -> None:
    pods.append("stays")
    node.pod("stays", serving({"containerPort": 80, "hostPort": port}))
    node.run("down", "--keep-pods")
    assert fetch("127.0.0.1", port) == "page"
    node.run("up")
    assert fetch("127.0.0.1", port) == "page"


def test_ports_come_back_with_the_next_one_when_somebody_flushed_the_rules(node, pods, port: int) -> None:  # fmt: skip
    """Restarting nftables.service does that."""
    pods.extend(["first", "second"])
    node.pod("first", serving({"containerPort": 80, "hostPort": port}))
    subprocess.run(["nft", "delete", "table", "inet", f"{node.instance.nft_table}-ports"], check=True)  # fmt: skip
    another = free_port()
    node.pod("second", serving({"containerPort": 80, "hostPort": another}))
    assert fetch("127.0.0.1", port) == "page"
    assert fetch("127.0.0.1", another) == "page"


@pytest.mark.parametrize("how", ["delete table inet {}", "flush table inet {}"])
def test_rules_that_somebody_deletes_come_back(node, pods, port: int, how: str) -> None:
    """`nft flush ruleset` does that to all tables; the kernel tells of it."""
    pods.append("kept")
    node.pod("kept", serving({"containerPort": 80, "hostPort": port}))
    table = node.instance.nft_table

    def rules(name: str) -> list[str]:
        listed = ["nft", "--stateless", "list", "table", "inet", name]
        return subprocess.run(listed, capture_output=True, text=True, check=False).stdout.split()

    before = {name: rules(name) for name in (table, f"{table}-ports")}
    assert "masquerade" in before[table]
    for name in before:
        subprocess.run(["nft", *how.format(name).split()], check=True)
    eventually(lambda: {name: rules(name) for name in before} == before)
    assert fetch("127.0.0.1", port) == "page"


def test_bandwidth_is_limited_in_both_directions(node, pods) -> None:
    pods.append("slow")
    limits = {"kubernetes.io/ingress-bandwidth": "8M", "kubernetes.io/egress-bandwidth": "4M"}
    made = node.pod("slow", sleeper(), annotations=limits)
    pid = node.containers(made)["app"]["pid"]
    show = ["nsenter", "-t", str(pid), "-n", "tc", "qdisc", "show", "dev", "eth0"]
    text = subprocess.run(show, check=True, capture_output=True, text=True).stdout
    assert "qdisc tbf" in text
    assert "rate 4Mbit" in text
    host = subprocess.run(
        ["tc", "qdisc", "show"], check=True, capture_output=True, text=True
    ).stdout
    mine = [
        line for line in host.splitlines() if node.instance.link_prefix in line and "tbf" in line
    ]
    assert any("rate 8Mbit" in line for line in mine)


@pytest.mark.smoke
@pytest.mark.requires("sctp")
def test_an_sctp_port_of_the_node_leads_to_the_pod(node, pods, port: int) -> None:
    """In the VM's kernel, where this machine's has none."""
    pods.append("sctp")
    container, volumes = python(SCTP_ECHO)
    container["ports"] = [{"containerPort": 36412, "hostPort": port, "protocol": "SCTP"}]
    node.pod("sctp", container, volumes=volumes)
    node.await_log("sctp", "listening")
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_SCTP) as client:
        client.settimeout(60)
        client.connect((node.instance.gateways[0], port))
        client.send(b"word")
        assert client.recv(100) == b"WORD"


def test_every_protocol_and_family_is_mapped() -> None:
    made = [
        PortMapping(protocol=p, container_port=80, host_port=8080) for p in ("TCP", "UDP", "SCTP")
    ]
    found = elements(("10.0.0.2", "fd00::2"), made)
    assert ("any4", "sctp . 8080", "10.0.0.2 . 80") in found
    assert ("any6", "udp . 8080", "fd00::2 . 80") in found
    assert len(found) == 6
    one = [PortMapping(protocol="TCP", container_port=80, host_port=8080, host_ip="::")]
    assert elements(("10.0.0.2", "fd00::2"), one) == [("any6", "tcp . 8080", "fd00::2 . 80")]

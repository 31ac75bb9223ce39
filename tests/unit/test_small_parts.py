"""Pure parts: log format, cgroup files, seccomp program, settings, tables, patches, generated pages."""

from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
from contextlib import nullcontext

import pytest

from minipod import config
from minipod.apiserver import table
from minipod.apiserver.kinds import pod_printer
from minipod.cgroups.resources import cpu_weight, v2_settings
from minipod.cli import websocket
from minipod.errors import InvalidSpec, NotFound, Unavailable
from minipod.kubelet import environment
from minipod.linux import bpf, credentials, seccomp
from minipod.linux.syscalls import table as syscalls
from minipod.network import routes
from minipod.runtime.logs import Decoder, LogOptions
from minipod.spec.codec import dumps, loads
from minipod.spec.container import ContainerSpec, Mount, Resources
from minipod.spec.instance import Instance
from minipod.supervisor.logfile import LINE_MAX, format_lines, has_long_line
from minipod.testing.docs import HERE, pages


@pytest.mark.parametrize("name", pages())
def test_a_generated_page_is_current(name: str) -> None:
    with open(f"{HERE}/docs/{name}", encoding="utf-8") as f:
        assert f.read() == pages()[name], "run scripts/docs"


# -- logs


def test_lines_become_records_and_the_rest_waits() -> None:
    assert format_lines(b"stdout", b"a\n\nb", b"T") == (b"T stdout F a\nT stdout F \n", b"b")


def test_a_long_line_comes_in_parts_and_reads_back_whole() -> None:
    line = b"x" * (2 * LINE_MAX + 5)
    records, rest = format_lines(b"stdout", line + b"\n", b"T")
    assert [r.split(b" ", 3)[2] for r in records.splitlines()] == [b"P", b"P", b"F"]
    assert rest == b""
    assert Decoder(LogOptions()).feed(records) == line + b"\n"


def test_a_reader_honours_limit_and_since() -> None:
    text = b"2026-01-01T00:00:00Z stdout F old\n2026-01-02T00:00:00Z stdout F new\n"
    assert Decoder(LogOptions(since="2026-01-02")).feed(text) == b"new\n"
    assert Decoder(LogOptions(limit_bytes=2)).feed(text) == b"ol"


# -- cgroups, seccomp, devices


@pytest.mark.parametrize(
    ("shares", "weight"), [(2, 1), (102, 17), (256, 35), (512, 59), (1024, 100), (262144, 10000)]
)
def test_cpu_weight_follows_the_newer_formula(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


def test_v2_writes_quota_and_period_together() -> None:
    files = {s.file: s.value for s in v2_settings(Resources(cpu_quota=-1, memory_limit=4096))}
    assert files["cpu.max"] == "max 100000"
    assert files["memory.max"] == "4096"


def interpret(program: bytes, number: int, arch: int, argument: int = 0) -> int:
    """Run a seccomp program as the kernel would: the classic BPF that we emit, and no more."""
    data = struct.pack("<IIQQQQQQQ", number, arch, 0, argument, 0, 0, 0, 0, 0)
    instructions = [struct.unpack_from("<HBBI", program, i) for i in range(0, len(program), 8)]
    accumulator, at = 0, 0
    while True:
        code, yes, no, k = instructions[at]
        at += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("<I", data, k)[0]
            case 0x05:
                at += k
            case 0x06:
                return k
            case _:
                test = {
                    0x15: accumulator == k,
                    0x35: accumulator >= k,
                    0x45: bool(accumulator & k),
                }[code]
                at += yes if test else no


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_call_gets_the_answer_of_the_profile(machine: str) -> None:
    capabilities = frozenset(credentials.DEFAULT)
    program = seccomp.compile_profile(capabilities, machine)
    allowed = seccomp.decisions(capabilities)
    for name, number in syscalls(machine).items():
        got = interpret(program, number, seccomp.AUDIT_ARCH[machine])
        wanted = seccomp.DENY if name not in allowed else interpret_body(allowed[name])
        assert got == wanted, name
    newer = interpret(program, max(syscalls(machine).values()) + 1, seccomp.AUDIT_ARCH[machine])
    assert newer == seccomp.RET_ERRNO | errno.ENOSYS


def interpret_body(body: tuple[tuple[int, int, int, int], ...]) -> int:
    return interpret(b"".join(struct.pack("<HBBI", *i) for i in body), 0, 0)


def test_namespaces_by_clone_and_a_foreign_architecture_are_refused() -> None:
    program = seccomp.compile_profile(frozenset(credentials.DEFAULT), "x86_64")
    arch = seccomp.AUDIT_ARCH["x86_64"]
    clone = syscalls("x86_64")["clone"]
    assert interpret(program, clone, arch, 0x10000000) == seccomp.DENY
    assert interpret(program, clone, arch, 0x11) == seccomp.RET_ALLOW
    assert interpret(program, 1, 0x40000003) == seccomp.RET_KILL_PROCESS
    assert interpret(program, 0x40000001, arch) == seccomp.DENY


def test_a_device_program_ends_in_a_denial() -> None:
    program = bpf.device_program((("c", 1, 3, "rwm"),))
    assert len(program) % 8 == 0
    assert program.endswith(
        struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    )


# -- specs, settings


def test_a_spec_survives_json() -> None:
    spec = ContainerSpec(
        name="a",
        image="b",
        mounts=(Mount(host_path="/x", container_path="/y"),),
        envs=(("A", "1"),),
    )
    assert loads(ContainerSpec, dumps(spec)) == spec


def test_a_record_with_an_unknown_field_is_refused() -> None:
    with pytest.raises(InvalidSpec, match="unknown fields"):
        loads(Mount, b'{"host_path":"/","container_path":"/","new":1}')


def test_settings_say_where_they_are_from(tmp_path) -> None:
    file = tmp_path / "minipod.toml"
    file.write_text('node_name = "lab"\n[instance.two]\nsubnet4 = "10.99.0.0/16"\n')
    loaded = config.load(str(file))
    assert (loaded.instance.node_name, loaded.sources["node_name"]) == ("lab", str(file))
    assert config.load(str(file), name="two").instance.subnet4 == "10.99.0.0/16"


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("subnet = 'x'", ": unknown setting 'subnet'", "did you mean subnet6?"),
        ("xyz = 1", ": unknown setting 'xyz'", "known: allowed_unsafe_sysctls, api_addresses, "),
        ("name = 'two'", ": unknown setting 'name'", "chosen by --instance"),
        ("max_pods = '9'", ": max_pods: '9' is not a whole number", ""),
        ("max_pods = true", ": max_pods: True is not a whole number", ""),
        ("image_devices = 0", ": image_devices: 0 is not true or false", ""),
        ("cluster_dns = '192.0.2.1'", ": cluster_dns: '192.0.2.1' is not a list of texts", ""),
        ("cluster_dns = [1]", ": cluster_dns: [1] is not a list of texts", ""),
        ("node_name = 5", ": node_name: 5 is not a text", ""),
        ("setup_deadline = '1m'", ": setup_deadline: '1m' is not a number", ""),
        ("prepared_sandboxes = 101", ": prepared_sandboxes: 101 is not a number from 0 to 100", ""),
        ("state_root = 'lib'", ": state_root: 'lib' is not an absolute path", ""),
        ("setup_deadline = -5", ": setup_deadline: -5.0 is less than 0.1", ""),
        ("log_max_files = 0", ": log_max_files: 0 is less than 1", ""),
        ("max_pods = -1", ": max_pods: -1 is less than 0", ""),
        ("node_name = 'My Node'", ": node_name: 'My Node' is not a DNS name in lower case", ""),
        ("cluster_dns = ['dns']", ": cluster_dns: 'dns' is not an IP address", ""),
        ("api_addresses = ['a.b']", ": api_addresses: 'a.b' is not an IP address", ""),
        ("reserved_cpu = 'much'", ": reserved_cpu: 'much' is not a quantity", "500m"),
        ("reserved_memory = '-1Gi'", ": reserved_memory: '-1Gi' is not a quantity", "1Gi"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path, text: str, words: str, hint: str) -> None:
    file = tmp_path / "minipod.toml"
    file.write_text(f"{text}\n")
    with pytest.raises(InvalidSpec) as caught:
        config.load(str(file))
    assert caught.value.message == f"{file}{words}"
    assert hint in caught.value.hint


def test_a_number_of_seconds_may_be_whole(tmp_path) -> None:
    file = tmp_path / "minipod.toml"
    file.write_text("setup_deadline = 5\n")
    assert repr(config.load(str(file)).instance.setup_deadline) == "5.0"


def test_a_named_file_of_settings_must_be_there() -> None:
    with pytest.raises(NotFound):
        config.load("/nonexistent.toml")


def test_two_instances_share_no_name() -> None:
    one, two = Instance(), config.load(name="two").instance
    for attribute in (
        "run_dir",
        "state_dir",
        "api_socket",
        "bridge",
        "link_prefix",
        "nft_table",
        "subnet4",
        "log_dir",
    ):
        assert getattr(one, attribute) != getattr(two, attribute)


ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0
vpn0\t0000000A\t010200C0\t0003\t0\t0\t0\t000000FF\t0\t0\t0
minipod0\t0000580A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0
"""


@pytest.mark.parametrize(
    ("more", "taken"),
    [
        pytest.param("", False, id="its-own-bridge-and-routes-to-more"),
        pytest.param("other0\t0000590A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n", False, id="the-next"),
        pytest.param("other0\t0000580A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n", True, id="the-same"),
        pytest.param("docker0\t0003580A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n", True, id="a-part"),
    ],
)  # fmt: skip
def test_a_subnet_that_another_interface_has_is_refused(tmp_path, monkeypatch, more, taken) -> None:
    """The kernel would send to the other's pods what is meant for ours."""
    (tmp_path / "route").write_text(ROUTES + more)
    monkeypatch.setattr(routes, "TABLE", str(tmp_path / "route"))
    expected = (
        pytest.raises(Unavailable, match=r"taken: .*0 has 10\.88") if taken else nullcontext()
    )
    with expected:
        routes.check(Instance())


# -- API


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "5s"),
        (119, "119s"),
        (121, "2m1s"),
        (700, "11m"),
        (4 * 3600 + 60, "4h1m"),
        (3 * 86400, "3d"),
    ],
)
def test_ages_are_written_as_kubectl_writes_them(seconds: int, text: str) -> None:
    assert table.human(seconds) == text


def pod(**status) -> dict:
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{}], "initContainers": [{}]},
        "status": status,
    }


@pytest.mark.parametrize(
    ("status", "word"),
    [
        ({"phase": "Pending"}, "Pending"),
        ({"initContainerStatuses": [{"state": {"running": {}}}]}, "Init:0/1"),
        (
            {
                "initContainerStatuses": [
                    {"state": {"terminated": {"exitCode": 1, "reason": "Error"}}}
                ]
            },
            "Init:Error",
        ),
        (
            {"containerStatuses": [{"state": {"waiting": {"reason": "CrashLoopBackOff"}}}]},
            "CrashLoopBackOff",
        ),
        (
            {
                "containerStatuses": [
                    {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}
                ]
            },
            "Completed",
        ),
    ],
)
def test_the_status_column_is_kubectls(status: dict, word: str) -> None:
    assert pod_printer.pod_row(pod(**status))[2] == word


# -- the command line


def test_websocket_frames_come_back_whole_however_they_are_cut() -> None:
    payload = bytes(range(256)) * 300
    head = struct.pack("!BBQ", 0x82, 127, len(payload))
    decoder, found = websocket.Decoder(), []
    data = head + payload + struct.pack("!BB", 0x89, 0)
    for i in range(0, len(data), 1000):
        found += decoder.feed(data[i : i + 1000])
    assert found == [(websocket.BINARY, payload), (websocket.PING, b"")]


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        (
            "import minipod.cli.get, minipod.cli.options, minipod.config",
            ("asyncio", "ssl", "yaml", "pyroute2", "aiohttp"),
        ),
        (
            "import minipod.supervisor.serving",
            ("asyncio", "ssl", "subprocess", "pyroute2", "aiohttp", "yaml"),
        ),
    ],
)
def test_a_start_imports_nothing_heavy(statement: str, forbidden: tuple[str, ...]) -> None:
    script = f"import sys; {statement}; print([m for m in {forbidden!r} if m in sys.modules], len(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("[]"), done.stdout


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], False, id="nothing"),
        pytest.param([LINE_MAX], False, id="just-fits"),
        pytest.param([LINE_MAX + 1], True, id="one-byte-more"),
        pytest.param([100] * 1000, False, id="many-short"),
        pytest.param([100] * 1000 + [LINE_MAX + 1], True, id="last"),
        pytest.param([LINE_MAX + 1] + [100] * 1000, True, id="first"),
        pytest.param([LINE_MAX] * 5, False, id="all-just-fit"),
        pytest.param([1, LINE_MAX, LINE_MAX + 1, 1], True, id="between"),
    ],
)
def test_a_line_that_must_be_split_is_found(lines, expected):
    assert has_long_line(b"\n".join(b"x" * n for n in lines)) is expected


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.mkdir(), "file env of volume v: not a plain file"),
        (os.mkfifo, "file env of volume v: not a plain file"),
        (lambda path: path.symlink_to("env"), "file env of volume v: too many levels"),
        (lambda _: None, "file env not found in volume v"),
    ],
    ids=["directory", "pipe", "loop", "nothing"],
)
def test_a_file_of_variables_that_is_none_is_not_opened(tmp_path, make, words: str) -> None:
    """What a container wrote is read by root: a device in its place would be used by that."""
    make(tmp_path / "env")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InvalidSpec, match=words):
        environment._read(str(tmp_path), {"volumeName": "v", "path": "env"})
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_of_variables_is_read_inside_its_volume(tmp_path) -> None:
    (tmp_path / "there").write_text("A=1")
    (tmp_path / "env").symlink_to("/there")
    assert environment._read(str(tmp_path), {"volumeName": "v", "path": "env"}) == "A=1"

"""Images from Dockerfiles: RUN in a pod of a real node, COPY inside roots, the same id every time.

Excluded: the syntax (tests/unit/test_image_dockerfile.py), recipes (every node of a test has images from them).
"""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from minipod.errors import ImageError, InvalidSpec
from minipod.image.dockerbuild import Builder
from minipod.image.registry import platform
from minipod.image.store import ImageStore
from tests.image_files import directory, entry, ingest, layer, parts, symlink, tree
from tests.node import PATIENCE, eventually


@pytest.fixture
def store(tmp_path):
    return ImageStore(str(tmp_path / "store"))


@pytest.fixture
def source(tmp_path):
    """A directory to build from, with what must not be followed or copied."""
    (tmp_path / "src" / "sub").mkdir(parents=True)
    (tmp_path / "src" / "a.txt").write_text("a")
    (tmp_path / "src" / "sub" / "b.txt").write_text("b")
    (tmp_path / "src" / "ignored.log").write_text("x")
    (tmp_path / "src" / ".dockerignore").write_text("*.log\nDockerfile\n.dockerignore\n")
    (tmp_path / "src" / "outside").symlink_to("/etc")
    os.chmod(tmp_path / "src" / "a.txt", 0o640)
    return str(tmp_path / "src")


def build(store, source, text, *tags, **arguments):
    builder = Builder(store, source, arguments=arguments, run=None, tell=lambda _: None)
    return builder.build(text, tags)


def top(store, image) -> dict[str, tuple[object, ...]]:
    return tree(store.layers(image)[0])


def test_copy_takes_directories_patterns_owners_and_modes(store, source):
    image = build(
        store, source,
        "FROM scratch\nARG MODE=600\nENV T=/target\nCOPY . $T/all/\nCOPY --chown=7:8 --chmod=755 *.txt sub $T/\n", "a:1",
    )  # fmt: skip
    _, under = (tree(path) for path in store.layers(image))
    assert sorted(under) == [
        "target", "target/all", "target/all/a.txt", "target/all/outside", "target/all/sub", "target/all/sub/b.txt",
    ]  # fmt: skip
    assert under["target/all/outside"][5] == "/etc"
    found = top(store, image)
    assert [found[f"target/{name}"][:3] for name in ("a.txt", "b.txt")] == [("0o100755", 7, 8)] * 2


def test_the_same_input_gives_the_same_image(store, source, tmp_path):
    text = "FROM scratch\nCOPY . /x/\nWORKDIR /w\nLABEL a=b\n"
    first = build(store, source, text, "a:1")
    for above, _, files in os.walk(source):
        for name in files:
            os.utime(f"{above}/{name}", (1, 1), follow_symlinks=False)
    assert build(ImageStore(str(tmp_path / "other")), source, text, "a:1").id == first.id
    (tmp_path / "src" / "a.txt").write_text("changed")
    assert build(store, source, text, "a:1").id != first.id


def test_copy_goes_through_the_images_symlinks_and_never_out(store, source, tmp_path):
    (tmp_path / "outside").mkdir()
    base = layer(
        directory("usr"), directory("usr/bin"), symlink("bin", "usr/bin"),
        symlink("evil", "../../../../../../../../.." + str(tmp_path / "outside")),
    )  # fmt: skip
    ingest(store, "base:1", parts([base]))
    image = build(store, source, "FROM base:1\nCOPY a.txt /bin/\n", "a:1")
    assert "usr/bin/a.txt" in top(store, image)
    with pytest.raises(ImageError, match="line 2: COPY: /evil"):
        # dangling: it means a place inside
        build(store, source, "FROM base:1\nCOPY a.txt /evil/x/\n", "a:2")
    assert os.listdir(tmp_path / "outside") == []
    with pytest.raises(InvalidSpec, match="line 2: COPY: no such file"):
        build(store, source, "FROM base:1\nCOPY outside/passwd /\n", "a:2")
    with pytest.raises(InvalidSpec, match="leads out"):
        build(store, source, "FROM base:1\nCOPY ../x /\n", "a:2")


def test_a_stage_gives_files_to_another_and_nothing_else_stays(store, source):
    ingest(store, "base:1", parts([layer(entry("tool", b"binary", mode=0o755))], User="5"))
    text = "FROM base:1 AS one\nCOPY a.txt /\nFROM scratch\nCOPY --from=one /a.txt /tool /\nCOPY --from=base:1 /tool /again\n"
    image = build(store, source, text, "a:1")
    assert store.config(image).user == ""
    assert sorted(top(store, image)) == ["again"]
    assert {tag for i in store.list() for tag in i.tags} == {
        "docker.io/library/a:1",
        "docker.io/library/base:1",
    }
    assert len(store.list()) == 2
    assert build(store, source, text, "a:1").id == image.id


def test_the_configuration_comes_from_the_base_and_from_the_steps(store, source):
    ingest(store, "base:1", parts([layer(entry("x"))], Env=["A=1"], Cmd=["old"], User="5"))
    image = build(
        store, source,
        'FROM base:1\nARG V\nENV B=$A$V\nENTRYPOINT ["/x"]\nEXPOSE 80\nSTOPSIGNAL INT\nWORKDIR w\n', "a:1", V="arg",
    )  # fmt: skip
    config = store.config(image)
    assert config.env == ("A=1", "B=1arg")
    assert (config.entrypoint, config.cmd, config.user) == (("/x",), (), "5")
    assert (config.exposed, config.stop_signal, config.working_dir) == (("80/tcp",), "INT", "/w")


def test_add_unpacks_archives_and_copies_the_rest(store, source):
    subprocess.run(["tar", "-C", f"{source}/sub", "-cf", f"{source}/plain", "."], check=True)
    for tool in ("gzip", "bzip2", "xz", "zstd"):
        subprocess.run(f"{tool} -c < {source}/plain > {source}/x.{tool}", shell=True, check=True)  # noqa: S602
    Path(source, "no.tar.gz").write_bytes(gzip.compress(b"no archive"))
    names = ["plain", "x.gzip", "x.bzip2", "x.xz", "x.zstd"]
    adds = "".join(f"ADD {name} /{name}/\n" for name in names)
    image = build(store, source, f"FROM scratch\n{adds}ADD no.tar.gz a.txt sub /rest/\n", "a:1")
    found = {path for layer in store.layers(image) for path in tree(layer)}
    assert {f"{name}/b.txt" for name in names} <= found
    rest = {path for path in found if path.startswith("rest/")}
    assert rest == {"rest/no.tar.gz", "rest/a.txt", "rest/b.txt"}
    with pytest.raises(InvalidSpec, match="line 2: ADD: plain is an archive"):
        build(store, source, "FROM scratch\nADD --chown=1 plain /x/\n", "a:1")
    with pytest.raises(InvalidSpec, match="line 2: ADD: https://x/y is not a local file"):
        build(store, source, "FROM scratch\nADD https://x/y /\n", "a:1")


DOCUMENTS = """FROM scratch
ARG WHO=me
COPY <<EOF <<-"raw" /etc/
hello $WHO
EOF
\tnot $WHO
\traw
COPY --chmod=755 <<tool /bin/run
#!/bin/sh
tool
"""


def test_here_documents_become_files(store, source):
    image = build(store, source, DOCUMENTS, "a:1")
    files = {}
    for under in store.layers(image):
        for path in tree(under):
            if os.path.isfile(f"{under}/{path}"):
                files[path] = Path(under, path).read_text()
    assert files == {"etc/EOF": "hello me\n", "etc/raw": "not $WHO\n", "bin/run": "#!/bin/sh\n"}
    assert top(store, image)["bin/run"][0] == "0o100755"


def test_what_is_ignored_or_unused_is_said(store, source):
    told: list[str] = []
    builder = Builder(store, source, arguments={"NONE": "x"}, run=None, tell=told.append)
    text = (
        "FROM --platform=$BUILDPLATFORM scratch\nARG TARGETARCH\nENV A=$TARGETARCH\n"
        "HEALTHCHECK --interval=5s CMD x\nCOPY a.txt /\n"
    )
    image = builder.build(text, ["a:1"])
    assert store.config(image).env == (f"A={platform.of_machine().architecture}",)
    assert "line 4: HEALTHCHECK is ignored: write probes into the pod's manifest" in told
    assert "no ARG in the Dockerfile is called NONE" in told
    with pytest.raises(InvalidSpec, match="line 1: FROM: --platform=linux/s390x: only linux/"):
        build(store, source, "FROM --platform=linux/s390x scratch\n", "a:1")


def test_what_a_base_wants_to_have_run_is_not_left_out_in_silence(store, source):
    ingest(store, "base:1", parts([layer(entry("x"))], OnBuild=["RUN make"]))
    with pytest.raises(InvalidSpec, match="line 1: FROM: base:1 has ONBUILD steps: RUN make"):
        build(store, source, "FROM base:1\n", "a:1")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("FROM nowhere:1", InvalidSpec, "line 1: FROM: no image nowhere:1"),
        ("FROM scratch\nCOPY missing /", InvalidSpec, "line 2: COPY: no such file"),
        ("FROM scratch\nCOPY a.txt /\nRUN x", InvalidSpec, "line 3: RUN: it needs a running node"),
        ("FROM scratch\nRUN x", InvalidSpec, "line 2: RUN: there is nothing to run"),
        ("FROM scratch\nCOPY --chown=nobody a.txt /", ImageError, "line 2: COPY: .*nobody"),
        ("FROM scratch\nCOPY --from=x a /", InvalidSpec, "line 2: COPY: no stage and no image x"),
    ],
)
def test_a_step_that_fails_names_its_line_and_leaves_nothing(store, source, text, error, message):
    with pytest.raises(error, match=message):
        build(store, source, text, "a:1")
    assert store.sweep()
    assert store.list() == []
    assert list(store.content.digests()) == []
    assert os.listdir(f"{store.root}/layers") == []


@pytest.mark.smoke
def test_run_makes_a_layer_of_what_its_container_wrote(node, tmp_path):
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox:1.36\nARG WHO=nobody\nWORKDIR /work\n"
        "RUN echo $WHO > made && ln made hard && chown 5:6 made && rm /bin/vi && rm -r /var/www && mkdir /var/www\n"
        'USER 7\nRUN ["sh", "-c", "id -u > /tmp/who"]\nCMD ["cat", "/work/made", "/tmp/who"]\n'
    )
    built = [
        node.run(
            "image",
            "build",
            str(tmp_path),
            "-q",
            "-t",
            f"made:{n}",
            "--build-arg",
            "WHO=me",
            "--no-cache",
        )
        for n in (1, 2)
    ]
    assert built[0].stdout == built[1].stdout
    (shown,) = json.loads(node.run("image", "inspect", "made:1").stdout)
    upper, lower = shown["directories"][:2]
    assert sorted(tree(upper)) == ["tmp", "tmp/who"]
    changed = tree(lower)
    assert changed["work/made"][1:3] == (5, 6)
    assert changed["work/hard"][7] == changed["work/made"][7] != ""
    assert changed["bin/vi"] == ("whiteout",)
    assert os.getxattr(f"{lower}/var/www", "trusted.overlay.opaque") == b"y"
    assert not [path for path in changed if path.startswith(("proc", "sys", "dev"))]


def test_a_built_image_runs_and_a_failing_step_says_its_code(node, pods, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox:1.36\nRUN exit 3\n")
    failed = node.run("image", "build", str(tmp_path), "-t", "broken:1", check=False)
    assert failed.returncode == 1
    assert "line 2: RUN: the command ended with code 3" in failed.stderr
    assert node.run("image", "ls").stdout.count("broken") == 0
    assert node.client.request("GET", "/api/v1/pods")["items"] == []
    (tmp_path / "Dockerfile").write_text(
        'FROM busybox:1.36\nRUN echo built > /made\nCMD ["sleep", "100"]\n'
    )
    node.run("image", "build", str(tmp_path), "-t", "works:1")
    pods.append("built")
    node.pod("built", {"name": "app", "image": "works:1"})
    assert node.exec("built", "cat", "/made") == "built\n"


def test_a_step_that_can_not_be_made_is_an_error_not_a_wait(node, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox:1.36\nUSER nosuch\nRUN id\n")
    failed = node.run("image", "build", str(tmp_path), check=False)
    assert failed.returncode == 1
    assert "error: line 3: RUN: CreateContainerError: unable to find user nosuch" in failed.stderr
    assert node.client.request("GET", "/api/v1/pods")["items"] == []


def test_a_name_that_is_none_is_told_before_anything_is_run(node, tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM busybox:1.36\nRUN echo ran\n")
    failed = node.run("image", "build", str(tmp_path), "-t", "Bad Name", check=False)
    assert "couldn't parse image name" in failed.stderr
    assert "ran" not in failed.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_broken_off_leaves_no_pod(node, tmp_path, number):
    (tmp_path / "Dockerfile").write_text("FROM busybox:1.36\nRUN echo runs; sleep 1000\n")
    command = [*node.command, "image", "build", "--no-cache", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as building:
        assert building.stdout is not None
        assert "runs\n" in iter(building.stdout.readline, "")
        building.send_signal(number)
        assert building.wait(60 * PATIENCE) == 130
    eventually(lambda: not node.client.request("GET", "/api/v1/pods")["items"])


def test_a_signal_while_a_layer_is_made_leaves_no_pod_either(node, tmp_path):
    (tmp_path / "Dockerfile").write_text(
        "FROM busybox:1.36\nRUN truncate -s 200G /large; echo ran\n"
    )
    command = [*node.command, "image", "build", "--no-cache", str(tmp_path)]

    def is_over() -> bool:
        found = node.client.request("GET", "/api/v1/pods")["items"]
        return bool(found) and found[0]["status"]["phase"] == "Succeeded"

    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as building:
        eventually(is_over)
        building.terminate()
        assert building.wait(60 * PATIENCE) == 130
    eventually(lambda: not node.client.request("GET", "/api/v1/pods")["items"])

"""The image verbs as a person types them, against the store of a running node. Excluded: build, pull, push."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile

import pytest

from minipod.image.manifest import CONFIG
from tests.image_files import described, directory, entry, layer, parts, write_layout
from tests.node import eventually, sleeper


def test_import_inspect_history_tag_save_load_and_remove(node, forget, tmp_path):
    (tmp_path / "root.tar").write_bytes(layer(entry("bin/app", b"binary", mode=0o755)))
    forget += ["mine:1", "mine:2", "other/name:3"]
    node.run(
        "image",
        "import",
        str(tmp_path / "root.tar"),
        "mine:1",
        "-c",
        'CMD ["/bin/app"]',
        "-c",
        "ENV A=b",
    )
    (shown,) = json.loads(node.run("image", "inspect", "mine:1").stdout)
    assert shown["config"]["config"] == {"Cmd": ["/bin/app"], "Env": ["A=b"]}
    assert shown["repoTags"] == ["docker.io/library/mine:1"]
    assert node.run("image", "history", "mine:1").stdout.splitlines()[0].split() == [
        "CREATED", "CREATED", "BY", "SIZE", "COMMENT",
    ]  # fmt: skip
    node.run("image", "tag", "mine:1", "mine:2", "other/name:3")
    saved = str(tmp_path / "saved.tar")
    node.run("image", "save", "mine:2", "other/name:3", "-o", saved)
    with tarfile.open(saved) as archive:
        listed = json.load(archive.extractfile("manifest.json") or io.BytesIO())
    assert listed[0]["RepoTags"] == ["mine:2", "other/name:3"]
    node.run("image", "rm", "mine:1", "mine:2", "other/name:3")
    assert "mine" not in node.run("image", "ls").stdout
    assert "docker.io/library/mine:2" in node.run("image", "load", "-i", saved).stdout
    assert shown["id"] in node.run("image", "ls", "-q", "--no-trunc").stdout


def test_the_history_of_a_stranger_does_not_move_the_cursor(node, forget, tmp_path):
    manifest, config, blobs = parts([layer(entry("x"))])
    raw = json.loads(config)
    raw["history"] = [{"created_by": "RUN \x1b[2J\x1b]0;title\x07 x", "created": 5}]
    config = json.dumps(raw).encode()
    listed = json.loads(manifest) | {"config": described(config, CONFIG)}
    write_layout(str(tmp_path / "l"), "odd:1", (json.dumps(listed).encode(), config, blobs))
    node.run("image", "load", str(tmp_path / "l"))
    forget.append("odd:1")
    assert "RUN ?[2J?]0;title? x" in node.run("image", "history", "odd:1").stdout


def test_an_image_in_use_stays_whoever_prunes(node, pods, forget):
    pods.append("user")
    node.pod("user", sleeper(image="busybox:1.36"))
    refused = node.run("image", "rm", "busybox:1.36", "busybox:latest", check=False)
    assert "in use by a container" in refused.stderr
    node.run("image", "tag", "busybox:latest", "busybox:1.36")
    forget.append("gone:1")
    assert "it is empty" in node.run("image", "import", "-", "gone:1", text="", check=False).stderr
    assert "gone" not in node.run("image", "ls").stdout
    assert "busybox" not in node.run("image", "prune", "--all").stdout
    assert "docker.io/library/busybox:1.36" in node.run("image", "ls").stdout
    node.run("image", "build")  # what prune took away, for the tests that come


def test_an_image_that_a_volume_shows_stays_too(node, pods, forget, tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/x").write_text("from a volume")
    subprocess.run(["tar", "-cf", tmp_path / "x.tar", "-C", tmp_path / "files", "."], check=True)
    node.run("image", "import", str(tmp_path / "x.tar"), "shown:1")
    forget.append("shown:1")
    pods.append("viewer")
    volume = {"name": "v", "image": {"reference": "shown:1", "pullPolicy": "Never"}}
    mount = {"name": "v", "mountPath": "/v"}
    node.pod("viewer", sleeper(volumeMounts=[mount]), volumes=[volume])
    assert "in use" in node.run("image", "rm", "shown:1", check=False).stderr
    assert "shown" not in node.run("image", "prune", "--all").stdout
    assert node.run("exec", "viewer", "--", "cat", "/v/x").stdout == "from a volume"
    node.run("image", "build")  # what prune took away, for the tests that come


@pytest.mark.parametrize("count", [20, 150])
def test_a_pod_runs_from_many_layers(node, pods, forget, tmp_path, count):
    """More than one value of fsconfig(2) has room for, and more than the options of mount(2): the set-up names them by descriptors."""
    with open("/bin/busybox", "rb") as file:
        base = layer(directory("bin"), entry("bin/busybox", file.read(), mode=0o755))
    others = [layer(entry(f"etc/{n}", b"x")) for n in range(count - 1)]
    write_layout(str(tmp_path / "tall"), "tall:1", parts([base, *others]))
    assert (
        "loaded docker.io/library/tall:1"
        in node.run("image", "load", str(tmp_path / "tall")).stdout
    )
    forget.append("tall:1")
    pods.append("tall")
    command = ["/bin/busybox", "sh", "-c", "/bin/busybox ls /etc; /bin/busybox sleep 100"]
    node.pod("tall", {"name": "app", "image": "tall:1", "command": command})
    wanted = {str(n) for n in range(count - 1)}
    eventually(lambda: wanted <= set(node.run("logs", "tall").stdout.split()))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["inspect", "none:1"], "error: no image none:1"),
        (["save", "none:1"], "error: no image none:1"),
        (["load", "-i", "/nowhere.tar"], "error: /nowhere.tar: no such file or directory"),
        (["tag", "busybox:1.36", "Upper:1"], "must be lowercase"),
        (["build", "/var/empty-of-recipes"], "does not exist"),
        (["import", "/dev/null", "x:1", "-c", "RUN x"], "only instructions that change the configuration"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_errors_name_what_is_wrong(node, words, message):
    done = node.run("image", *words, check=False)
    assert done.returncode != 0
    assert message in done.stderr

"""What a newcomer gets wrong first: each error names the place and the remedy. Excluded: what only a running node refuses."""

from __future__ import annotations

import os
import socket
import subprocess

import click
import pytest
from click.testing import CliRunner, Result

from minipod.cli import (
    MEANT,
    VERBS,
    Verbs,
    group,
    manifests,
    of_the_machine,
    plain_flags,
    port_forward,
)
from minipod.cli.client import plural
from minipod.errors import FailedPrecondition, ImageError, MinipodError, NotFound, Unavailable
from tests.node import MINIPOD

POD = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: x\n"


def minipod(*words: str) -> Result:
    return CliRunner().invoke(group, ["--instance", "nosuch", *words])


@pytest.mark.parametrize("verb", MEANT)
def test_a_verb_of_dockers_leads_to_ours(verb: str) -> None:
    done = minipod(verb, "x")
    assert done.exit_code == 2
    assert f"Try: minipod {MEANT[verb]}" in done.output
    assert MEANT[verb].split()[0] in VERBS
    assert verb not in VERBS


@pytest.mark.parametrize(
    ("text", "place", "words", "hint"),
    [
        (POD.replace("  name", "\tname"), "line 4, column 1", "cannot start any token", "a tab"),
        (POD + "spec: [1, 2\n", "line 6, column 1", "while parsing a flow sequence", ""),
        (POD + "spec: {a: b: c}\n", "line 5, column 12", "", ""),
        (POD + "spec: {}\nmetadata: {}\n", "line 6, column 1", "'metadata' is there twice", ""),
    ],
)
def test_bad_yaml_is_told_with_its_place(
    tmp_path, text: str, place: str, words: str, hint: str
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(FailedPrecondition) as caught:
        manifests.load([f"{tmp_path}/x.yaml"])
    assert caught.value.message.startswith(f"{tmp_path}/x.yaml: {place}: not valid YAML: ")
    assert words in caught.value.message
    assert hint in caught.value.hint if hint else not caught.value.hint


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a\n", "document 1 is no Kubernetes object"),
        (POD + "---\nx\n", "document 2 is no Kubernetes object"),
        ("kind: Pod\nmetadata: {name: x}\n", "document 1 is no Kubernetes object: no apiVersion"),
        ("apiVersion: v1\nmetadata: {name: x}\n", "document 1 is no Kubernetes object: no kind"),
        ("apiVersion: v1\nkind: Pod\n", "document 1 is no Kubernetes object: no metadata"),
        (POD.replace("Pod", "5"), "document 1: kind is not text"),
        ("apiVersion: v1\nkind: Pod\nmetadata: x\n", "document 1: metadata is not an object"),
        ("apiVersion: v1\nkind: List\nitems: 5\n", "document 1: items is no list"),
        (
            "kind: List\nitems: [{}]\n",
            "document 1: items[0] is no Kubernetes object: no apiVersion",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["apply", "delete"])
def test_what_is_no_object_is_told_with_its_place(
    tmp_path, verb: str, text: str, words: str
) -> None:
    """Excluded: a traceback."""
    (tmp_path / "x.yaml").write_text(text)
    done = minipod(verb, "-f", f"{tmp_path}/x.yaml")
    assert isinstance(done.exception, FailedPrecondition)
    assert done.exception.message == f"{tmp_path}/x.yaml: {words}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (POD + "spec: &a {b: [*a]}\n", "nested too deeply"),
        (POD + "spec: !!binary aGk=\n", "bytes has no place in an object"),
        (POD + "spec: {a: .inf}\n", "a number without end has no place in an object"),
        (POD + "spec: {? [1] : 2}\n", "unhashable key"),
        (POD + "spec: " + "[" * 9999 + "\n", "nest"),
    ],
)
def test_what_has_no_place_in_an_object_is_told(tmp_path, text: str, words: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(FailedPrecondition, match="not valid YAML: ") as caught:
        manifests.load([f"{tmp_path}/x.yaml"])
    assert caught.value.message.startswith(f"{tmp_path}/x.yaml: ")
    assert words in caught.value.message


def test_a_directory_is_the_manifests_in_it(tmp_path) -> None:
    for name in ("b.yml", "a.yaml", "README.md", "c.json"):
        (tmp_path / name).write_text(POD.replace("name: x", f"name: {name}"))
    (tmp_path / "c.json").write_text(
        '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "c.json"}}'
    )
    found = manifests.load([str(tmp_path)])
    assert [pod["metadata"]["name"] for pod in found] == ["a.yaml", "b.yml", "c.json"]


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("https://example.com/pod.yaml", "no such file or directory", "curl -fsSL https://example.com/"),
        ("empty", "no file that ends in .yaml, .yml, .json", ""),
        ("latin.yaml", "not UTF-8 at byte 0", ""),
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_told(
    tmp_path, monkeypatch: pytest.MonkeyPatch, name: str, words: str, hint: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FailedPrecondition) as caught:
        manifests.load([name])
    assert caught.value.message == f"{name}: {words}"
    assert hint in caught.value.hint


def test_an_object_without_a_name_can_not_be_deleted(tmp_path) -> None:
    (tmp_path / "x.yaml").write_text(POD.replace("  name", "  generateName"))
    done = minipod("delete", "-f", f"{tmp_path}/x.yaml")
    assert isinstance(done.exception, FailedPrecondition)
    assert "no metadata.name" in done.exception.message


@pytest.mark.parametrize("text", ["", "---\n---\n", "# nothing\n"])
def test_a_manifest_of_nothing_is_an_error(tmp_path, text: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    done = minipod("apply", "-f", f"{tmp_path}/x.yaml")
    assert isinstance(done.exception, MinipodError)
    assert done.exception.message == f"no objects in {tmp_path}/x.yaml"


def test_an_image_in_the_place_of_a_file() -> None:
    done = minipod("run", "busybox")
    assert isinstance(done.exception, MinipodError)
    assert done.exception.hint == "to run an image: minipod run NAME --image=busybox"


@pytest.mark.parametrize("verb", ["describe", "inspect", "delete"])
def test_a_name_without_its_type(verb: str) -> None:
    done = minipod(verb, "web")
    assert isinstance(done.exception, NotFound)
    assert done.exception.hint.startswith("for a pod of that name: pod web; known: ")


@pytest.mark.parametrize("kind", ["Deployment", "services", "job"])
def test_a_kind_that_is_not_there_yet(kind: str) -> None:
    with pytest.raises(NotFound) as caught:
        plural(kind)
    assert "spec.template" in caught.value.hint


def test_a_node_that_does_not_run_is_told_with_the_command_that_starts_it() -> None:
    done = minipod("get", "pods")
    assert isinstance(done.exception, Unavailable)
    assert done.exception.message == "node nosuch is not running"
    assert done.exception.hint == "start it: minipod --instance nosuch up"


@pytest.mark.parametrize("verb", ["load", "import"])
def test_an_archive_that_is_none_is_told_with_its_name(tmp_path, verb: str) -> None:
    config = tmp_path / "minipod.toml"
    config.write_text(f'[instance.nosuch]\nstate_root = "{tmp_path}"\n')
    (tmp_path / "x.tar").write_text("no archive\n" * 100)
    arguments = ["image", verb, f"{tmp_path}/x.tar", *(["x:1"] if verb == "import" else [])]
    done = CliRunner().invoke(group, ["--config", str(config), "--instance", "nosuch", *arguments])
    assert isinstance(done.exception, ImageError)
    assert done.exception.message.startswith(f"{tmp_path}/x.tar: not a valid tar archive: ")


@pytest.mark.parametrize("name", ["nowhere", "."])
def test_what_is_no_file_is_told(tmp_path, name: str) -> None:
    config = tmp_path / "minipod.toml"
    config.write_text(f'[instance.nosuch]\nstate_root = "{tmp_path}"\n')
    arguments = ["image", "import", f"{tmp_path}/{name}", "x:1"]
    done = CliRunner().invoke(group, ["--config", str(config), "--instance", "nosuch", *arguments])
    assert isinstance(done.exception, FailedPrecondition)
    assert done.exception.message.startswith(f"{tmp_path}/{name}: ")


def test_a_node_that_may_not_be_looked_at_is_not_taken_for_one_that_is_down(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "nosuch").mkdir()
    config = tmp_path / "minipod.toml"
    config.write_text(f'[instance.nosuch]\nrun_root = "{tmp_path}"\n')
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may everything
    done = CliRunner().invoke(group, ["--config", str(config), "--instance", "nosuch", "status"])
    assert isinstance(done.exception, PermissionError)
    assert done.exception.filename == f"{tmp_path}/nosuch"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("delete pod x --wait=false", "delete pod x --no-wait"),
        ("delete pod x --wait=true --force=true --now=false", "delete pod x --wait --force"),
        ("delete pod x --wait=no --grace-period=0", "delete pod x --wait=no --grace-period=0"),
        ("debug x --share-processes=false", "debug x --no-share-processes"),
        ("exec x -- ls --tty=false", "exec x -- ls --tty=false"),
        ("image ls --quiet=true", "image ls --quiet"),
    ],
)
def test_a_flag_may_have_a_value_as_for_kubectl(typed: str, meant: str) -> None:
    words = typed.split()
    at = 2 if words[0] == "image" else 1
    parent = group if at == 1 else Verbs.load(group, "image")
    command = parent.get_command(click.Context(parent), words[at - 1])
    assert command is not None
    assert plain_flags(command, words[at:]) == meant.split()[at:]


def test_a_flag_with_a_value_reaches_its_verb() -> None:
    """The node does not run, which only a command that was read finds."""
    with pytest.raises(Unavailable):
        group.main(
            ["--instance", "nosuch", "delete", "pod", "x", "--wait=false"], standalone_mode=False
        )


@pytest.mark.parametrize(
    ("error", "message", "hint"),
    [
        (OSError(28, "No space left on device", "/x"), "/x: no space left on device", "make room"),
        (OSError(28, "No space left on device"), "no space left on device", "make room"),
        (OSError(30, "Read-only file system", b"/y"), "/y: read-only file system", "state_root"),
        (NotADirectoryError(20, "Not a directory", "/z/a"), "/z/a: not a directory", ""),
        (OSError("odd"), "odd", ""),
    ],
)
def test_what_the_kernel_refuses_is_no_traceback(error: OSError, message: str, hint: str) -> None:
    told = of_the_machine(error)
    assert told.message == message
    assert hint in told.hint if hint else not told.hint


def test_a_disk_that_can_not_be_written_is_told(tmp_path) -> None:
    """As a person sees it: a file where the state directory's parent should be."""
    (tmp_path / "file").write_text("")
    (tmp_path / "x.toml").write_text(f'[instance.nosuch]\nstate_root = "{tmp_path}/file"\n')
    words = ["--config", f"{tmp_path}/x.toml", "--instance", "nosuch", "image", "ls"]
    done = subprocess.run([MINIPOD, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"error: {tmp_path}/file/nosuch: not a directory\n"


@pytest.mark.parametrize(
    ("typed", "pod", "container", "argv"),
    [
        ("p -- sh -c ls", "p", "", "sh -c ls"),
        ("p sh -c ls", "p", "", "sh -c ls"),
        ("-it p sh -c ls", "p", "", "sh -c ls"),
        ("p -c app ls -l", "p", "app", "ls -l"),
        ("p -itc app ls -l", "p", "app", "ls -l"),
        ("p -capp ls -l", "p", "app", "ls -l"),
        ("--container=app p -n default ls -n", "p", "app", "ls -n"),
        ("-n default pod/p -c app -- ls -c x", "pod/p", "app", "ls -c x"),
        ("p ls", "p", "", "ls"),
        ("p - -c x", "p", "", "- -c x"),
        ("p", "p", "", ""),
    ],
)
def test_the_command_of_an_exec_begins_at_its_first_word(
    typed: str, pod: str, container: str, argv: str
) -> None:
    verb = Verbs.load(group, "exec")
    with verb.make_context("exec", typed.split()) as ctx:
        assert (ctx.params["pod"], ctx.params["container"]) == (pod, container)
        assert [*ctx.params["words"], *ctx.meta.get("command", ())] == argv.split()


def test_a_kubeconfig_that_may_not_be_seen_is_not_taken_for_one_that_is_not_there(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.toml").write_text(f'[instance.nosuch]\nstate_root = "{tmp_path}"\n')
    words = ["--config", f"{tmp_path}/x.toml", "--instance", "nosuch", "kubeconfig"]
    with pytest.raises(NotFound, match="has no kubeconfig yet"):
        group.main(words, standalone_mode=False)
    stat = os.stat

    def refused(path, **more):  # root may everything
        if str(path).endswith("/kubeconfig"):
            raise PermissionError(13, "Permission denied", path)
        return stat(path, **more)

    monkeypatch.setattr(os, "stat", refused)
    with pytest.raises(PermissionError):
        group.main(words, standalone_mode=False)


def test_a_port_that_is_taken_is_told_with_the_way_round_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FailedPrecondition) as caught:
            port_forward.listen(["127.0.0.1"], port)
    assert caught.value.message == f"can't listen on 127.0.0.1:{port}: address already in use"
    assert ":80 for any free one" in caught.value.hint
    with pytest.raises(FailedPrecondition, match="can't listen on no such:1: name or service"):
        port_forward.listen(["no such"], 1)

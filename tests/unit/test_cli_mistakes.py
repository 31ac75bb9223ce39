"""What a newcomer gets wrong first: each error names the place and the remedy. Excluded: what only a running node refuses."""

from __future__ import annotations

import os

import pytest
from click.testing import CliRunner, Result

from minipod.cli import MEANT, VERBS, group, options
from minipod.cli.client import plural
from minipod.errors import FailedPrecondition, MinipodError, NotFound

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
    ],
)
def test_bad_yaml_is_told_with_its_place(
    tmp_path, text: str, place: str, words: str, hint: str
) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(FailedPrecondition) as caught:
        options.load_manifests([f"{tmp_path}/x.yaml"])
    assert caught.value.message.startswith(f"{tmp_path}/x.yaml: {place}: not valid YAML: ")
    assert words in caught.value.message
    assert hint in caught.value.hint if hint else not caught.value.hint


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

"""Which RUN steps of a Dockerfile run again. The runner here writes into a directory: what a container does is test_image_build's."""

from __future__ import annotations

import contextlib

import pytest

from minipod.errors import ImageError
from minipod.image.dockerbuild import Builder
from minipod.image.store import ImageStore
from tests.image_files import entry, ingest, layer, parts

TEXT = """FROM base:1 AS one
ARG V
COPY a.txt /
RUN first
FROM base:1
COPY --from=one /made /
RUN second
"""


class Project:
    """A directory with a Dockerfile, built again and again; `ran` is what ran in the last build."""

    def __init__(self, directory) -> None:
        self.directory = directory
        self.store = ImageStore(str(directory / "store"))
        self.ran: list[str] = []
        ingest(self.store, "base:1", parts([layer(entry("x"))]))
        (directory / "source").mkdir()
        (directory / "upper").mkdir()
        self.write("one")

    def write(self, text: str) -> None:
        (self.directory / "source/a.txt").write_text(text)

    @contextlib.contextmanager
    def _run(self, image, command, env):
        self.ran.append(f"{command[-1]} {env.get('V', '')}".strip())
        if command[-1] == "fail":
            raise ImageError("it failed", reason="ErrImageBuild")
        if command[-1] != "nothing":
            (self.directory / "upper/made").write_text(self.ran[-1])
        yield str(self.directory / ("none" if command[-1] == "nothing" else "upper"))

    def build(self, text: str = TEXT, *, cached: bool = True, **arguments: str) -> str:
        (self.directory / "none").mkdir(exist_ok=True)
        self.ran = []
        builder = Builder(
            self.store, str(self.directory / "source"), arguments=arguments, run=self._run,
            tell=lambda _: None, cached=cached,
        )  # fmt: skip
        return builder.build(text, ["made:1"]).id


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_what_has_not_changed_does_not_run_again(project):
    made = project.build()
    assert project.ran == ["first", "second"]
    assert project.build() == made
    assert project.ran == []
    project.build(TEXT + "RUN third\n")
    assert project.ran == ["third"]


def test_a_step_that_wrote_nothing_is_remembered_too(project):
    text = "FROM base:1\nRUN nothing\nLABEL a=b\n"
    assert project.build(text) == project.build(text)
    assert project.ran == []


def test_another_file_argument_or_option_runs_the_steps_behind_it(project):
    project.build()
    project.write("two")
    project.build()
    assert project.ran[0] == "first"
    project.build(V="2")
    assert project.ran[0] == "first 2"
    project.build(cached=False)
    assert project.ran == ["first", "second"]


def test_what_ran_before_a_failure_is_kept_and_prune_takes_it_away(project):
    with pytest.raises(ImageError, match="line 5: RUN: it failed"):
        project.build("FROM base:1 AS one\nARG V\nCOPY a.txt /\nRUN first\nRUN fail\n")
    assert project.ran == ["first", "fail"]
    project.build()
    assert project.ran == ["second"]
    project.store.drop([i.id for i in project.store.list()])
    ingest(project.store, "base:1", parts([layer(entry("x"))]))
    project.build()
    assert project.ran == ["first", "second"]

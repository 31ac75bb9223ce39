"""The Dockerfile syntax that we build, and the errors for the rest. Excluded: building (tests/root/test_image_build.py)."""

from __future__ import annotations

from typing import Any

import pytest

from minipod.errors import InvalidSpec
from minipod.image.context import read_ignore
from minipod.image.dockerfile import config_of, expand, parse


def test_comments_and_continued_lines_count_but_do_not_show():
    steps = parse(
        "# escape=\\\n\nFROM  scratch\n\n# no\nRUN one && \\\n  # between\n\n  two\nCMD a b\n"
    )
    assert [(s.line, s.name, s.text) for s in steps] == [
        (3, "FROM", "scratch"),
        (6, "RUN", "one && two"),
        (10, "CMD", "a b"),
    ]


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('COPY a "b c" d/', ("a", "b c", "d/")),
        ('COPY ["a", "b c"]', ("a", "b c")),
        ("COPY --chown=1:2 --chmod=755 a b", ("a", "b")),
        ("ENV A=$V B='$V' C=\"$V $V\" D=\\$V", ("A=v", "B=$V", "C=v v", "D=$V")),
        ("ENV A b  $V", ("A=b  v",)),
        ('LABEL "a b"=c d="e=f"', ("a b=c", "d=e=f")),
        ("EXPOSE 80 ${NONE:-53}/udp", ("80", "53/udp")),
        ("RUN echo $V 'x'", ("echo $V 'x'",)),
        ('CMD ["a", "$V"]', ("a", "$V")),
        ('VOLUME ["/a", "/b"]', ("/a", "/b")),
    ],
)
def test_words_are_split_and_expanded_as_docker_does(line, words):
    step = parse(f"FROM scratch\n{line}\n")[1]
    assert step.expanded({"V": "v"}) == words


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$A", "x"), ("${A}b", "xb"), ("$B", ""), ("${B:-d}", "d"), ("${A:-d}", "x"), ("${A:+w}", "w"),
        ("${B:+w}", ""), ("\\$A", "$A"), ("a$", "a$"), ("$A$A", "xx"),
    ],
)  # fmt: skip
def test_variables(text, value):
    assert expand(text, {"A": "x"}) == value


@pytest.mark.parametrize(
    ("text", "last"),
    [
        ("RUN <<EOF\none\n  two $X\nEOF", "one\n  two $X\n"),
        ("RUN cat <<-'E' > /x\n\t\ta\n\tE", "cat <<-'E' > /x\n\t\ta\n\tE"),
        ("RUN cat <<A <<B\n1\nA\n2\nB", "cat <<A <<B\n1\nA\n2\nB"),
        ('RUN \\\n  echo "no <<EOF" $((1<<3))', 'echo "no <<EOF" $((1<<3))'),
        ("RUN\ttrue", "true"),
    ],
)
def test_here_documents_are_the_script_or_go_to_the_shell(text, last):
    steps = parse(f"FROM scratch\n{text}\nCMD x\n")
    assert steps[1].command(["sh", "-c"]) == ["sh", "-c", last]
    assert (steps[2].name, steps[2].line) == ("CMD", 3 + text.count("\n"))


REFUSED = {
    "RUN x": "line 2: the first instruction must be FROM",
    "FROM scratch\nONBUILD RUN x": "line 3: ONBUILD is not supported",
    "FROM scratch\nADD --checksum=x a b": "line 3: ADD: --checksum is not supported",
    "FROM scratch\n\n\nFRM x": "line 5: FRM is not supported",
    "FROM scratch\nRUN --mount=type=cache x": "line 3: RUN: --mount is not supported",
    "FROM scratch\nCOPY --parents a b": "line 3: COPY: --parents is not supported",
    "FROM scratch\nRUN <<EOF\nx\n": "line 3: here-document EOF has no end",
    "FROM scratch\nRUN <<EOF\n#!/usr/bin/python3\nEOF": "line 3: RUN: a here-document with #! is not supported",
    "FROM scratch\nCMD": "line 3: CMD needs arguments",
    'FROM scratch\nLABEL a="b': "line 3: LABEL: no closing quotation",
    "": "the first instruction must be FROM",
}


@pytest.mark.parametrize(("text", "message"), REFUSED.items(), ids=REFUSED)
def test_what_is_not_supported_is_an_error_that_names_its_line(text, message):
    with pytest.raises(InvalidSpec) as refused:
        parse(f"# a comment\n{text}\n")
    assert message in refused.value.message


def test_another_escape_is_refused():
    with pytest.raises(InvalidSpec, match="line 1: escape=` is not supported"):
        parse("# escape=`\nFROM scratch\n")


@pytest.mark.parametrize(
    ("lines", "config"),
    [
        (["CMD ls -l"], {"Cmd": ["/bin/sh", "-c", "ls -l"]}),
        (['SHELL ["/bin/bash", "-c"]', "CMD ls"], {"Shell": ["/bin/bash", "-c"], "Cmd": ["/bin/bash", "-c", "ls"]}),
        (['CMD ["a"]', 'ENTRYPOINT ["b"]'], {"Entrypoint": ["b"]}),
        (["ENV A=1", "ENV B=2 A=3"], {"Env": ["A=3", "B=2"]}),
        (["USER 1:2", "WORKDIR /w", "STOPSIGNAL INT"], {"User": "1:2", "WorkingDir": "/w", "StopSignal": "INT"}),
        (["EXPOSE 80", "EXPOSE 53/udp"], {"ExposedPorts": {"80/tcp": {}, "53/udp": {}}}),
        (["VOLUME /a /b", "LABEL x=y"], {"Volumes": {"/a": {}, "/b": {}}, "Labels": {"x": "y"}}),
    ],
)  # fmt: skip
def test_instructions_that_change_the_configuration(lines, config: dict[str, Any]):
    assert config_of(lines) == config


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("RUN x", "only instructions that change the configuration"),
        ("EXPOSE http", "'http' is not a port"),
        ("ENV =x", "is not name=value"),
        ("USER a b", "expected one argument, got 2"),
        ("SHELL /bin/sh", "must be a JSON list"),
    ],
)
def test_wrong_arguments_are_errors(line, message):
    with pytest.raises(InvalidSpec, match=message):
        config_of([line])


@pytest.mark.parametrize(
    ("rules", "ignored", "kept"),
    [
        ("*.log", ["a.log"], ["d/a.log", "a.txt"]),
        ("**/*.log", ["a.log", "d/e/a.log"], ["a.txt"]),
        ("build\n", ["build", "build/x/y"], ["d/build", "builder"]),
        ("*\n!src\n", ["a", "b/c"], ["src", "src/x"]),
        ("# comment\n\n/a?c", ["abc"], ["ac", "d/abc"]),
    ],
)
def test_dockerignore(rules, ignored, kept):
    leaves_out = read_ignore(rules)
    assert [path for path in ignored if not leaves_out(path)] == []
    assert [path for path in kept if leaves_out(path)] == []

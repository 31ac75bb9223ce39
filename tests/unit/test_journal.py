"""The journal: bounded, without repetition, back after a restart."""

import os

import pytest

from minipod.journal import Journal, Record


def record(decision: str, **fields) -> Record:
    return Record(**{"at": 1.0, "pod_uid": "u", "rule": "r", "decision": decision, **fields})


def decisions(journal: Journal) -> list[str]:
    return [r.decision for r in journal.read("u")]


def test_a_repeated_decision_is_stored_once_and_one_between_does_not_matter(tmp_path):
    journal = Journal(str(tmp_path))
    for decision, container in (
        ("a", "x"),
        ("b", "y"),
        ("a", "x"),
        ("b", "y"),
        ("c", "x"),
        ("a", "x"),
    ):
        journal.write(record(decision, container=container))
    assert decisions(journal) == ["a", "b", "c", "a"]


def test_it_is_bounded_in_memory_and_on_disk(tmp_path):
    journal = Journal(str(tmp_path), kept_per_pod=10)
    for n in range(100):
        journal.write(record(str(n), because={"output": "x" * 5000}))
    assert decisions(journal) == [str(n) for n in range(90, 100)]
    assert len((tmp_path / "u").read_text().splitlines()) <= 20
    assert os.path.getsize(tmp_path / "u") < 20 * 700
    assert decisions(Journal(str(tmp_path), kept_per_pod=10)) == decisions(journal)


def test_a_new_daemon_reads_on_and_does_not_repeat(tmp_path):
    Journal(str(tmp_path)).write(record("a", because={"k": "v"}))
    again = Journal(str(tmp_path))
    again.write(record("a", because={"k": "v"}, at=2.0))
    again.write(record("b"))
    assert [(r.decision, r.at) for r in again.read("u")] == [("a", 1.0), ("b", 1.0)]


@pytest.mark.parametrize("torn", ['{"at":', "[]", '{"unknown": 1}'], ids=["half", "list", "fields"])
def test_a_torn_line_loses_only_what_follows(tmp_path, torn):
    Journal(str(tmp_path)).write(record("a"))
    with open(tmp_path / "u", "a", encoding="utf-8") as file:
        file.write(torn + "\n")
    journal = Journal(str(tmp_path))
    assert decisions(journal) == ["a"]
    journal.write(record("b"))
    assert decisions(journal) == decisions(Journal(str(tmp_path))) == ["a", "b"]


def test_pods_are_forgotten(tmp_path):
    journal = Journal(str(tmp_path))
    for uid in "uvw":
        journal.write(record("a", pod_uid=uid))
    journal.forget("u")
    journal.forget("u")
    Journal(str(tmp_path)).keep_only(["v"])
    assert os.listdir(tmp_path) == ["v"]


def test_without_a_directory_it_lives_in_memory():
    journal = Journal()
    journal.write(record("a"))
    assert decisions(journal) == ["a"]


def test_what_is_written_later_is_read_at_once_and_is_one_write(tmp_path):
    asked = []
    journal = Journal(str(tmp_path), later=asked.append)
    for decision in "ab":
        journal.write(record(decision))
    journal.write(record("a", pod_uid="v"))
    assert decisions(journal) == ["a", "b"]
    assert (len(asked), os.listdir(tmp_path)) == (1, [])
    journal.forget("v")  # gone before its record was written
    asked.pop()()
    assert decisions(Journal(str(tmp_path))) == ["a", "b"]
    assert os.listdir(tmp_path) == ["u"]
    journal.write(record("c"))
    assert len(asked) == 1
    journal.flush()
    journal.flush()
    assert decisions(Journal(str(tmp_path))) == ["a", "b", "c"]

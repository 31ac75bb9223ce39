"""YAML by the forms of Kubernetes' clients; the expected values are what kubectl 1.33 makes of the same texts."""

import itertools

import pytest
import yaml

from minipod.api.yaml_types import VALUES_MAX, Loader, plain

TEXTS = {
    "2020-01-01": "2020-01-01", "2020-01-01T00:00:00Z": "2020-01-01T00:00:00Z", "1:30": "1:30", "12:30": "12:30",
    "1:30.5": "1:30.5", "v1.0": "v1.0", "1.5.6": "1.5.6", "=": "=", "'1'": "1", "1_": 1, "_1": "_1", "0x": "0x",
}  # fmt: skip
NUMBERS = {
    "1": 1, "-7": -7, "+1": 1, "0": 0, "-0": 0, "1_000": 1000, "0b11": 3, "0x1F": 31, "017": 15, "-017": -15, "0o17": 15,
    "0644": 420, "09": 9, "1.": 1, ".5": 0.5, "1.5": 1.5, "1e3": 1000, "1E3": 1000, "1e-3": 0.001, "1e30": 1e30,
}  # fmt: skip
OTHERS = {"yes": True, "on": True, "No": False, "true": True, "~": None, "null": None, "": None}


def read(text: str) -> object:
    return plain(yaml.load(text, Loader))  # noqa: S506 a safe loader


@pytest.mark.parametrize(("text", "value"), (TEXTS | NUMBERS | OTHERS).items())
def test_a_plain_word_is_what_kubectl_takes_it_for(text: str, value: object) -> None:
    found = read(f"a: {text}")
    assert found == {"a": value}
    assert type(found["a"]) is type(value)


def test_keys_are_strings() -> None:
    assert read("{2: a, true: b, c: d}") == {"2": "a", "true": "b", "c": "d"}


def test_aliases_and_merges_are_expanded_within_bounds() -> None:
    assert read("x: &x {a: 1}\ny: {<<: *x, b: 2}") == {"x": {"a": 1}, "y": {"a": 1, "b": 2}}
    names = "abcdefg"
    bomb = "a: &a [" + "1," * 10 + "]\n"
    for inner, outer in itertools.pairwise(names):
        bomb += f"{outer}: &{outer} [{f'*{inner},' * 10}]\n"
    with pytest.raises(ValueError, match=f"more than {VALUES_MAX} values"):
        read(bomb)


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", "!!binary aGk=", "!!set {a}", "&a [*a]"])
def test_what_json_has_not_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no place in an object|nested too deeply"):
        read(f"a: {text}")

"""Where a client looks for its node: what all settings together would tell, without reading them."""

from __future__ import annotations

import click
import pytest

from minipod import config
from minipod.cli import options
from minipod.errors import InvalidSpec
from minipod.spec.endpoint import Endpoint, is_name
from minipod.spec.instance import Instance


def endpoint(name: str | None = None, settings: str | None = None) -> Endpoint:
    context = click.Context(click.Command("x"), obj={"name": name, "config": settings})
    return options.endpoint(context)


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path) -> None:
    """The machine of a test may have a file of settings."""
    monkeypatch.setattr(options, "SETTINGS", str(tmp_path / "none.toml"))
    for name in ("MINIPOD_INSTANCE", "MINIPOD_CONFIG"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", [None, "minipod", "two"])
def test_a_name_alone_tells_the_same_as_all_settings(name: str | None) -> None:
    found, whole = endpoint(name), Instance(name=name or "minipod")
    assert type(found) is Endpoint
    for key in ("name", "command", "run_dir", "api_socket"):
        assert getattr(found, key) == getattr(whole, key)


def test_the_environment_names_a_node(monkeypatch) -> None:
    monkeypatch.setenv("MINIPOD_INSTANCE", "two")
    assert endpoint().name == "two"
    assert endpoint("three").name == "three"


def test_settings_are_read_where_there_are_any(monkeypatch, tmp_path) -> None:
    (tmp_path / "a.toml").write_text('run_root = "/elsewhere"')
    assert endpoint(settings=str(tmp_path / "a.toml")).api_socket == "/elsewhere/minipod/api.sock"
    monkeypatch.setenv("MINIPOD_CONFIG", str(tmp_path / "a.toml"))
    assert endpoint().api_socket == "/elsewhere/minipod/api.sock"
    monkeypatch.delenv("MINIPOD_CONFIG")
    monkeypatch.setattr(options, "SETTINGS", str(tmp_path / "a.toml"))
    monkeypatch.setattr(config, "SETTINGS", str(tmp_path / "a.toml"))
    assert endpoint().api_socket == "/elsewhere/minipod/api.sock"


@pytest.mark.parametrize(
    ("name", "good"),
    [
        ("a", True), ("a1", True), ("abcdefghij", True), ("abcdefghijk", False), ("", False), ("1a", False),
        ("A", False), ("a-b", False), ("ä", False), ("a²", False), ("a\n", False),
    ],
)  # fmt: skip
def test_a_name_is_a_few_letters_and_digits(name: str, good: bool) -> None:
    assert is_name(name) is good
    if not good:
        with pytest.raises(InvalidSpec, match="is not an instance name"):
            endpoint(name)

"""Golden files of plans, beside the tests: `UPDATE_GOLDEN=1 pytest tests/plans` writes them anew; read the diff before committing it."""

from __future__ import annotations

import os

HERE = os.path.dirname(os.path.abspath(__file__))


def compare(name: str, lines: list[str]) -> None:
    """Compare *lines* with the file of that name, to the letter."""
    path, text = f"{HERE}/{name}.txt", "\n".join(lines) + "\n"
    if os.environ.get("UPDATE_GOLDEN"):
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
    with open(path, encoding="utf-8") as f:
        assert text == f.read()

"""The report: samples are kept in results.json, results.md and the plots are made from them.

A run that measures some rows replaces those and keeps the others, each with its date. p99 is the nearest rank: with fewer than
100 runs it is the slowest one. A ratio is the median of the ratios of neighbouring runs.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import statistics
from typing import Any

from benchmarks import machine, plot
from benchmarks.row import Figure, Row

HEAD = """# Measured

Made by `scripts/bench` ([how]({readme})); do not edit.

* `12.3 (20.1), x 4.6`: the median of the runs, p99 in brackets (of fewer than 100 runs that is the worst), and how many times minipod's
  value it is: the median of the ratios of neighbouring runs, which a busy moment hits alike. Of figures in MB/s or /s more is better, of
  all others less.
* Aim: what minipod's median is to be. Quoted: what peers that Debian 12 doesn't have were measured with before, on another virtual machine
  of two cores (kube-apiserver and kubelet 1.20.2, etcd 3.4, containerd 1.6.20).
* Load: what ran on the machine before the measurement began, in processes. Where it is not near 0, read the ratios only.
* Plots: a dot for each run, a stroke at the median, a triangle at the aim, on a logarithmic axis.
"""
EMULATED = """* Emulated: qemu executes every instruction of this machine in software, some thirty times slower than a processor does,
  and programs in Python or Go more than those in C. Only the ratios say something: how minipod and its peers compare on cgroup v2.
  The load is the guest's own; what else ran on the machine around it is not seen.
"""
BARE = """* Without controllers: a hybrid machine's unified tree, alone (`scripts/unified`). Nothing can be limited or counted there;
  processes are born in their cgroup, watched, killed and kept from devices as on every cgroup v2.
"""
BESIDE = {
    "v2": "What was measured on cgroup v2, on the same machine, is in [v2/results.md](v2/results.md).\n",
    "vm": "What was measured on cgroup v2, in a virtual machine with systemd, is in [vm/results.md](vm/results.md).\n",
}
QUIET = 1.0  # a load up to this disturbs little


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * share) - 1)]


def _rounded(measured: dict[str, Any]) -> dict[str, Any]:
    """Leave out digits that say nothing."""
    sides = {
        side: [{name: float(f"{value:.5g}") for name, value in run.items()} for run in runs]
        for side, runs in measured["sides"].items()
    }
    return {**measured, "sides": sides}


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


class Results:
    """All rows that were measured, of this run and of earlier ones."""

    def __init__(self, directory: str, load: float) -> None:
        self._load = load
        self._directory = directory
        self._path = f"{directory}/results.json"
        self._rows: dict[str, dict[str, Any]] = {}
        if os.path.exists(self._path):
            with open(self._path, encoding="utf-8") as f:
                self._rows = json.load(f)

    def add(self, name: str, row: Row, measured: dict[str, Any]) -> None:
        figures = [dataclasses.asdict(f) for f in row.figures]
        about = {"title": row.title, "note": row.note, "figures": figures}
        self._rows[name] = {
            **about,
            "commit": machine.commit(),
            "machine": machine.describe(),
            "load": round(self._load, 1),
            **measured,
        }

    def text(self, name: str) -> str:
        """Return a row as lines for a terminal."""
        lines = [f"{name}: {self._rows[name]['title']}, {self._rows[name]['runs']} runs"]
        for figure, cells in self._cells(name):
            if not cells and not figure.quoted:
                continue  # who has it is not here
            lines.append(f"  {figure.name} ({figure.unit}{_aim(figure)})")
            lines += [f"    {side:12} {cell}" for side, cell in cells.items() if cell]
            lines += [f"    {'quoted':12} {figure.quoted}"] if figure.quoted else []
        missing = self._rows[name]["missing"]
        lines += [f"  without {side}: {why}" for side, why in missing.items()]
        return "\n".join(lines)

    def write(self, known: dict[str, Row]) -> None:
        """Write results.json, results.md and one plot for each row."""
        os.makedirs(self._directory, exist_ok=True)
        ordered = {n: self._rows[n] for n in (*known, *self._rows) if n in self._rows}
        with open(self._path, "w", encoding="utf-8") as f:
            json.dump(ordered, f, separators=(",", ":"))
            f.write("\n")
        with open(f"{self._directory}/results.md", "w", encoding="utf-8") as f:
            machines = list(dict.fromkeys(row["machine"] for row in ordered.values()))
            sections = [self._section(name, machines) for name in ordered]
            f.write("\n".join([*self._head(list(ordered), machines), *sections]))
        for name in ordered:
            series = [
                plot.Lanes(f"{figure.name}, {figure.unit}", found, figure.aim)
                for figure in self._figures(name)
                if (found := self._series(name, figure.name))
            ]
            with open(f"{self._directory}/{name}.svg", "w", encoding="utf-8") as f:
                f.write(plot.strips(self._rows[name]["title"], series))

    def _head(self, names: list[str], machines: list[str]) -> list[str]:
        """Return what stands before the first row."""
        emulated = any(machine.EMULATED in text for text in machines)
        bare = any(machine.BARE in text for text in machines)
        inner = os.path.basename(os.path.abspath(self._directory)) in BESIDE
        about = HEAD.format(readme="../README.md" if inner else "README.md")
        return [
            about + (EMULATED if emulated else "") + (BARE if bare else ""),
            *(s for n, s in BESIDE.items() if os.path.exists(f"{self._directory}/{n}/results.md")),
            "## Machines\n",
            *(f"{letter(place)}: {text}.\n" for place, text in enumerate(machines)),
            "## At a glance\n",
            self._beside(names) if emulated else self._glance(names),
        ]

    def _figures(self, name: str) -> list[Figure]:
        return [Figure(**f) for f in self._rows[name]["figures"]]

    def _series(self, name: str, figure: str) -> dict[str, list[float]]:
        """Return the values of each side that has this figure."""
        sides = self._rows[name]["sides"]
        found = {s: [run[figure] for run in runs if figure in run] for s, runs in sides.items()}
        return {side: values for side, values in found.items() if values}

    def _cells(self, name: str) -> list[tuple[Figure, dict[str, str]]]:
        table = []
        for figure in self._figures(name):
            series = self._series(name, figure.name)
            ours = series.get("minipod", [])
            cells = {}
            for side, values in series.items():
                cells[side] = (
                    f"{number(statistics.median(values))} ({number(percentile(values, 0.99))})"
                )
                if side != "minipod" and len(ours) == len(values):
                    ratios = [v / o for v, o in zip(values, ours, strict=True)]
                    cells[side] += f", x {number(statistics.median(ratios))}"
            table.append((figure, cells))
        return table

    def _glance(self, names: list[str]) -> str:
        """Return a table of what has an aim."""
        lines = ["| | aim | minipod | met |", "|---|---|---|---|"]
        for name in names:
            for figure in self._figures(name):
                ours = self._series(name, figure.name).get("minipod")
                if figure.aim is None or not ours:
                    continue
                middle = statistics.median(ours)
                more = figure.unit.endswith("/s")
                # a rate that clients give is met by 999.9 of 1,000, too
                near = round(middle / figure.aim, 2)
                met = near >= 1 if more else near <= 1
                said = "yes" if met else f"no, x {number(middle / figure.aim)}"
                title = self._link(name, figure)
                lines.append(f"| {title} | {number(figure.aim)} | {number(middle)} | {said} |")
        return "\n".join([*lines, ""])

    def _beside(self, names: list[str]) -> str:
        """Return a table of the ratios alone: how many times minipod's value each peer's is."""
        sides = [s for name in names for s in self._rows[name]["sides"] if s != "minipod"]
        peers = list(dict.fromkeys(sides))
        lines = [f"| times minipod's | {' | '.join(peers)} |", "|---" * (len(peers) + 1) + "|"]
        for name in names:
            for figure, cells in self._cells(name):
                ratios = [cells.get(peer, "").partition(", ")[2] for peer in peers]
                if any(ratios):
                    lines.append(f"| {self._link(name, figure)} | {' | '.join(ratios)} |")
        return "\n".join([*lines, ""])

    def _link(self, name: str, figure: Figure) -> str:
        return f"[{name}](#{anchor(self._rows[name]['title'])}): {figure.name}, {figure.unit}"

    def _section(self, name: str, machines: list[str]) -> str:
        row = self._rows[name]
        sides = list(row["sides"])
        quoted = any(f.quoted for f in self._figures(name))
        load = "not known" if row["load"] is None else f"{row['load']:.1f}"
        if (row["load"] or 0) > QUIET:
            load += " (**not a quiet machine**: read the ratios only)"
        where = f"machine {letter(machines.index(row['machine']))}, load {load}"
        when = f"{row['date']} UTC, minipod {row['commit']}"
        runs = f"`scripts/bench {name}`: {row['runs']} runs of each, {when}, {where}."
        lines = [f"## {row['title']}", "", runs, ""]
        columns = ["", "aim", *sides, *(["quoted"] if quoted else [])]
        lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        for figure, cells in self._cells(name):
            if not cells and not figure.quoted:
                continue  # who has it is not here
            aim = "" if figure.aim is None else number(figure.aim)
            values = [cells.get(side, "") for side in sides] + ([figure.quoted] if quoted else [])
            lines.append(f"| {figure.name}, {figure.unit} | {aim} | {' | '.join(values)} |")
        lines += ["", f"![{row['title']}]({name}.svg)", ""]
        if row["note"]:
            lines += [row["note"], ""]
        for side, why in row["missing"].items():
            lines += [f"Not measured: {side} ({why}).", ""]
        return "\n".join(lines)


def letter(place: int) -> str:
    """Return the name of the machine at that place of the list."""
    return chr(ord("A") + place)


def anchor(title: str) -> str:
    """Return the fragment that GitHub makes of a title."""
    kept = (c for c in title.lower() if c.isalnum() or c in " -_")
    return "".join(kept).replace(" ", "-")


def _aim(figure: Figure) -> str:
    return "" if figure.aim is None else f", aim {number(figure.aim)}"

"""`scripts/bench [--runs N] [--quick] [--output DIR] [ROW...]`: measure rows (all of them by default) and write the report."""

from __future__ import annotations

import argparse
import importlib
import os
import pkgutil
import signal
import sys
import time
import traceback
from dataclasses import replace

from benchmarks import report, rows
from benchmarks.bench import Bench
from benchmarks.report import Results
from benchmarks.row import Row
from benchmarks.run import measure
from minipod.daemon import node
from minipod.linux import prctl

QUICK_RUNS = 2


def all_rows() -> dict[str, Row]:
    """Return every row by its name, in the order of the table."""
    names = [m.name for m in pkgutil.iter_modules(rows.__path__)]
    found = {n: importlib.import_module(f"benchmarks.rows.{n}").ROW for n in names}
    first = {name: place for place, name in enumerate(rows.ORDER)}
    return dict(sorted(found.items(), key=lambda item: first.get(item[0], len(first))))


def arguments(known: dict[str, Row]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=f"of {', '.join(known)}")
    parser.add_argument("--runs", type=int, help="of each side (default: the row's own number)")
    parser.add_argument(
        "--quick", action="store_true", help="each row twice and small: does it run?"
    )
    parser.add_argument("--beside", help='only these peers, by comma; "" for none')
    parser.add_argument("--output", default="docs/benchmarks", help="where the report is written")
    chosen = parser.parse_args()
    unknown = [name for name in chosen.rows if name not in known]
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; known: {', '.join(known)}")
    return chosen


def main() -> None:
    if os.geteuid():
        sys.exit("bench: must run as root")
    node.START_DEADLINE = 600.0  # an emulated machine takes long
    os.environ.pop("PYTHONPATH", None)  # ours: the node shall start as it always does
    prctl.set_child_subreaper(True)  # the peers' shims and monitors are ours to reap
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that `finally` runs
    known = all_rows()
    chosen = arguments(known)
    load = os.getloadavg()[0]  # of others: what we add comes later
    bench = Bench(quick=chosen.quick)
    failed = []
    try:
        results = report.Results(chosen.output, load)
        for name in chosen.rows or known:
            try:
                one(name, chosen, known, bench, results)
            except Exception as e:  # the others are still to be measured
                traceback.print_exc()
                print(f"{name}: failed: {type(e).__name__}: {e}", flush=True)
                failed.append(name)
                bench.start_over()
    except KeyboardInterrupt:
        print("bench: interrupted, taking everything away", file=sys.stderr)
        sys.exit(130)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        bench.close()
        reap()
    if failed:
        sys.exit(f"bench: failed: {', '.join(failed)}")


def one(
    name: str, chosen: argparse.Namespace, known: dict[str, Row], bench: Bench, results: Results
) -> None:
    """Measure one row, print it, and write the report anew."""
    row = known[name]
    if chosen.beside is not None:
        wanted = {"minipod", *chosen.beside.split(",")}
        row = replace(row, sides={n: s for n, s in row.sides.items() if n in wanted})
    runs = chosen.runs or (QUICK_RUNS if chosen.quick else row.runs)
    begin = time.monotonic()
    results.add(name, row, measure(row, bench, runs))
    print(f"{results.text(name)}\n  in {time.monotonic() - begin:.0f} s", flush=True)
    results.write(known)


def reap() -> None:
    """Collect the processes that came to us when their parents ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass  # all are collected


if __name__ == "__main__":
    main()

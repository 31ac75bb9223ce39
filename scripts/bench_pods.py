"""Times one pod after another on a node of its own (`bench`), with the client's and the supervisor's clocks, which are one.

create -> execve    POST of the pod until its container has executed its command (state.json)
create -> running   until a watch shows phase Running
delete -> gone      DELETE until a watch shows it deleted; the app exits on SIGTERM
exec                /bin/true in a running container, over the API, with the client's process left out
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

from minipod import config
from minipod.cli.channels import run_channels
from minipod.cli.client import Client
from minipod.daemon import reset_node, start_node

POD = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "b"},
    "spec": {"containers": [{"name": "c", "image": "busybox:1.36", "command": ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"]}]},
}  # fmt: skip


def one(client: Client, run_dir: str) -> dict[str, float]:
    """Return the milliseconds of one pod's life."""
    path = client.path("pods", "default")
    begin = time.time()
    made = client.request("POST", path, body=POD)
    query = {
        "fieldSelector": "metadata.name=b",
        "resourceVersion": made["metadata"]["resourceVersion"],
    }
    for event in client.watch(path, query):
        if event["object"].get("status", {}).get("phase") == "Running":
            break
    running = time.time()
    (container,) = os.listdir(f"{run_dir}/containers")
    with open(f"{run_dir}/containers/{container}/state.json", encoding="utf-8") as f:
        executed = json.load(f)["started_at"]
    start = time.time()
    target = client.path("pods", "default", "b", "exec")
    run_channels(
        client.instance.api_socket,
        target,
        [("command", "/bin/true"), ("stdout", "true")],
        stdin=False,
        tty=False,
    )
    execed = time.time() - start
    start = time.time()
    version = client.request("GET", f"{path}/b")["metadata"]["resourceVersion"]
    client.request("DELETE", f"{path}/b", body={})
    for event in client.watch(path, {**query, "resourceVersion": version}):
        if event["type"] == "DELETED":
            break
    gone = time.time() - start
    return {
        "create -> execve": (executed - begin) * 1e3, "create -> running": (running - begin) * 1e3,
        "exec /bin/true": execed * 1e3, "delete -> gone": gone * 1e3,
    }  # fmt: skip


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    instance = config.load(name="bench").instance
    here = os.path.dirname(sys.executable)
    subprocess.run(
        [f"{here}/minipod", "--instance", "bench", "image", "build"],
        check=True,
        capture_output=True,
    )
    begin = time.time()
    start_node(instance)
    print(f"node start (first): {(time.time() - begin) * 1e3:.0f} ms")
    try:
        client = Client(instance)
        one(client, instance.run_dir)
        rows = [one(client, instance.run_dir) for _ in range(runs)]
    finally:
        reset_node(instance)
    print(f"{'':20} {'median':>8} {'p99':>8} {'min':>8}   ms, {runs} runs")
    for name in rows[0]:
        values = sorted(r[name] for r in rows)
        p99 = values[min(len(values) - 1, int(len(values) * 0.99))]
        print(f"{name:20} {statistics.median(values):8.1f} {p99:8.1f} {values[0]:8.1f}")


if __name__ == "__main__":
    main()

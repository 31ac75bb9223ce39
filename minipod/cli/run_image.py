"""minipod run NAME --image=IMAGE: an image as a pod of one container, seen through to its end when somebody is attached.

Names, flags and messages follow kubectl's run (k8s.io/kubectl/pkg/cmd/run): the label run=NAME, stdinOnce with -i, --rm only when attached.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import click

from minipod.cli.attach import Place, talk
from minipod.cli.client import Client, Object
from minipod.cli.delete import delete_all
from minipod.errors import FailedPrecondition

POLICIES: Final = ("Always", "OnFailure", "Never")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """The pod, and what becomes of it."""

    pod: Object
    attached: bool
    remove: bool
    quiet: bool


def wanted(name: str, words: Sequence[str], flags: Mapping[str, Any]) -> Wanted:
    """Read the flags. Raises FailedPrecondition for what does not go together."""
    attached = bool(flags["attached"] or flags["stdin"])
    if flags["tty"] and not flags["stdin"]:
        raise FailedPrecondition("-i/--stdin is required for containers with -t/--tty=true")
    if flags["rm"] and not attached:
        raise FailedPrecondition(
            "--rm should only be used for attached containers", hint="-i or --attach"
        )
    metadata = {"name": name, "labels": _pairs(flags["labels"].split(",")) or {"run": name}}
    spec = {"restartPolicy": flags["restart"], "containers": [_container(name, words, flags)]}
    return Wanted(
        pod={"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec},
        attached=attached,
        remove=flags["rm"],
        quiet=flags["quiet"],
    )


def _container(name: str, words: Sequence[str], flags: Mapping[str, Any]) -> Object:
    made: Object = {"name": name, "image": flags["image"]}
    if words:
        made["command" if flags["as_command"] else "args"] = list(words)
    if flags["env"]:
        made["env"] = [{"name": n, "value": v} for n, v in _pairs(flags["env"]).items()]
    if flags["port"]:
        made["ports"] = [{"containerPort": flags["port"]}]
    if flags["image_pull_policy"]:
        made["imagePullPolicy"] = flags["image_pull_policy"]
    if flags["privileged"]:
        made["securityContext"] = {"privileged": True}
    if flags["stdin"]:
        made |= {"stdin": True, "stdinOnce": True, "tty": flags["tty"]}
    return made


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in filter(None, texts):
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise FailedPrecondition(f"{text!r} is not NAME=VALUE")
        found[name] = value
    return found


def run(client: Client, namespace: str, asked: Wanted) -> int:
    """Make the pod; attached, see it through and return its exit code."""
    made = client.request("POST", client.path("pods", namespace), body=asked.pod)
    name = made["metadata"]["name"]
    if not asked.attached:
        click.echo(f"pod/{name} created")
        return 0
    container = asked.pod["spec"]["containers"][0]
    place = Place(
        namespace=namespace, pod=name, container=container["name"],
        stdin=container.get("stdin", False), tty=container.get("tty", False),
    )  # fmt: skip
    try:
        code = talk(client, place)
        if made["spec"]["restartPolicy"] == "Always":
            return code  # it has no end
        return exit_code(_ended(client, place))
    finally:
        if asked.remove:
            delete_all(
                client, [("pods", namespace, name)], -1, wait=True, ignore=True, quiet=asked.quiet
            )


def _ended(client: Client, place: Place) -> Object:
    """Wait for the pod's end; return it as it was then."""
    query = {"fieldSelector": f"metadata.name={place.pod}", "resourceVersion": "0"}
    for event in client.watch(client.path("pods", place.namespace), query):
        pod: Object = event["object"]
        if event["type"] == "DELETED" or pod["status"].get("phase") in ("Succeeded", "Failed"):
            return pod
    raise FailedPrecondition("the node ended")


def exit_code(pod: dict[str, Any]) -> int:
    """Return the first code that is not 0 among its containers; 1 for a pod that failed otherwise."""
    statuses = pod.get("status", {}).get("containerStatuses", [])
    codes = [
        s["state"]["terminated"]["exitCode"] for s in statuses if "terminated" in s.get("state", {})
    ]
    failed = next((c for c in codes if c), 0)
    return failed or (1 if pod.get("status", {}).get("phase") == "Failed" else 0)

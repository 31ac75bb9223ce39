"""Kubeconfig files: the administrator's, and those of users that the command line makes. Light: the command line imports it."""

from __future__ import annotations

import base64
import re

from minipod.apiserver.auth import ports
from minipod.apiserver.auth.certificates import pki_of
from minipod.apiserver.auth.pki import Leaf, Pki, write_private
from minipod.errors import InvalidSpec
from minipod.spec.instance import Instance

USER = re.compile(r"[A-Za-z0-9][-\w.@:]{0,63}")  # in file names and certificates (ub-common-name)


def write_kubeconfig(instance: Instance, pki: Pki, leaf: Leaf, path: str) -> None:
    """Write the kubeconfig (0600) of the user that *leaf* certifies, unless it is there already."""

    def data(name: str) -> str:
        return base64.b64encode(pki.read(name)).decode()

    text = KUBECONFIG.format(
        cluster=instance.name,
        server=f"https://{ports.LOOPBACK}:{instance.api_port}",
        user=leaf.common_name,
        ca=data("ca.crt"),
        certificate=data(f"{leaf.name}.crt"),
        key=data(f"{leaf.name}.key"),
    ).encode()
    try:
        with open(path, "rb") as f:
            if f.read() == text:
                return
    except FileNotFoundError:
        pass
    write_private(path, text)


KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters:
- name: "{cluster}"
  cluster:
    server: "{server}"
    certificate-authority-data: "{ca}"
users:
- name: "{user}"
  user:
    client-certificate-data: "{certificate}"
    client-key-data: "{key}"
contexts:
- name: "{user}@{cluster}"
  context:
    cluster: "{cluster}"
    user: "{user}"
    namespace: default
current-context: "{user}@{cluster}"
"""


def make_user(instance: Instance, name: str, groups: tuple[str, ...]) -> str:
    """Make a client certificate and a kubeconfig for the user *name*; return the kubeconfig's path. Raises InvalidSpec."""
    import asyncio  # only here: for the command line

    if not USER.fullmatch(name):
        raise InvalidSpec(
            f"{name!r} is not a user name", hint="letters, digits and -_.@:, up to 64"
        )
    leaf = Leaf(name=f"user-{name}", common_name=name, organizations=groups)
    pki = pki_of(instance)
    asyncio.run(pki.ensure([leaf]))
    path = f"{instance.kubeconfig}-{name}"
    write_kubeconfig(instance, pki, leaf, path)
    return path

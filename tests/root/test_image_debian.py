"""The Debian base: built from packages that were fetched before, the same each time, and one can work in it.

The packages are those of `scripts/debian-packages`; without them the test is skipped. Excluded: the mirror and its keys.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from minipod.image.build import build
from minipod.image.store import ImageStore
from tests.node import shell

TARBALL = Path("/var/cache/minipod-debian/bookworm.tgz")
RECIPE = Path(__file__).parents[2] / "images/debian/recipe.toml"
CONTROL = """Package: greeter
Version: 1
Architecture: all
Maintainer: nobody
Depends: bash
Description: says hello
"""


@pytest.fixture(scope="module")
def built(node, tmp_path_factory):
    """Build it twice at the same time, for the node and for another store; return both ids."""
    if not TARBALL.exists() or shutil.which("debootstrap") is None:
        pytest.skip(f"{TARBALL} is not here (scripts/debian-packages)")
    here = tmp_path_factory.mktemp("debian")
    (here / "recipe.toml").write_text(f'tarball = "{TARBALL}"\n{RECIPE.read_text()}')
    command = [*node.command, "image", "build", "-q", str(here)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as first:
        second = build(str(here), ImageStore(str(here / "store")))
        return [first.communicate()[0].strip(), second.id]


@pytest.fixture
def package(tmp_path):
    """Make a package as Debian's tools make them; return its directory."""
    (tmp_path / "root/DEBIAN").mkdir(parents=True)
    (tmp_path / "root/usr/bin").mkdir(parents=True)
    (tmp_path / "root/DEBIAN/control").write_text(CONTROL)
    (tmp_path / "root/DEBIAN/postinst").write_text("#!/bin/sh\nset -e\ntouch /etc/greeted\n")
    (tmp_path / "root/usr/bin/greet").write_text("#!/bin/bash\necho hello from ${0##*/}\n")
    for name in ("DEBIAN/postinst", "usr/bin/greet"):
        os.chmod(tmp_path / "root" / name, 0o755)  # noqa: S103 a program
    (tmp_path / "packages").mkdir()
    target = str(tmp_path / "packages/greeter.deb")
    subprocess.run(
        ["dpkg-deb", "--root-owner-group", "-b", str(tmp_path / "root"), target], check=True
    )
    return str(tmp_path / "packages")


@pytest.mark.timeout(300)
def test_apt_and_dpkg_install_in_a_container_of_it(node, pods, built, package):
    assert all(built)
    pods.append("installs")
    script = (
        "set -e; apt-get install -y /packages/greeter.deb >&2; greet; test -e /etc/greeted; dpkg --audit; dpkg -V; "
        "id _apt; stat -c %a /tmp /usr/bin/passwd; cat /etc/debian_version; apt-get check >&2"
    )
    mount = {"name": "packages", "mountPath": "/packages", "readOnly": True}
    node.pod(
        "installs", {**shell(script, volumeMounts=[mount]), "image": "debian:12"},
        wait="", restartPolicy="Never", volumes=[{"name": "packages", "hostPath": {"path": package}}],
    )  # fmt: skip
    node.wait("installs", "jsonpath={.status.phase}=Succeeded", 200)
    said = node.run("logs", "installs").stdout
    assert "hello from greet\n" in said
    assert "uid=42(_apt)" in said
    assert "\n1777\n4755\n12." in said


@pytest.mark.timeout(300)
def test_the_same_packages_give_the_same_image(built):
    assert built[0] == built[1]

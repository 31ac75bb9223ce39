"""docker-registry as a child process: open, with basic auth, with TLS, behind a token server; skopeo and buildless images for it."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import signal
import socket
import subprocess
import tarfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import yaml

from minipod.linux.libc import GOARCH, MACHINE
from tests.ports import free_port

# bcrypt of alice:secret; made once with `htpasswd -nbB`, so that no test needs apache2-utils
HTPASSWD = "alice:$2y$05$QZfkLf3JFt/YX0nQqqBB1Ozu4lKxeyRn6dan46zPDe0bak7jjevmq\n"
USER, PASSWORD = "alice", "secret"

OCI = "application/vnd.oci.image"


class Registry:
    """One docker-registry; its files are below *directory*."""

    def __init__(self, directory: Path, **http: Any) -> None:
        self.directory = directory
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self._http = http
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, auth: dict[str, Any] | None = None) -> Registry:
        """Start it and wait until it listens."""
        config = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(self.directory / "data")},
                "delete": {"enabled": True},
            },
            "http": {"addr": self.host, **self._http},
            **({"auth": auth} if auth else {}),
        }
        path = self.directory / "config.yml"
        path.write_text(yaml.safe_dump(config))
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(path)], stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], "OTEL_TRACES_EXPORTER": "none"},
            )  # fmt: skip
        self._await_listening()
        return self

    def basic(self) -> Registry:
        """Start it with a password file."""
        passwords = self.directory / "htpasswd"
        passwords.write_text(HTPASSWD)
        return self.start({"htpasswd": {"realm": "test", "path": str(passwords)}})

    def _await_listening(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert self._process is not None
                assert self._process.poll() is None, (self.directory / "log").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.01)  # it tells nobody when it listens
            else:
                return

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def fill(self, layout: Layout, name: str, tag: str, *options: str) -> None:
        """Copy *tag* of a layout to *name* (repository:tag) with skopeo."""
        skopeo(
            "copy", "--dest-tls-verify=false", *options,
            f"oci:{layout.directory}:{tag}", f"docker://{self.host}/{name}",
        )  # fmt: skip

    def put_manifest(self, repository: str, tag: str, body: bytes, media_type: str) -> str:
        """Put a manifest as it is; return its digest. Plain registries only."""
        request = urllib.request.Request(
            f"http://{self.host}/v2/{repository}/manifests/{tag}", data=body, method="PUT",
            headers={"Content-Type": media_type},
        )  # fmt: skip
        with urllib.request.urlopen(request) as answer:  # noqa: S310 http, as written above
            assert answer.status == 201
        return digest(body)


def skopeo(*words: str) -> str:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *words],
        capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def archive(files: dict[str, bytes]) -> bytes:
    """Return a tar archive."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o755
            tar.addfile(info, io.BytesIO(content))
    return plain.getvalue()


class Layout:
    """An OCI image layout that tests write blob by blob, hostile ones too."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "blobs/sha256").mkdir(parents=True)
        (directory / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        self._manifests: list[dict[str, Any]] = []

    def blob(self, data: bytes, media_type: str) -> dict[str, Any]:
        """Store *data*; return its descriptor."""
        (self.directory / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def image(
        self,
        tag: str,
        *layers: dict[str, bytes],
        architecture: str = GOARCH[MACHINE],
        **config: Any,
    ) -> dict[str, Any]:
        """Add an image with these files; return the manifest's descriptor."""
        tars = [archive(files) for files in layers]
        blobs = [gzip.compress(tar, 1, mtime=0) for tar in tars]
        made = {
            "architecture": architecture,
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [digest(tar) for tar in tars]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}.manifest.v1+json",
            "config": self.blob(json.dumps(made).encode(), f"{OCI}.config.v1+json"),
            "layers": [self.blob(b, f"{OCI}.layer.v1.tar+gzip") for b in blobs],
        }
        described = self.blob(json.dumps(manifest).encode(), f"{OCI}.manifest.v1+json")
        if tag:
            self.name(tag, described)
        return described

    def name(self, tag: str, described: dict[str, Any]) -> None:
        """Give a manifest a name in index.json."""
        named = {**described, "annotations": {"org.opencontainers.image.ref.name": tag}}
        self._manifests.append(named)
        index = {"schemaVersion": 2, "manifests": self._manifests}
        (self.directory / "index.json").write_text(json.dumps(index))

    def index(self, tag: str, *entries: tuple[dict[str, Any], str]) -> dict[str, Any]:
        """Add an index of (manifest, "os/arch[/variant]" or "")."""
        listed = []
        for described, platform in entries:
            words = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
            listed.append({**described, **({"platform": words} if platform else {})})
        body = {"schemaVersion": 2, "mediaType": f"{OCI}.index.v1+json", "manifests": listed}
        described = self.blob(json.dumps(body).encode(), f"{OCI}.index.v1+json")
        self.name(tag, described)
        return described

    def read(self, blob: str) -> Any:
        """Return a blob's JSON."""
        return json.loads((self.directory / "blobs/sha256" / blob[7:]).read_bytes())

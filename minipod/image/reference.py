"""Image names, by the grammar of the distribution project (docs/spec: reference) and Docker's short forms.

    reference := [domain "/"] path [":" tag] ["@" digest]

`busybox` means docker.io/library/busybox:latest, `team/app` docker.io/team/app:latest; a first word is
a domain when it has a dot or a colon, is `localhost`, or is not lower case. Pure functions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from minipod.errors import ImageError

DEFAULT_DOMAIN = "docker.io"
LEGACY_DOMAIN = "index.docker.io"
OFFICIAL_PREFIX = "library/"
DEFAULT_TAG = "latest"
MAX_NAME = 255  # of domain and path together

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH = rf"{_COMPONENT}(?:/{_COMPONENT})*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_TAG = r"[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?P<domain>{_DOMAIN})/(?P<path>{_PATH})(?::(?P<tag>{_TAG}))?(?:@(?P<digest>{_DIGEST}))?"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_DIGEST_LENGTHS = {"sha256": 64, "sha384": 96, "sha512": 128}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One image name, normalised: tag and digest are "" when not given, but never both."""

    domain: str
    path: str
    tag: str = ""
    digest: str = ""

    @property
    def name(self) -> str:
        """The repository: domain and path."""
        return f"{self.domain}/{self.path}"

    def canonical(self) -> str:
        """Return the full name, as the store keeps it: docker.io/library/busybox:1.36."""
        return self.name + self._suffix()

    def familiar(self) -> str:
        """Return the short name that people type: busybox:1.36."""
        if self.domain != DEFAULT_DOMAIN:
            return self.canonical()
        return self.path.removeprefix(OFFICIAL_PREFIX) + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")


def parse(text: str) -> Reference:
    """Parse *text*; a name without tag and digest gets the tag `latest`. Raises ImageError."""
    if not text:
        raise _invalid(text, "repository name must have at least one component")
    if _IDENTIFIER.fullmatch(text):
        raise _invalid(text, "cannot specify 64-byte hexadecimal strings")
    domain, rest = _split_domain(text)
    repository = rest.partition(":")[0]
    if repository != repository.lower():
        raise _invalid(text, f"repository name ({repository}) must be lowercase")
    match = _REFERENCE.fullmatch(f"{domain}/{rest}")
    if match is None:
        raise _invalid(text, "invalid reference format")
    name, digest = f"{match['domain']}/{match['path']}", match["digest"] or ""
    if len(name) > MAX_NAME:
        raise _invalid(text, f"repository name must not be more than {MAX_NAME} characters")
    if digest:
        _check_digest(text, digest)
    tag = match["tag"] or ("" if digest else DEFAULT_TAG)
    return Reference(domain=match["domain"], path=match["path"], tag=tag, digest=digest)


def _split_domain(text: str) -> tuple[str, str]:
    """Return domain and remainder; what is not clearly a domain is part of a docker.io path."""
    first, slash, rest = text.partition("/")
    if not slash:
        return DEFAULT_DOMAIN, OFFICIAL_PREFIX + text
    is_domain = first == "localhost" or "." in first or ":" in first or first != first.lower()
    domain, path = (first, rest) if is_domain else (DEFAULT_DOMAIN, text)
    if domain == LEGACY_DOMAIN:
        domain = DEFAULT_DOMAIN
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = OFFICIAL_PREFIX + path
    return domain, path


def _check_digest(text: str, digest: str) -> None:
    algorithm, _, value = digest.partition(":")
    length = _DIGEST_LENGTHS.get(algorithm)
    if length is None:
        raise _invalid(text, "unsupported digest algorithm")
    if len(value) != length:
        raise _invalid(text, "invalid checksum digest length")
    if value != value.lower():
        raise _invalid(text, "invalid checksum digest format")


def _invalid(text: str, why: str) -> ImageError:
    shown = text.encode("unicode_escape").decode().replace('"', '\\"')
    return ImageError(
        f'couldn\'t parse image name "{shown}": {why}',  # the kubelet's words (parsers.go)
        reason="InvalidImageName",
        hint="a name looks like [registry[:port]/]path[:tag][@sha256:digest]",
    )

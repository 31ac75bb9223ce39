"""Image names by tables: what is accepted and how it is normalised, what is refused and with which words."""

import pytest

from minipod.errors import ImageError
from minipod.image import reference

HEX = "0123456789abcdef" * 4
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "canonical", "familiar"),
    [
        ("busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("team/app", "docker.io/team/app:latest", "team/app:latest"),
        ("docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox:latest"),
        ("index.docker.io/team/app:1", "docker.io/team/app:1", "team/app:1"),
        ("localhost/app", "localhost/app:latest", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app:latest"),
        ("reg.example/app", "reg.example/app:latest", "reg.example/app:latest"),
        ("REG/app", "REG/app:latest", "REG/app:latest"),
        ("reg:5000/a/b/c:v1", "reg:5000/a/b/c:v1", "reg:5000/a/b/c:v1"),
        ("[2001:db8::1]:5000/app:1", "[2001:db8::1]:5000/app:1", "[2001:db8::1]:5000/app:1"),
        ("xn--n3h.example/app", "xn--n3h.example/app:latest", "xn--n3h.example/app:latest"),
        (f"busybox@{DIGEST}", f"docker.io/library/busybox@{DIGEST}", f"busybox@{DIGEST}"),
        (f"app:1@{DIGEST}", f"docker.io/library/app:1@{DIGEST}", f"app:1@{DIGEST}"),
        ("a__b/c-d--e.f_g", "docker.io/a__b/c-d--e.f_g:latest", "a__b/c-d--e.f_g:latest"),
        ("app:_x.Y-z", "docker.io/library/app:_x.Y-z", "app:_x.Y-z"),
        (f"app:{'t' * 128}", f"docker.io/library/app:{'t' * 128}", f"app:{'t' * 128}"),
        (HEX[:-1], f"docker.io/library/{HEX[:-1]}:latest", f"{HEX[:-1]}:latest"),
        ("team.app", "docker.io/library/team.app:latest", "team.app:latest"),
    ],
)
def test_a_name_is_normalised(text, canonical, familiar):
    parsed = reference.parse(text)
    assert (parsed.canonical(), parsed.familiar()) == (canonical, familiar)
    assert reference.parse(parsed.canonical()) == parsed
    assert reference.parse(parsed.familiar()) == parsed


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "at least one component"),
        (HEX, "64-byte hexadecimal"),
        ("Busybox", "must be lowercase"),
        ("reg.example/Team/app", "must be lowercase"),
        ("a//b", "invalid reference format"),
        ("/app", "invalid reference format"),
        ("app/", "invalid reference format"),
        ("-app", "invalid reference format"),
        ("app-", "invalid reference format"),
        ("a___b", "invalid reference format"),
        ("a..b", "invalid reference format"),
        ("app:", "invalid reference format"),
        ("app:-x", "invalid reference format"),
        (f"app:{'t' * 129}", "invalid reference format"),
        ("app:1:2", "invalid reference format"),
        ("app@", "invalid reference format"),
        ("app@sha256:0123", "invalid reference format"),
        (f"app@sha256:{HEX[:-1]}", "invalid checksum digest length"),
        (f"app@sha256:{HEX.upper()}", "invalid checksum digest format"),
        (f"app@md5:{HEX[:32]}", "unsupported digest algorithm"),
        ("app name", "invalid reference format"),
        ("app\n", "invalid reference format"),
        ("äpp", "invalid reference format"),
        ("https://reg.example/app", "invalid reference format"),
        ("-reg.example/app", "invalid reference format"),
        ("reg.example:port/app", "invalid reference format"),
        (f"reg.example/{'a/' * 130}a", "not be more than 255 characters"),
    ],
)
def test_what_is_no_name_is_refused_with_the_kubelets_reason(text, why):
    with pytest.raises(ImageError, match=why) as caught:
        reference.parse(text)
    assert caught.value.reason == "InvalidImageName"
    assert caught.value.message.startswith("couldn't parse image name")

"""What a client wants to get (Accept): plain objects, tables of them, or their metadata alone; in JSON or YAML."""

from __future__ import annotations

from dataclasses import dataclass

from minipod.apiserver.status import ApiError

JSON, YAML = "application/json", "application/yaml"


@dataclass(frozen=True, slots=True)
class Wanted:
    """The form of the answer. *form*: "" (objects), Table, PartialObjectMetadata, APIGroupDiscoveryList."""

    media: str = JSON
    form: str = ""
    version: str = "v1"  # of the form


_PLAIN = Wanted()


def negotiate(accept: str, forms: tuple[str, ...] = ("Table", "PartialObjectMetadata")) -> Wanted:
    """Return the first form of *accept* that we have; no header asks for JSON. Raises ApiError 406."""
    if accept in ("", "*/*", JSON):  # most
        return _PLAIN
    for clause in accept.split(","):
        media, *parameters = [part.strip() for part in clause.split(";")]
        given = dict(p.partition("=")[::2] for p in parameters)
        if media in ("", "*/*", "application/*", JSON, YAML):
            form = (
                given.get("as", "").removesuffix("List")
                if "Discovery" not in given.get("as", "")
                else given["as"]
            )
            if form and form not in forms:
                continue
            return Wanted(
                YAML if media == YAML else JSON, form, given.get("v", "v1") if form else "v1"
            )
    raise ApiError(406, f"only the following media types are accepted: {JSON}, {YAML}")

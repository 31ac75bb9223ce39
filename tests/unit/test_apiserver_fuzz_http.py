"""Every operation of our own OpenAPI with random queries and bodies: an answer each time, never a 5xx, never a stack trace."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.apiserver import Server

ROUNDS = 4

WORDS = [
    "",
    "a",
    "A/b",
    "..",
    "\0",
    "é",
    "x" * 300,
    "1Gi",
    "-1",
    "true",
    "2026-01-01T00:00:00Z",
    "default",
    "{}",
]
QUERIES = {
    "labelSelector": ["a=b", "a in (b", "!", "a>1", "é", ",", "a=b,"],
    "fieldSelector": ["metadata.name=a", "x=y", "=", "metadata.name!=,", "\\"],
    "limit": ["1", "-1", "x", "99999999999999999999"],
    "continue": ["x", "e30", "bnVsbA", "W10"],
    "resourceVersion": ["0", "1", "-1", "x"],
    "dryRun": ["All", "x", ""],
    "fieldValidation": ["Strict", "Warn", "Ignore", "x"],
    "fieldManager": ["a", "x" * 200, "\n"],
    "force": ["true", "x"],
    "gracePeriodSeconds": ["0", "-5", "x", "9" * 30],
    "propagationPolicy": ["Orphan", "Foreground", "x"],
}
MEDIA = [
    "application/json", "application/yaml", "application/vnd.kubernetes.protobuf", "application/json-patch+json",
    "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml", "text/html", "",
]  # fmt: skip


ACCEPTED = [
    "application/json", "application/json;as=Table;v=v1;g=meta.k8s.io", "application/yaml",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io", "application/vnd.kubernetes.protobuf,*/*",
]  # fmt: skip


class Maker:
    """Random objects along a schema, often wrong."""

    def __init__(self, definitions: dict[str, Any], seed: int) -> None:
        self._definitions = definitions
        self.random = random.Random(seed)  # noqa: S311 the same input each time

    def value(self, schema: dict[str, Any], depth: int = 0) -> Any:
        if self.random.random() < 0.06:
            return self.random.choice(
                [None, True, 7, 1.5, "x", [], {}, [None], {"x": {}}, -(1 << 70)]
            )
        if "$ref" in schema:
            return self.value(
                self._definitions[schema["$ref"].removeprefix("#/definitions/")], depth
            )
        kind = schema.get("type")
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return [
                self.value(schema["items"], depth + 1)
                for _ in range(self.random.randint(0, 2) if depth < 6 else 0)
            ]
        if kind == "integer":
            return self.random.choice([0, 1, -1, 80, 1 << 31, 1 << 63])
        return self.random.random() < 0.5 if kind == "boolean" else self.random.choice(WORDS)

    def _object(self, schema: dict[str, Any], depth: int) -> dict[str, Any]:
        if "additionalProperties" in schema:
            count = self.random.randint(0, 2)
            return {
                self.random.choice(WORDS): self.value(schema["additionalProperties"], depth + 1)
                for _ in range(count)
            }
        fields = schema.get("properties", {})
        share = 0.9 if depth < 1 else 0.5 if depth < 3 else 0.12
        made = {
            n: self.value(s, depth + 1) for n, s in fields.items() if self.random.random() < share
        }
        if depth == 0:
            made.pop("apiVersion", None)
            made.pop("kind", None)
            made["metadata"] = {"name": "a"} if self.random.random() < 0.7 else made.get("metadata")
        return made


@pytest.fixture
async def server(tmp_path):
    async with Server(tmp_path) as made:
        yield made


@pytest.mark.parametrize("seed", range(ROUNDS))
async def test_no_operation_fails_by_itself(server, seed) -> None:
    document = (await server.call("GET", "/openapi/v2")).json
    maker = Maker(document["definitions"], seed)
    for path, item in document["paths"].items():
        target = path.replace("{namespace}", "default").replace(
            "{name}", maker.random.choice(["a", "a", "b%2f", "%00"])
        )
        kind = next(v for k, v in item.items() if k != "parameters")[
            "x-kubernetes-group-version-kind"
        ]["kind"]
        schema = next(s for n, s in document["definitions"].items() if n.endswith(f".{kind}"))
        for method, operation in item.items():
            if method == "parameters":
                continue
            body: Any = None
            media = ["application/json"]
            if method in ("post", "put", "patch", "delete"):
                body = json.dumps(maker.value(schema)).encode()
                if maker.random.random() < 0.2:
                    body = bytes(maker.random.randrange(256) for _ in range(40))
                media = MEDIA
            names = [
                p["name"]
                for p in operation.get("parameters", [])
                if p["in"] == "query" and p["name"] != "watch"
            ]
            chosen = {
                n: maker.random.choice(QUERIES[n]) for n in names if maker.random.random() < 0.15
            }
            url = f"http://x{target}"
            headers = {
                "Content-Type": maker.random.choice(media),
                "Accept": maker.random.choice(ACCEPTED),
            }
            async with server.session.request(
                method, url, params=chosen, data=body, headers=headers
            ) as answer:
                text = await answer.text()
                assert answer.status < 500 or answer.status == 504, (
                    method,
                    url,
                    chosen,
                    headers,
                    body,
                    text,
                )
                assert "Traceback" not in text

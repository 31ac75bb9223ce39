"""metav1.LabelSelector against labels: an empty selector selects everything, a missing one nothing
(apimachinery/pkg/apis/meta/v1/helpers.go).
"""

from __future__ import annotations

from typing import Any

Labels = dict[str, str]


def matches(selector: dict[str, Any] | None, labels: Labels) -> bool:
    """Whether *selector* selects an object with these labels."""
    if selector is None:
        return False
    wanted = selector.get("matchLabels") or {}
    return all(labels.get(k) == v for k, v in wanted.items()) and all(
        _fits(e, labels) for e in selector.get("matchExpressions") or ()
    )


def _fits(expression: dict[str, Any], labels: Labels) -> bool:
    key, values = expression.get("key", ""), expression.get("values") or []
    match expression.get("operator"):
        case "In":
            return labels.get(key) in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return False

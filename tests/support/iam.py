"""IAM's decision about a request, for the elements that infra's policies use; raises for what it does not know."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

KNOWN = {"Sid", "Effect", "Action", "NotAction", "Resource", "Condition"}


@dataclass(frozen=True)
class Request:
    """One action on one resource. context: condition keys of the request, as AWS documents them for the action."""

    action: str
    resource: str
    context: Mapping[str, str] = field(default_factory=dict)


def allowed(policies: list[dict[str, Any]], request: Request) -> bool:
    """True if a statement allows the request and none denies it."""
    effects = {
        statement["Effect"]
        for policy in policies
        for statement in policy["Statement"]
        if _applies(statement, request)
    }
    return "Allow" in effects and "Deny" not in effects


def _applies(statement: dict[str, Any], request: Request) -> bool:
    if unknown := set(statement) - KNOWN:
        raise NotImplementedError(f"{sorted(unknown)} in a statement")
    named = statement.get("Action", statement.get("NotAction"))
    if _matches(named, request.action, re.IGNORECASE) == ("NotAction" in statement):
        return False
    return _matches(statement["Resource"], request.resource) and all(
        _holds(operator, key, values, request.context)
        for operator, tests in statement.get("Condition", {}).items()
        for key, values in tests.items()
    )


def _holds(operator: str, key: str, values: Any, context: Mapping[str, str]) -> bool:
    wanted = [values] if isinstance(values, str) else values
    given = context.get(key)
    match operator:
        case "StringEquals" | "Bool":
            return given is not None and given in wanted
        case "StringNotEquals":  # holds for a key that is not there, as negated operators do
            return given not in wanted
    raise NotImplementedError(operator)


def _matches(patterns: Any, text: str, flags: int = 0) -> bool:
    patterns = [patterns] if isinstance(patterns, str) else patterns
    wild = (re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".") for pattern in patterns)
    return any(re.fullmatch(pattern, text, flags) for pattern in wild)

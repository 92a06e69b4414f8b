"""Reader of the C2PA manifest of an untrusted file, for `pipelines.provenance.inspect_child`.

C2PA's library reports JSON, which is read with bounds. A manifest that breaks the library or the bounds is unreadable,
whoever signed it.
"""

from __future__ import annotations

import json
from typing import Any

from pipelines.provenance import hostile_json, signing

_MOST_FACTS = 300_000
"""Longest assertion of v2a that is returned, in characters of JSON."""

_BROKEN = (hostile_json.Hostile, KeyError, TypeError, ValueError, AttributeError, RecursionError)


def read_manifest(file: Any, manifest: bytes | None, trust: str) -> tuple[dict[str, Any] | None, str]:
    """Fields of `inspection.Signed` or None, and the reason if the manifest cannot be read.

    file: the open film. manifest: a manifest to check it against, instead of the one inside. trust: certificates, PEM.
    """
    import c2pa

    settings = signing.SETTINGS | ({"trust": {"trust_anchors": trust}} if trust else {})
    try:
        context = c2pa.Context.from_dict(settings)
        reader = (
            _embedded(c2pa, file, context)
            if manifest is None
            else c2pa.Reader(None, file, manifest, context=context)
        )
        if reader is None:
            return None, ""
        return _signed(
            hostile_json.parse_object(reader.json()), hostile_json.parse_object(reader.crjson())
        ), ""
    except c2pa.C2paError as error:
        return None, str(error)[:1000] or "damaged"
    except _BROKEN as error:
        return None, f"not a manifest that v2a reads ({type(error).__name__}: {str(error)[:300]})"


def _embedded(c2pa: Any, file: Any, context: Any) -> Any:
    """Reader of the manifest in the file, or None if there is none."""
    try:
        return c2pa.Reader.try_create(None, file, context=context)
    except c2pa.C2paError.NotSupported:
        return None  # such a container carries no manifest


def _signed(report: dict[str, Any], details: dict[str, Any]) -> dict[str, Any]:
    """Fields of `inspection.Signed` from both of C2PA's reports."""
    label = str(report["active_manifest"])
    active = report["manifests"][label]
    results = (report.get("validation_results") or {}).get("activeManifest") or {}
    codes = [str(failure.get("code")) for failure in results.get("failure", [])]
    state = report.get("validation_state")
    if state not in ("Valid", "Trusted") and not codes:
        codes = ["invalid"]
    names = active.get("signature_info") or {}
    facts: Any = {}
    source_type = signed_at = ""
    for assertion in active.get("assertions", []):
        name, data = str(assertion.get("label")), assertion.get("data")
        if name == signing.ASSERTION and isinstance(data, dict):
            if len(json.dumps(data)) > _MOST_FACTS:
                raise hostile_json.Hostile("v2a's assertion is too large")
            facts = data
        elif name.startswith("c2pa.actions") and isinstance(data, dict):
            for action in data.get("actions", []):
                source_type = str(action.get("digitalSourceType") or source_type)
                signed_at = str(action.get("when") or signed_at)
    certificate = _certificate(details, label)
    validity = certificate.get("validity") or {}
    return {
        "facts": facts,
        "label": label[:200],
        "signer": ", ".join(str(names[k])[:200] for k in ("common_name", "issuer") if names.get(k)),
        "serial": str(names.get("cert_serial_number") or "")[:100],
        "source_type": source_type[:200],
        "failures": [code[:100] for code in codes if not code.startswith(_ABOUT_TRUST)][:50],
        "trusted": "signingCredential.trusted" in [s.get("code") for s in results.get("success", [])],
        "expired": "signingCredential.expired" in codes,
        "signed_at": signed_at[:40],
        "valid_from": str(validity.get("notBefore", ""))[:40],
        "valid_to": str(validity.get("notAfter", ""))[:40],
    }


_ABOUT_TRUST = ("signingCredential.untrusted", "signingCredential.expired")
"""Failures that say nothing about the file: C2PA's library calls an expired certificate untrusted as well."""


def _certificate(details: dict[str, Any], label: str) -> dict[str, Any]:
    """The signer's certificate in C2PA's second report."""
    for manifest in details.get("manifests", []):
        if manifest.get("label") == label:
            found = (manifest.get("signature") or {}).get("certificateInfo") or {}
            return found if isinstance(found, dict) else {}
    return {}

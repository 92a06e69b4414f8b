"""Known vulnerabilities of the locked packages, by pip-audit: `python .ci/audit.py UV LOCK...`.

Ends with 1 where there are any. Without a network, or where the index knows nothing of vulnerabilities, it says so and
ends with 0: a build must not depend on it. IGNORED names what is known and cannot be helped, with the reason.
"""

from __future__ import annotations

import json
import subprocess
import sys

PIP_AUDIT = "pip-audit==2.10.1"

IGNORED: dict[str, str] = {}
"""Vulnerability id: why it does not concern v2a, or what stands against the fixed version."""

TIMEOUT_S = 180


def main(uv: str, locks: list[str]) -> int:
    command = [uv, "tool", "run", "--quiet", "--from", PIP_AUDIT, "pip-audit", "--disable-pip", "--no-deps"]
    command += ["--progress-spinner", "off", "--format", "json", "--timeout", "10"]
    for lock in locks:
        command += ["--requirement", lock]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        print(f"dependencies: not audited ({type(error).__name__}); is there a network?")
        return 0
    return tell(packages)


def tell(packages: list[dict]) -> int:
    """Says what pip-audit found; 1 if anything that is not ignored."""
    known = [package for package in packages if "skip_reason" not in package]
    found = 0
    for package in known:
        for hole in package["vulns"]:
            names = {hole["id"], *hole.get("aliases", ())}
            if reason := next((IGNORED[name] for name in names if name in IGNORED), ""):
                print(f"{package['name']} {package['version']}: {hole['id']} is ignored: {reason}")
                continue
            found += 1
            fix = ", ".join(hole["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {hole['id']}, fixed by {fix}")
    unknown = len(packages) - len(known)
    print(f"dependencies: {len(known)} audited, {found} vulnerabilities" + (
        f"; the index could not tell of {unknown}" if unknown else ""
    ))  # fmt: skip
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))

"""Known vulnerabilities of the locked packages, by pip-audit: `python .ci/audit.py LOCK...`.

Ends with 1 where there are any that IGNORED does not name with a reason. A package that the index of vulnerabilities
does not know counts as not audited. An audit that could not be done says AUDIT NOT DONE. In CI (CI=true) it fails the
build, unless V2A_AUDIT=offline says that this machine reaches no such index; elsewhere it only says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence

AUDITOR = (sys.executable, "-m", "pip_audit")

IGNORED: dict[str, str] = {}
"""Vulnerability id: why it does not concern v2a, or what stands against the fixed version."""

TIMEOUT_S = 300


def main(locks: Sequence[str], environment: Mapping[str, str], auditor: Sequence[str] = AUDITOR) -> int:
    """Exit code of an audit of lock files."""
    switch = environment.get("V2A_AUDIT", "")
    if switch not in ("", "offline"):
        print(f"V2A_AUDIT is {switch!r}: leave it out, or say offline where no such index is reached")
        return 2
    if switch == "offline":
        print(
            "AUDIT NOT DONE: V2A_AUDIT=offline. Nobody has looked for known vulnerabilities of the locked packages;"
        )
        print("  run `make lint` without it on a machine that reaches the index, before you release.")
        return 0
    command = [*auditor, "--disable-pip", "--require-hashes", "--progress-spinner", "off", "--format", "json"]
    command += ["--timeout", "10"]
    for lock in locks:
        command += ["--requirement", lock]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError) as error:
        return not_done(f"{type(error).__name__} from pip-audit; is there a network?", environment)
    found, unknown = tell(packages)
    if found:
        return 1
    if unknown or not packages:
        return not_done(
            f"the index could not tell of {len(unknown)} of {len(packages)} packages", environment
        )
    return 0


def tell(packages: Sequence[Mapping]) -> tuple[int, list[str]]:
    """Prints what pip-audit found: the number of vulnerabilities that are not ignored, the names not audited."""
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
    print(f"dependencies: {len(known)} audited, {found} vulnerabilities")
    return found, [str(package["name"]) for package in packages if "skip_reason" in package]


def not_done(reason: str, environment: Mapping[str, str]) -> int:
    """Says that there was no audit; 1 in CI, where nobody would read it."""
    print(f"AUDIT NOT DONE: {reason}")
    if environment.get("CI", "").lower() not in ("", "0", "false"):
        print(
            "  CI does not pass without an audit. Where no index can be reached on purpose, set V2A_AUDIT=offline."
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))

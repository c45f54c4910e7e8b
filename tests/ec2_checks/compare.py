"""Lays the verdicts of several backends side by side: `python -m ec2_checks.compare NAME=FILE...`, with the files that
`--json` wrote, or what the other client, cloud-aws/tests/ec2_checks, printed. A check that passes here and fails there is
named.
"""

import json
import sys
from pathlib import Path

Verdicts = dict[str, str | None]
TITLE = "EC2 checks, by boto3 unless said"


def main(arguments: list[str]) -> int:
    verdicts: dict[str, Verdicts] = {}
    for argument in arguments:
        backend, _, file = argument.partition("=")
        text = Path(file).read_text(encoding="utf-8")
        verdicts[backend] = json.loads(text) if file.endswith(".json") else printed(text)
    print("\n".join(table(verdicts)))
    found = differences(verdicts)
    print("\n".join(found), file=sys.stderr)
    return 1 if found or any(failure for one in verdicts.values() for failure in one.values()) else 0


def printed(text: str) -> Verdicts:
    """The verdicts of a test program in Rust, which prints a line a check and what is wrong at the end."""
    verdicts: Verdicts = {}
    for line in text.splitlines():
        test, _, verdict = line.partition(" ... ")
        if verdict:
            verdicts[test.removeprefix("test ")] = None if verdict == "ok" else "failed"
        if line.startswith("FAILED "):
            check, _, failure = line.removeprefix("FAILED ").partition(": ")
            verdicts[check] = failure
    return verdicts


def table(verdicts: dict[str, Verdicts]) -> list[str]:
    """Counts by backend."""
    width = max(len(backend) for backend in [*verdicts, TITLE])
    lines = [f"{TITLE:<{width}}  checks  passed  failed"]
    for backend, one in verdicts.items():
        failed = sum(1 for failure in one.values() if failure)
        lines.append(f"{backend:<{width}}  {len(one):6}  {len(one) - failed:6}  {failed:6}")
    return lines


def differences(verdicts: dict[str, Verdicts]) -> list[str]:
    """Checks that pass on some of the backends that ran them and fail on others."""
    lines = []
    for check in sorted({check for one in verdicts.values() for check in one}):
        seen = {backend: one[check] for backend, one in verdicts.items() if check in one}
        failing = {backend: failure for backend, failure in seen.items() if failure}
        if failing and len(failing) < len(seen):
            passing = ", ".join(backend for backend in seen if backend not in failing)
            lines.append(f"DIFFERENT {check}: passes on {passing}")
            lines += [f"     {backend}: {failure}" for backend, failure in failing.items()]
    return lines


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

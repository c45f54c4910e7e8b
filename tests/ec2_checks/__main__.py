"""Runs a table of checks against one endpoint and prints what was seen where it is not what was expected."""

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ec2_checks.region import CHECKS, Mismatch, Region
from ec2_checks.table import LISTS, Line, read

SUBJECTS = ["networks", "launches", "interfaces", "interface_types", "attachments", "addresses", "prefixes", "ipv6", "admin"]


def main() -> int:
    options = argparse.ArgumentParser(prog="ec2_checks", description=__doc__)
    options.add_argument("--endpoint", required=True, help="where EC2 answers, as a URL")
    options.add_argument(
        "--table",
        choices=["all", "stock", "ipv6", "admin"],
        default="all",
        help="all: checks.tsv; stock: those that LocalStack passes without our package; ipv6, admin: lists of that name",
    )
    options.add_argument("--admin", default="", help="the host and port of the admin listener, for the table admin")
    options.add_argument("--only", default="", help="run the checks whose id contains this")
    options.add_argument("--verbose", action="store_true", help="name the checks that pass, too")
    options.add_argument("--at-once", type=int, default=8, help="how many checks run at the same time")
    options.add_argument("--json", type=Path, help="a file for the verdicts, for ec2_checks.compare")
    arguments = options.parse_args()

    for subject in SUBJECTS:
        importlib.import_module(f"ec2_checks.{subject}")
    tables = {name: read(file) for name, file in LISTS.items()}
    listed = {check for table in tables.values() for check in table}
    if listed != set(CHECKS):
        print(f"the lists and the code differ: {sorted(listed ^ set(CHECKS))}", file=sys.stderr)
        return 2
    tables["stock"] = {name: line for name, line in tables["all"].items() if line.stock}
    table = tables[arguments.table]

    started = time.monotonic()
    region = Region(arguments.endpoint, arguments.admin)
    # Revisions and settings are the whole process's.
    at_once = 1 if arguments.table == "admin" else arguments.at_once
    verdicts = run(region, [name for name in table if arguments.only in name], at_once)
    report(table, verdicts, verbose=arguments.verbose)
    failed = sum(1 for failure in verdicts.values() if failure)
    print(f"{len(verdicts) - failed} passed, {failed} failed in {time.monotonic() - started:.1f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(verdicts, indent=1), encoding="utf-8")
    return 0 if failed == 0 and verdicts else 1


def run(region: Region, chosen: list[str], at_once: int) -> dict[str, str | None]:
    """What is wrong, or nothing, by check. EC2's transitions take time; checks that wait for them need not wait for each
    other."""
    with ThreadPoolExecutor(max_workers=at_once) as pool:
        return dict(zip(chosen, pool.map(lambda name: verdict(CHECKS[name], region), chosen), strict=True))


def report(table: dict[str, Line], verdicts: dict[str, str | None], *, verbose: bool) -> None:
    for name, failure in verdicts.items():
        line = table[name]
        if failure:
            print(f"FAIL {name} ({line.action}, {line.source}): {line.what}\n     {failure}")
        elif verbose:
            print(f"ok   {name}")


def verdict(check: Callable[[Region], None], region: Region) -> str | None:
    """What is wrong, or nothing. A check that breaks is a check that failed; the others still count."""
    try:
        check(region)
    except Mismatch as mismatch:
        return str(mismatch)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


sys.exit(main())

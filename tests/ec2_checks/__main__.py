"""Runs every check against one endpoint and prints what was seen where it is not what was expected."""

import argparse
import importlib
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from ec2_checks.region import CHECKS, Mismatch, Region, read_table

SUBJECTS = ["networks", "launches", "interfaces", "interface_types", "attachments", "addresses", "prefixes"]


def main() -> int:
    options = argparse.ArgumentParser(prog="ec2_checks", description=__doc__)
    options.add_argument("--endpoint", required=True, help="where EC2 answers, as a URL")
    options.add_argument("--only", default="", help="run the checks whose id contains this")
    options.add_argument("--verbose", action="store_true", help="name the checks that pass, too")
    options.add_argument("--at-once", type=int, default=8, help="how many checks run at the same time")
    arguments = options.parse_args()

    for subject in SUBJECTS:
        importlib.import_module(f"ec2_checks.{subject}")
    table = read_table()
    if set(table) != set(CHECKS):
        print(f"checks.tsv and the code differ: {sorted(set(table) ^ set(CHECKS))}", file=sys.stderr)
        return 2

    region = Region(arguments.endpoint)
    chosen = [name for name in CHECKS if arguments.only in name]
    started = time.monotonic()
    # EC2's transitions take time; checks that wait for them need not wait for each other.
    with ThreadPoolExecutor(max_workers=arguments.at_once) as pool:
        verdicts = dict(zip(chosen, pool.map(lambda name: verdict(CHECKS[name], region), chosen)))
    for name, failure in verdicts.items():
        line = table[name]
        if failure:
            print(f"FAIL {name} ({line.action}, {line.source}): {line.what}\n     {failure}")
        elif arguments.verbose:
            print(f"ok   {name}")
    failed = sum(1 for failure in verdicts.values() if failure)
    passed = len(verdicts) - failed
    print(f"{passed} passed, {failed} failed in {time.monotonic() - started:.1f} s")
    return 0 if failed == 0 and passed > 0 else 1


def verdict(check, region) -> str | None:
    """What is wrong, or nothing. A check that breaks is a check that failed; the others still count."""
    try:
        check(region)
    except Mismatch as mismatch:
        return str(mismatch)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


sys.exit(main())

"""`hearth selftest`: every check with its time; status 1 when one failed."""

from __future__ import annotations

import sys

import click
import msgspec

from appliance import selftest as trials
from appliance.cli.settings import SET_OPTION


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@SET_OPTION
def selftest(as_json: bool, assignments: tuple[str, ...]) -> None:
    """Start a server in a home of its own, ask it on every surface, and look that nothing leaves the machine.

    Needs no network, changes nothing in your home, and ends with status 1 when something does not work here.
    """
    checks = []
    for check in trials.run(assignments):
        checks.append(check)
        if not as_json:
            print(f"{'✗' if check.problem else '✓'} {check.name:76} {check.seconds:6.2f} s")
            if check.problem:
                print(f"    {check.problem}")
    failed = [check for check in checks if check.problem]
    if as_json:
        print(msgspec.json.encode([check._asdict() for check in checks]).decode())
    else:
        print(f"{len(checks) - len(failed)} of {len(checks)} checks hold")
    if failed:
        sys.exit(1)

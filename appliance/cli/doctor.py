"""`hearth doctor`: the findings, as text or JSON."""

from __future__ import annotations

import sys

import click
import msgspec

from appliance.admin import Finding
from appliance.cli.settings import SET_OPTION, load_settings, open_library
from appliance.doctor import examine

MARKS = {"ok": " ", "warning": "!", "problem": "✗"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
@SET_OPTION
def doctor(as_json: bool, assignments: tuple[str, ...]) -> None:
    """Look at this machine and say what is here, what fits and what is wrong.

    Ends with status 1 when something is wrong that keeps Hearth from working.
    """
    findings = []
    section = ""
    for finding in examine(load_settings(assignments), open_library()):
        findings.append(finding)
        if not as_json:
            if finding.section != section:
                section = finding.section
                print(f"{section}")
            _print(finding)
    if as_json:
        print(msgspec.json.encode(findings).decode())
    if any(finding.level == "problem" for finding in findings):
        sys.exit(1)


def _print(finding: Finding) -> None:
    print(f" {MARKS[finding.level]} {finding.label:28} {finding.text}")
    if finding.advice:
        print(f"   {'':28} → {finding.advice}")

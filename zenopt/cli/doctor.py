"""``zenopt doctor``."""

from __future__ import annotations

import sys

import click

from zenopt.cli.options import json_option, print_json, wrapped
from zenopt.core.words import plural


@click.command()
@click.option("--storage", metavar="URL", help="Also open this storage; nothing is created in it.")
@json_option
def doctor(storage: str | None, as_json: bool) -> None:
    """Check environment, packages, devices and storage; exit code 1 if something will fail.

    \b
    zenopt doctor
    zenopt doctor --storage postgresql://user@host/db
    """
    from zenopt.cli.health import examine

    findings = []
    for finding in examine(storage):
        findings.append(finding)
        if not as_json:
            mark = {"ok": "ok  ", "info": "-   ", "bad": "FAIL"}[finding.status]
            remedy = f" ({finding.remedy})" if finding.remedy else ""
            click.echo(wrapped(f"{mark}  {finding.area:<8}  {finding.text}{remedy}", indent_more=16))
    bad = [finding for finding in findings if finding.status == "bad"]
    if as_json:
        print_json({"findings": [finding.to_json() for finding in findings], "healthy": not bad})
    else:
        click.echo()
        click.echo(f"{plural(len(bad), 'problem')} found." if bad else "All is well.")
    if bad:
        sys.exit(1)

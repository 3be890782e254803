"""``zenopt latency devices``."""

from __future__ import annotations

import click

from zenopt.cli.hints import say_next
from zenopt.cli.latency.shared import error_text, without_lists
from zenopt.cli.options import json_option, print_json, wrapped


@click.command()
@json_option
def devices(as_json: bool) -> None:
    """List device profiles: what they were made from, how good they are, where they are valid."""
    from zenopt.latency import list_profiles, load_profile

    profiles = [load_profile(name) for name in list_profiles()]
    if as_json:
        print_json(
            [
                {
                    "name": profile.name,
                    "device": profile.device,
                    "runtime": profile.runtime,
                    "batch": profile.batch,
                    "dtype": profile.dtype,
                    "model": profile.model["kind"],
                    "resolutions": list(profile.resolutions),
                    "data": without_lists(profile.data),
                    "errors": dict(profile.errors),
                    "validity": {key: list(value) for key, value in profile.validity.items()},
                    "notes": profile.notes,
                }
                for profile in profiles
            ]
        )
        return
    for profile in profiles:
        low, high = profile.resolutions
        sizes = f"{low} px" if low == high else f"{low} to {high} px"
        click.echo(
            wrapped(
                f"{profile.name}: {profile.device}, {profile.runtime}, batch {profile.batch}, {profile.dtype}, {sizes}"
            )
        )
        lines = [f"data: {profile.data['source']}"]
        if profile.data.get("left_out"):
            lines.append(f"left out: {profile.data['left_out']}")
        lines.append(error_text(str(profile.errors["protocol"]), profile.errors))
        ranges = [f"{key} {low:g} to {high:g}" for key, (low, high) in profile.validity.items()]
        if ranges:
            lines.append(f"valid: {', '.join(ranges)}")
        for line in [*lines, profile.notes]:
            click.echo(wrapped(line, "  "))
    say_next(
        (f"zenopt latency predict BUNDLE --device {profiles[0].name}", "what a network would take there")
    )

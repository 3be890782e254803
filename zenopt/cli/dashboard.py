"""``zenopt dashboard``."""

from __future__ import annotations

import click

from zenopt.cli.options import storage_option


@click.command()
@storage_option
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    help="Port; 0 takes any free one.",
)
@click.option(
    "--bundle", "bundles", multiple=True, metavar="FOLDER", help="Offer a bundle for download with its study."
)
@click.option(
    "--max-trials",
    "largest",
    type=click.IntRange(min=1),
    default=2000,
    show_default=True,
    help="Show larger studies by their best, latest and a sample of the rest.",
)
def dashboard(storage: str, port: int, bundles: tuple[str, ...], largest: int) -> None:
    """Serve the studies of a storage to a browser on this machine, until Ctrl-C.

    This is optuna-dashboard on 127.0.0.1 over a mirror of the studies, kept up to date. The storage itself is only
    read: what you write or delete in the browser is gone when the command ends.

    \b
    zenopt dashboard --storage sqlite:///zenopt.db
    zenopt dashboard --port 0 --bundle demo-bundle
    """
    import optuna

    from zenopt.dashboard.server import Dashboard
    from zenopt.storage import mask_password

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with Dashboard(storage, port, bundles=bundles, largest=largest) as server:
        click.echo(f"Showing {mask_password(storage)} at {server.address} (Ctrl-C ends it).")
        try:
            server.wait()
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)

"""``zenopt serve-storage``."""

from __future__ import annotations

import click

from zenopt.cli.options import storage_option


@click.command("serve-storage")
@storage_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(1, 65_535), default=13_000, show_default=True, help="Port to listen on."
)
def serve_storage(storage: str, host: str, port: int) -> None:
    """Serve a storage to workers that cannot reach its database (by gRPC, also to Optuna's own clients).

    It has no passwords: listen on 127.0.0.1 and tunnel, or on a private network.

    \b
    zenopt serve-storage --storage sqlite:///zenopt.db
    zenopt optimize --study demo --storage grpc://localhost:13000
    """
    from zenopt.storage.serving import serve
    from zenopt.study.study import open_existing

    open_existing(storage)
    click.echo(f"Serving on grpc://{host}:{port}. Ctrl-C stops.", err=True)
    serve(storage, host=host, port=port)

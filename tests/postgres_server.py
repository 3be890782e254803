"""A private PostgreSQL server for tests: own folder, own port, gone afterwards."""

from __future__ import annotations

import glob
import importlib.util
import os
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

from ports import free_port

#: Seconds in which a server begins or ends.
_PATIENCE = ("-t", "300")


def find_binaries() -> Path | None:
    """Return the folder with ``initdb`` and ``pg_ctl``, or None where no server is installed."""
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).resolve().parent
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb") + glob.glob("/opt/homebrew/bin/initdb"))
    return Path(found[-1]).parent if found else None


def why_unavailable() -> str | None:
    """Return why no server can be started here, or None where one can."""
    if find_binaries() is None:
        return "no PostgreSQL server binaries (initdb, pg_ctl) on this machine"
    if importlib.util.find_spec("psycopg") is None:
        return "the driver psycopg is not installed"
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            return "PostgreSQL refuses to run as root and there is no setpriv to change the user"
        if subprocess.run(["id", "postgres"], capture_output=True, check=False).returncode != 0:
            return "PostgreSQL refuses to run as root and there is no user 'postgres'"
    return None


class PostgresServer:
    """A PostgreSQL server on 127.0.0.1 that trusts every local connection."""

    def __init__(self) -> None:
        reason = why_unavailable()
        if reason is not None:
            raise RuntimeError(reason)
        self.port = free_port()
        # Not pytest's tmp_path: the user postgres must be able to enter every parent folder.
        self.folder = Path(tempfile.mkdtemp(prefix="zenopt-pg-", dir="/tmp"))
        self._as_user: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            self._as_user = ["setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups"]
        data = str(self.folder / "data")
        self._run(
            "initdb", "-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8", "-N"
        )
        self.start()

    def start(self) -> None:
        """Start the server and wait until it accepts connections."""
        options = f"-c listen_addresses=127.0.0.1 -p {self.port} -c unix_socket_directories={self.folder} -c fsync=off"
        log = str(self.folder / "log")
        self._run(
            "pg_ctl", "-D", str(self.folder / "data"), "-o", options, "-l", log, "-w", *_PATIENCE, "start"
        )

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; ``immediate`` is a crash, open transactions and connections are cut."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", mode, "-w", *_PATIENCE, "stop")

    def new_database(self) -> str:
        """Return the URL of an empty schema of its own: as good as a database for tests, and much cheaper."""
        import psycopg

        name = f"test_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(
            f"postgresql://postgres@127.0.0.1:{self.port}/postgres", autocommit=True
        ) as connection:
            connection.execute(f"CREATE SCHEMA {name}")
        return f"postgresql+psycopg://postgres@127.0.0.1:{self.port}/postgres?options=-csearch_path%3D{name}"

    def close(self) -> None:
        """Stop the server and remove its folder."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str) -> None:
        binaries = find_binaries()
        assert binaries is not None
        command = [*self._as_user, str(binaries / program), *arguments]
        # The server inherits stdout: captured through a pipe, the call would wait for the server to end.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, cwd="/tmp", check=False
            )
            if done.returncode != 0:
                output.seek(0)
                raise RuntimeError(f"{' '.join(command)} failed:\n{output.read().decode(errors='replace')}")

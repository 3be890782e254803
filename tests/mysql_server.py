"""A private MariaDB or MySQL server for tests: own folder, own port, gone afterwards."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from pathlib import Path

from ports import free_port


def why_unavailable() -> str | None:
    """Return why no server can be started here, or None where one can."""
    if shutil.which("mariadbd") is None or shutil.which("mariadb-install-db") is None:
        return "no MariaDB server binaries (mariadbd, mariadb-install-db) on this machine"
    if importlib.util.find_spec("pymysql") is None:
        return "the driver pymysql is not installed"
    return None


class MysqlServer:
    """A MariaDB server on 127.0.0.1; user ``root`` needs no password."""

    def __init__(self) -> None:
        reason = why_unavailable()
        if reason is not None:
            raise RuntimeError(reason)
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="zenopt-my-", dir="/tmp"))
        user = []
        if os.geteuid() == 0:
            shutil.chown(self.folder, "mysql", "mysql")
            user = ["--user=mysql"]
        data = [f"--datadir={self.folder}/data"]
        install = [
            "mariadb-install-db",
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            *user,
            *data,
        ]
        subprocess.run(install, check=True, capture_output=True)
        command = [
            "mariadbd",
            "--no-defaults",
            *user,
            *data,
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            f"--socket={self.folder}/socket",
            "--innodb-flush-log-at-trx-commit=0",
            "--skip-name-resolve",
        ]
        self._log = open(self.folder / "log", "wb")  # noqa: SIM115 (closed with the server)
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, cwd="/tmp")
        self._wait()

    def new_database(self) -> str:
        """Create an empty database and return its URL."""
        import pymysql

        name = f"test_{uuid.uuid4().hex[:12]}"
        with pymysql.connect(host="127.0.0.1", port=self.port, user="root") as connection:
            connection.cursor().execute(f"CREATE DATABASE {name}")
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{name}"

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self._process.kill()
        self._process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _wait(self) -> None:
        import pymysql

        deadline = time.monotonic() + 300
        while True:
            try:
                pymysql.connect(host="127.0.0.1", port=self.port, user="root").close()
                return
            except pymysql.err.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((self.folder / "log").read_text(errors="replace")) from error
                time.sleep(0.1)

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import optuna
import pytest

from zenopt.core.errors import StorageError, StudyError
from zenopt.storage import checkpoint, default_storage, mask_password, open_storage, parse_url
from zenopt.storage.sqlite import SqliteConnection
from zenopt.study.study import load_study


@pytest.mark.parametrize(
    ("text", "kind", "path"),
    [
        ("sqlite:///a.db", "sqlite", "a.db"),
        ("sqlite:////tmp/a.db", "sqlite", "/tmp/a.db"),
        ("a.db", "sqlite", "a.db"),
        ("/tmp/x/a.sqlite3", "sqlite", "/tmp/x/a.sqlite3"),
        ("journal:///a.log", "journal", "a.log"),
        ("journal:////tmp/a.log", "journal", "/tmp/a.log"),
        ("a.journal", "journal", "a.journal"),
        ("memory:", "memory", ""),
        ("sqlite:///:memory:", "memory", ""),
    ],
)
def test_files_and_memory(text: str, kind: str, path: str) -> None:
    parsed = parse_url(text)
    assert (parsed.kind, parsed.path) == (kind, path)


def test_servers() -> None:
    assert parse_url("postgresql://me@h:1/d").url == "postgresql+psycopg://me@h:1/d"
    assert parse_url("postgres://me@h/d").url == "postgresql+psycopg://me@h/d"
    assert parse_url("postgresql+psycopg://me@h/d").url == "postgresql+psycopg://me@h/d"
    grpc = parse_url("grpc://node-3:13000")
    assert (grpc.kind, grpc.host, grpc.port) == ("grpc", "node-3", 13000)


def test_plain_mysql_names_the_pure_python_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object() if name == "pymysql" else None)
    assert parse_url("mysql://me:pw@h/d").url == "mysql+pymysql://me:pw@h/d"


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("", "allowed:"),
        ("study", "allowed:"),
        ("redis://localhost", "unknown scheme 'redis'"),
        ("sqlite:///", "names no file"),
        ("sqlite://a.db", "names no file"),
        ("journal:///", "names no file"),
        ("postgresql://me:secret@host", "names no database"),
        ("postgresql+nodriver://me:secret@host/d", "'nodriver', which is not installed"),
        ("postgresql+asyncpg://me@host/d", "asynchronous"),
        ("grpc://host", "grpc://HOST:PORT"),
        ("grpc://host:99999", "grpc://HOST:PORT"),
    ],
)
def test_bad_urls_are_one_clear_line(text: str, fragment: str) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(text)
    message = str(caught.value)
    assert fragment in message
    assert "\n" not in message
    assert "secret" not in message


# Passwords as people write them, with characters that ought to be quoted.
URLS = {
    "postgresql://me:secret@host:5432/db": ("me", "secret", "host", 5432, "db"),
    "postgresql://u:SECRET/x@host/db": ("u", "SECRET/x", "host", None, "db"),
    "postgresql://u:SEC@RET:PW@host/db": ("u", "SEC@RET:PW", "host", None, "db"),
    "postgresql://u:SEC?k=RET@host/db?application_name=a@b": ("u", "SEC?k=RET", "host", None, "db"),
    "postgresql://u:SEC%40RET@[::1]:5432/db": ("u", "SEC@RET", "::1", 5432, "db"),
    "postgresql://u@server:SECRET@host/db": ("u@server", "SECRET", "host", None, "db"),
    "postgresql://u:100%SECRET#@host/db": ("u", "100%SECRET#", "host", None, "db"),
    "postgresql://:secret@/db?host=/run/host": ("", "secret", None, None, "db"),
}


@pytest.mark.parametrize("url", URLS)
def test_passwords_are_understood_and_never_shown(url: str) -> None:
    import sqlalchemy as sa

    parsed = parse_url(url)
    found = sa.make_url(parsed.url)
    assert (found.username, found.password, found.host, found.port, found.database) == URLS[url]
    assert "***" in parsed.display and "/db" in parsed.display
    assert "sec" not in parsed.display.lower() and "RET" not in parsed.display


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:SEC@RET:PW@host",
        "postgresql://u:SECRET/x@host",
        "postgresql://u:SECRET@host:port/db",
        "postgresql://u:SECRET/db",
        "mysql+pymysql://:SECRET@host/db?charset=utf8",
        "postgresql+nodriver://host/db?user=me&password=SECRET",
        "redis://:SECRET@host",
        "u:SECRET/x@host",
        "u:SECRET@host/db",
    ],
)
def test_bad_urls_show_no_password(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError) as caught:
        open_storage(url)
    message = str(caught.value)
    assert "***" in message and "\n" not in message
    assert not re.search("SEC|RET|PW", message.partition("write ")[0].partition("allowed")[0])
    if "://" in url:
        assert not re.search("SEC|RET|PW", mask_password(url))


def test_what_is_no_password_is_not_masked() -> None:
    for url in (
        "grpc://node-3:13000",
        "sqlite:////data/a:b@c.db",
        "C:/data@home/study.db",
        "postgresql://host:5432/db",
        "postgresql:///db?host=/tmp",
    ):
        assert mask_password(url) == url


def test_a_folder_may_have_a_question_mark_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "dir?"
    folder.mkdir()
    optuna.create_study(storage=open_storage(f"sqlite:///{folder}/x.db"), study_name="s")
    assert (folder / "x.db").exists() and sorted(os.listdir(tmp_path)) == ["dir?"]
    with pytest.raises(StorageError, match="options, which are not read"):
        open_storage(f"sqlite:///{tmp_path}/x.db?timeout=5")


def test_the_environment_names_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from zenopt.api import load_result
    from zenopt.cli.status import status

    monkeypatch.chdir(tmp_path)
    assert default_storage() == "sqlite:///zenopt.db"
    monkeypatch.setenv("ZENOPT_STORAGE", f"sqlite:///{tmp_path}/mine.db")
    assert default_storage() == f"sqlite:///{tmp_path}/mine.db"
    optuna.create_study(storage=open_storage(default_storage()), study_name="mine")
    shown = CliRunner().invoke(status, ["--study", "mine"])
    assert shown.exit_code == 0 and "mine: 0 trials" in shown.output
    assert load_result("mine").study.study_name == "mine"
    assert "ZENOPT_STORAGE" in CliRunner().invoke(status, ["--help"]).output


def test_names_from_a_database_are_printed_escaped(tmp_path: Path) -> None:
    storage = open_storage(f"{tmp_path}/study.db")
    optuna.create_study(storage=storage, study_name="evil\x1b[2Jname")
    with pytest.raises(StudyError) as caught:
        load_study(storage, "other")
    assert "evil\\x1b[2Jname" in str(caught.value) and "\x1b" not in str(caught.value)


def test_missing_folder(tmp_path: Path) -> None:
    for name in ("no/study.db", "no/study.log"):
        with pytest.raises(StorageError, match=r"the folder '.*no' does not exist; create it first"):
            open_storage(f"{tmp_path}/{name}")


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    folder = tmp_path / "folder.db"
    folder.mkdir()
    with pytest.raises(StorageError, match="is a folder"):
        open_storage(f"sqlite:///{folder}")


def test_not_a_database(tmp_path: Path) -> None:
    file = tmp_path / "notes.db"
    file.write_text("these are notes, and not a database at all\n" * 50)
    with pytest.raises(StorageError, match="damaged or no SQLite database"):
        open_storage(f"sqlite:///{file}")
    assert file.read_text().startswith("these are notes")


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize(
    "tables", ["CREATE TABLE songs (id INT)", "CREATE TABLE studies (id INT, title TEXT)"]
)
def test_the_database_of_another_program_stays_as_it_is(tmp_path: Path, create: bool, tables: str) -> None:
    file = tmp_path / "theirs.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.execute(tables)
    before = file.read_bytes()
    with pytest.raises(StorageError, match="is the database of another program; name another file"):
        open_storage(f"sqlite:///{file}", create=create)
    assert file.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["theirs.db"]


def test_optunas_own_databases_and_empty_files_are_not_foreign(tmp_path: Path) -> None:
    optuna.create_study(storage=f"sqlite:///{tmp_path}/stock.db", study_name="one")
    assert len(open_storage(f"sqlite:///{tmp_path}/stock.db").get_all_studies()) == 1
    (tmp_path / "empty.db").touch()
    assert open_storage(f"sqlite:///{tmp_path}/empty.db").get_all_studies() == []


def test_a_log_that_cannot_be_taken_in_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/a.db")
    storage.get_all_studies()

    def fails(connection: SqliteConnection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(SqliteConnection, "checkpoint", fails)
        with pytest.raises(
            StorageError, match=r"disk is full; free some space\. What was told is in its -wal file"
        ):
            checkpoint(storage)
    checkpoint(storage)


def test_a_damaged_database(tmp_path: Path) -> None:
    file = tmp_path / "damaged.db"
    file.write_bytes(b"SQLite format 3\0" + b"\xff" * 4096)
    with pytest.raises(StorageError, match="damaged or no SQLite database") as caught:
        open_storage(f"sqlite:///{file}")
    assert "\n" not in str(caught.value)


def test_not_a_journal(tmp_path: Path) -> None:
    file = tmp_path / "train.log"
    file.write_text("epoch 1 loss 2.3\nepoch 2 loss 2.2\n")
    with pytest.raises(StorageError, match="not an Optuna journal"):
        open_storage(str(file))


def test_an_unreachable_server() -> None:
    with pytest.raises(StorageError, match="check that the server runs") as caught:
        open_storage("postgresql://me:secret@127.0.0.1:9/db")
    assert "secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_an_unreachable_grpc_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zenopt.storage.factory.CONNECT_TIMEOUT_S", 0.3)
    with pytest.raises(StorageError, match="no server answers"):
        open_storage("grpc://127.0.0.1:9")


def test_a_missing_postgresql_database(postgres_server) -> None:
    with pytest.raises(StorageError, match="create the database first"):
        open_storage(f"postgresql://postgres@127.0.0.1:{postgres_server.port}/nowhere")


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_read_only(public_folder: Path, read_only: str) -> None:
    folder = public_folder / "shared"
    folder.mkdir()
    file = folder / "study.db"
    optuna.create_study(storage=open_storage(str(file)))
    (file if read_only == "file" else folder).chmod(0o444 if read_only == "file" else 0o555)
    if os.geteuid() != 0:
        with pytest.raises(StorageError, match="read-only"):
            open_storage(str(file))
        return
    # Root may write anything: look from an ordinary user's place.
    script = (
        "import os\n"
        "from zenopt.core.errors import StorageError\n"
        "from zenopt.storage.files import check_file\n"
        "os.setgid(65534); os.setuid(65534)\n"
        f"try: check_file({str(file)!r}, {str(file)!r}, create=True, is_sqlite=True)\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "read-only" in done.stdout


def test_schema_of_another_version(tmp_path: Path) -> None:
    import sqlite3

    url = f"sqlite:///{tmp_path}/study.db"
    open_storage(url)
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
    with pytest.raises(StorageError, match=r"schema.*pip install -U optuna"):
        open_storage(url)


@pytest.mark.parametrize("synchronous", ["NORMAL", "FULL"])
def test_sqlite_pragmas_on_every_connection(tmp_path: Path, synchronous: str) -> None:
    import pickle

    from zenopt.storage.tables import engine_of

    storage = open_storage(f"sqlite:///{tmp_path}/study.db", synchronous=synchronous)
    for candidate in (storage, pickle.loads(pickle.dumps(storage))):
        engine = engine_of(candidate)
        assert engine is not None
        with engine.connect() as first, engine.connect() as second:
            for connection in (first, second):
                assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
                expected = {"NORMAL": 1, "FULL": 2}[synchronous]
                assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == expected
                assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() >= 10_000


def test_options_are_checked(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="NORMAL, FULL"):
        open_storage("memory:", synchronous="OFF")
    with pytest.raises(StorageError, match="heartbeat_interval"):
        open_storage("memory:", heartbeat_interval=0)


def test_many_processes_create_one_database(tmp_path: Path) -> None:
    script = (
        "import sys\n"
        "from zenopt.storage import open_storage\n"
        "sys.stdin.readline()\n"
        f"open_storage('sqlite:///{tmp_path}/study.db')\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, errors

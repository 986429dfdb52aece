"""The embedded store: chDB in a process of its own, which serves ClickHouse's HTTP interface."""

from __future__ import annotations

import http.client
import os
import re
import resource
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, Self

import orjson
import structlog

from worker.clickhouse.writer import advised
from worker.embedded.access import DATABASE, Role
from worker.embedded.broker import end_with_parent, wait_or_kill

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

log = structlog.get_logger(__name__)
ADDRESS_FILE = "endpoint.json"
"""File in the store's directory, readable only by its owner: the address of the store, and its tokens."""
START_SECONDS = 30.0
STOP_SECONDS = 6.0
RESTART_SECONDS = 0.5
ANSWER_SECONDS = 2.0
BACKLOG = 64
OPEN_FILES, LEAST_OPEN_FILES = 4096, 512
"""The requested limit of open files, and the lowest with which the store starts."""
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "PYTHONPATH", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
"""Environment variables that the process inherits: no settings, because they contain secrets."""
_ERROR_TYPE = re.compile(r"^[\w.]+(?:Error|Exception): ")


class StoreProcessError(Exception):
    """The embedded store is not installed or did not start; the message says why."""


class Address(NamedTuple):
    """The address of a store, and the tokens of its two roles."""

    port: int
    reader: str
    writer: str

    @property
    def url(self) -> str:
        """The address, without a token."""
        return f"http://127.0.0.1:{self.port}"

    def dsn(self, role: Role, database: str = DATABASE, port: int = 0) -> str:
        """Return the address as a DSN with the role's token; `port`: the port of a proxy in front of it."""
        return f"clickhouse://{role}:{getattr(self, role)}@127.0.0.1:{port or self.port}/{database}"

    @property
    def shown(self) -> str:
        """The address to show to the user, with the reader's token."""
        return f"http://{Role.READER}:{self.reader}@127.0.0.1:{self.port}"


class EmbeddedStore:
    """A store that is served while the context lasts; its directory stays.

    The port is bound here once and passed to the process. So after a crash of the engine, the process is started again
    on the same port with the same tokens. It ends when this process ends for any reason.

    Args:
        directory: the chDB directory, created when missing.
        log: file for its output.
    """

    def __init__(self, directory: Path, log: Path | None = None) -> None:
        self._directory = directory.resolve()
        self._log = log or self._directory.parent / "store.log"
        self._listener: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._watcher: threading.Thread | None = None
        self.address = Address(0, secrets.token_urlsafe(16), secrets.token_urlsafe(16))

    @property
    def pid(self) -> int | None:
        """Its process, None when it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it serves.

        Raises:
            StoreProcessError: it is not installed, or the engine cannot open the directory.
        """
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start the process and return at once; its address is known then. Call `wait_ready` afterwards.

        Raises:
            StoreProcessError: it is not installed, too few files may be open, or the directory cannot be created.
        """
        if find_spec("chdb") is None:
            raise StoreProcessError("the embedded store is not installed: pip install 'sessionwatch[embedded]'")
        enough_files()
        _make(self._directory)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self.address = self.address._replace(port=int(self._listener.getsockname()[1]))
        try:
            self._launch(end_with_parent())
        except BaseException:
            self.stop()
            raise

    def wait_ready(self) -> None:
        """Wait until the launched process serves. Any thread may call this, once.

        Raises:
            StoreProcessError: the engine cannot open the directory.
        """
        assert self._process is not None  # noqa: S101  `launch` came before
        try:
            self._await_ready(self._process)
        except BaseException:
            self.stop()
            raise
        _write(self._directory / ADDRESS_FILE, self.address)
        self._watcher = threading.Thread(target=self._watch, name="embedded-store", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """Stop the process; running queries are cancelled."""
        self._stopping.set()
        process, self._process = self._process, None
        if process is not None:
            _end(process)
        if self._watcher is not None:
            self._watcher.join()
            (self._directory / ADDRESS_FILE).unlink(missing_ok=True)
        if self._listener is not None:
            self._listener.close()

    def _launch(self, before: Callable[[], None] | None) -> subprocess.Popen[bytes]:
        assert self._listener is not None  # noqa: S101  bound by `start`
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log_file:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "worker.embedded.server"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log_file,
                process_group=0,
                pass_fds=[self._listener.fileno()],
                env=_environment(),
                preexec_fn=before,  # noqa: PLW1509  one system call, looked up before the fork
            )
        self._process = process
        order = {"directory": str(self._directory), "listener": self._listener.fileno()}
        _tell(process, order | {"reader": self.address.reader, "writer": self.address.writer})
        return process

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        answer = _line(process, START_SECONDS)
        if answer.get("ready"):
            return
        raise StoreProcessError(
            f"the embedded store in {self._directory} did not start: {_why(answer.get('error'), self._log)}"
        )

    def _watch(self) -> None:
        """Start the process again when it ends by itself."""
        while not self._stopping.is_set():
            process = self._process
            if process is None:
                return
            status = process.wait()
            if self._stopping.wait(RESTART_SECONDS):
                return
            log.warning("embedded store ended, starting it again", status=status, log=str(self._log))
            try:
                self._await_ready(self._launch(None))
            except (OSError, StoreProcessError) as error:
                log.warning("embedded store did not start, trying again", error=str(error))


def enough_files() -> None:
    """Raise the limit of open files of this process, and of the processes that it starts, as far as allowed.

    Raises:
        StoreProcessError: the limit is too low for the engine, which would fail later with an unclear error.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= OPEN_FILES:
        return
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if wanted < LEAST_OPEN_FILES:
        raise StoreProcessError(
            f"only {wanted} files may be open, {LEAST_OPEN_FILES} are needed; raise the limit, ulimit -n {OPEN_FILES}"
        )


def running(directory: Path) -> Address | None:
    """Return the address at which a store's directory is served; None when it is not served."""
    try:
        found = Address(**orjson.loads((directory / ADDRESS_FILE).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return found if _answers(found) else None


def _answers(address: Address) -> bool:
    """Return whether that store answers on the port; another process would not accept its token."""
    connection = http.client.HTTPConnection("127.0.0.1", address.port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET", "/", headers={"X-ClickHouse-Key": address.reader})
        response = connection.getresponse()
        return response.status == http.HTTPStatus.OK and response.read(16) == b"Ok.\n"
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _environment() -> Mapping[str, str]:
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def _make(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        why = os.strerror(error.errno or 0).lower()
        raise StoreProcessError(f"the embedded store's directory {directory} cannot be created: {why}") from error


def _write(path: Path, address: Address) -> None:
    """Write the address to a file that only the owner of the directory can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(orjson.dumps(address._asdict()))


def _tell(process: subprocess.Popen[bytes], order: Mapping[str, object]) -> None:
    assert process.stdin is not None  # noqa: S101  a pipe
    try:
        process.stdin.write(orjson.dumps(order) + b"\n")
        process.stdin.flush()
    except BrokenPipeError:
        return


def _line(process: subprocess.Popen[bytes], seconds: float) -> Mapping[str, str]:
    """Return the line of JSON that the process answers with; empty when there is no answer."""
    assert process.stdout is not None  # noqa: S101  a pipe
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([process.stdout], [], [], left)
        if not ready:
            break
        line = process.stdout.readline()
        if not line:
            return {}
        if line.startswith(b"{"):
            found: Mapping[str, str] = orjson.loads(line)
            return found
    return {}


def _why(error: str | None, log_file: Path) -> str:
    if error is None:
        return f"{_last_line(log_file)} (log: {log_file})"
    if "EmbeddedServer" in error:
        return f"another process has it open, or it cannot be written (log: {log_file})"
    return advised(error.strip().splitlines()[0][:300])


def _last_line(log_file: Path) -> str:
    """Return what the process wrote last before it ended, without the name of the exception's type."""
    with suppress(OSError):
        lines = log_file.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return advised(_ERROR_TYPE.sub("", lines[-1])[:300])
    return "it wrote nothing"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    if process.stdin is not None:
        with suppress(BrokenPipeError):
            process.stdin.close()
    wait_or_kill(process, STOP_SECONDS)
    if process.stdout is not None:
        process.stdout.close()

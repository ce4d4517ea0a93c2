"""`make up` and `make down`: a gateway and a small upstream in the background, with the example configuration.

The law: what runs is what the pid files under `.waspgate/` name, checked against the process's own command line, so
that `up` twice starts nothing twice and `down` ends nothing that it did not start.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".waspgate"
MODULE = ROOT / ".build" / "plugins" / "c-greeting.wasm"
EXAMPLE = Path(__file__).resolve().parent

START_SECONDS = 30
# The gateway lets requests in flight finish for 30 s before it stops.
STOP_SECONDS = 45


@dataclass(frozen=True, slots=True)
class Ports:
    gateway: str
    admin: str
    upstream: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """A process in the background, known by its pid file and by what its command line contains."""

    name: str
    mark: str

    @property
    def pid_file(self) -> Path:
        return STATE / f"{self.name}.pid"

    @property
    def log_file(self) -> Path:
        return STATE / f"{self.name}.log"

    def pid(self) -> int | None:
        """The pid while the process lives."""
        try:
            pid = int(self.pid_file.read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (OSError, ValueError):
            return None
        return pid if self.mark.encode() in command else None

    def start(self, command: list[str], environment: dict[str, str]) -> None:
        if self.pid() is not None:
            return
        with self.log_file.open("wb") as log:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid_file.write_text(f"{process.pid}\n")

    def stop(self) -> bool:
        """True when it was running."""
        pid = self.pid()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            if not wait_until(lambda: self.pid() is None, STOP_SECONDS):
                sys.exit(f"{self.name} (pid {pid}) does not stop; see {self.log_file}")
        self.pid_file.unlink(missing_ok=True)
        return pid is not None

    def fail(self, what: str) -> None:
        lines = self.log_file.read_text(errors="replace").splitlines()[-10:] if self.log_file.exists() else []
        sys.exit("\n".join([f"{self.name} {what}; the end of {self.log_file}:", *lines]))


GATEWAY = Daemon("gateway", "control_plane.cli.main\0up")
UPSTREAM = Daemon("upstream", "upstream.py")


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def answers(url: str, status: int) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == status
    except httpx.HTTPError:
        return False


def up(ports: Ports) -> None:
    STATE.mkdir(mode=0o700, exist_ok=True)
    store = f"sqlite://{STATE / 'config.db'}"
    settings = {"STORE": store, "ADMIN": ports.admin, "LISTEN": ports.gateway}
    UPSTREAM.start([sys.executable, str(EXAMPLE / "upstream.py"), "--listen", ports.upstream], {})
    GATEWAY.start(
        [sys.executable, "-m", "control_plane.cli.main", "up"],
        {f"WASPGATE_{name}": value for name, value in settings.items()},
    )
    # 401: the Admin API is there and asks for its key.
    await_answer(GATEWAY, f"http://{ports.admin}/apisix/admin/routes", 401)
    await_answer(UPSTREAM, f"http://{ports.upstream}/hello", 200)
    key_file = STATE / "admin.key"
    apply = [sys.executable, str(EXAMPLE / "apply.py"), "--admin", ports.admin, "--key-file", str(key_file)]
    if subprocess.run([*apply, "--module", str(MODULE), "--upstream", ports.upstream], check=False).returncode:
        GATEWAY.fail("did not take the example")
    await_answer(GATEWAY, f"http://{ports.gateway}/hello", 200)
    tell(ports, key_file)


def await_answer(daemon: Daemon, url: str, status: int) -> None:
    wait_until(lambda: answers(url, status) or daemon.pid() is None, START_SECONDS)
    if daemon.pid() is None:
        daemon.pid_file.unlink(missing_ok=True)
        daemon.fail("ended")
    if not answers(url, status):
        daemon.fail(f"does not answer {url} with {status}")


def tell(ports: Ports, key_file: Path) -> None:
    relative = key_file.relative_to(ROOT)
    lines = (
        f"Waspgate is running (pid {GATEWAY.pid()}, log {GATEWAY.log_file.relative_to(ROOT)}).",
        "",
        f"  gateway   http://{ports.gateway}",
        f"  admin     http://{ports.admin}/apisix/admin/    key in {relative}",
        f"  upstream  http://{ports.upstream}    a small server to proxy to",
        "",
        "The route /hello inherits a Wasm plugin from its service; it sets the header x-greeting:",
        "",
        f"  curl -i http://{ports.gateway}/hello",
        "",
        "and answers /blocked by itself:",
        "",
        f"  curl -i http://{ports.gateway}/blocked",
        "",
        "What is configured:",
        "",
        f'  curl -H "X-API-KEY: $(cat {relative})" http://{ports.admin}/apisix/admin/routes',
        "",
        "`make down` stops it.",
    )
    sys.stdout.write("\n".join(lines) + "\n")


def down() -> None:
    stopped = [daemon.name for daemon in (GATEWAY, UPSTREAM) if daemon.stop()]
    sys.stdout.write(f"stopped: {', '.join(stopped)}\n" if stopped else "nothing runs from here\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="A gateway with an example, in the background.")
    parser.add_argument("action", choices=("up", "down"))
    parser.add_argument("--listen", default="127.0.0.1:9080", metavar="HOST:PORT")
    parser.add_argument("--admin", default="127.0.0.1:9180", metavar="HOST:PORT")
    parser.add_argument("--upstream", default="127.0.0.1:9099", metavar="HOST:PORT")
    options = parser.parse_args()
    if options.action == "down":
        down()
    else:
        up(Ports(options.listen, options.admin, options.upstream))


if __name__ == "__main__":
    main()

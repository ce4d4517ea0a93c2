"""`waspgate control-plane` as a process: its key, its address, its end."""

from __future__ import annotations

import json
import socket
import stat
from pathlib import Path

from tests.support.command import free_port, get, run, running


def test_it_makes_a_key_serves_with_it_and_ends_on_sigterm(tmp_path: Path) -> None:
    admin = f"127.0.0.1:{free_port()}"
    url = f"http://{admin}/apisix/admin/routes"
    with running(["control-plane", "--admin", admin], tmp_path) as command:
        command.wait_for(url, 401)
        key_file = tmp_path / "state" / "waspgate" / "admin.key"
        assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
        response = get(url, **{"X-API-KEY": key_file.read_text().strip()})
        assert response is not None
        assert response.json() == {"total": 0, "list": []}
        assert command.stop() == 0
    first, *rest = (json.loads(line) for line in command.output.splitlines())
    assert (first["event"], first["path"]) == ("made an admin key", str(key_file))
    assert key_file.read_text().strip() not in command.output
    assert rest[-1]["event"] == "admin API has stopped"


def test_a_second_start_uses_the_same_key(tmp_path: Path) -> None:
    keys = []
    for _ in range(2):
        admin = f"127.0.0.1:{free_port()}"
        with running(["control-plane", "--admin", admin], tmp_path) as command:
            command.wait_for(f"http://{admin}/apisix/admin/routes", 401)
            keys.append((tmp_path / "state" / "waspgate" / "admin.key").read_text())
    assert keys[0] == keys[1]


def test_a_key_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key_file = tmp_path / "admin.key"
    key_file.write_text("secret\n")
    key_file.chmod(0o644)
    result = run(["control-plane", "--store", f"sqlite://{tmp_path}/config.db"], tmp_path)
    assert result.returncode == 1
    assert "may be read by others (mode 0644): run chmod 600" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        admin = f"127.0.0.1:{taken.getsockname()[1]}"
        result = run(["control-plane", "--admin", admin, "--admin-key", "k"], tmp_path)
    assert result.returncode == 1
    assert result.stderr.splitlines() == [f"waspgate: cannot listen on {admin} (--admin): Address already in use"]


def test_an_exposed_admin_api_without_a_chosen_key_is_refused(tmp_path: Path) -> None:
    for command in ("control-plane", "up"):
        result = run([command, "--admin", f"0.0.0.0:{free_port()}"], tmp_path)
        assert result.returncode == 2
        assert result.stderr.startswith("waspgate: the Admin API on 0.0.0.0:")
        assert len(result.stderr.splitlines()) == 1


def test_a_store_that_cannot_be_opened_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    admin = f"127.0.0.1:{free_port()}"
    store = f"sqlite://{tmp_path}/file/config.db"
    result = run(["control-plane", "--store", store, "--admin", admin, "--admin-key", "k"], tmp_path)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.splitlines()[-1].startswith("waspgate: cannot open the store sqlite://")

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from data_plane.dns.hosts import HostsFile, parse_hosts

TEXT = """
127.0.0.1 localhost
::1       localhost ip6-localhost # comment
10.0.0.1  One.test one
10.0.0.2  one.test
not-an-address name
"""


def test_lines() -> None:
    assert parse_hosts(TEXT) == {
        "localhost": ("127.0.0.1",),
        "ip6-localhost": ("::1",),
        "one.test": ("10.0.0.1", "10.0.0.2"),
        "one": ("10.0.0.1",),
    }


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parse_hosts(text)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    hosts = HostsFile(path)
    assert hosts.find("one.test") == ()
    path.write_text("10.0.0.1 one.test")
    assert hosts.find("ONE.test.") == ("10.0.0.1",)
    path.write_text("10.0.0.2 one.test")
    os.utime(path, (1, 1))
    assert hosts.find("one.test") == ("10.0.0.2",)
    path.unlink()
    assert hosts.find("one.test") == ()


def test_localhost_is_this_machine_whatever_the_file_says(tmp_path: Path) -> None:
    hosts = HostsFile(tmp_path / "hosts")
    assert hosts.find("localhost") == hosts.find("a.localhost.") == ("127.0.0.1",)
    assert hosts.find("notlocalhost") == ()

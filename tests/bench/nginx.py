"""nginx twice: as the upstream behind every proxy, and as a proxy itself, near the least that a proxy can cost.

The law: one process each, no logs, and connections that live as long as the run, so that what is left is the work on
requests.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from string import Template

from tests.bench.server import HOST, Server, free_port, running
from tests.bench.tools import path_of
from tests.bench.traffic import BODIES, BODY, path
from tests.bench.works import PLAIN, Work

BASE = Template("""
daemon off;
master_process off;
worker_processes 1;
pid $folder/$name.pid;
error_log stderr warn;
events { worker_connections 8192; }
http {
    access_log off;
    default_type text/plain;
    keepalive_requests 100000000;
    client_body_temp_path $folder/$name-body;
    proxy_temp_path $folder/$name-proxy;
    fastcgi_temp_path $folder/$name-fastcgi;
    uwsgi_temp_path $folder/$name-uwsgi;
    scgi_temp_path $folder/$name-scgi;
    $servers
}
""")

# Quoted: a body that ends with a line feed stays one word.
UPSTREAM = Template("""
    server {
        listen $host:$port backlog=4096;
        location ~ /(?<file>64k|big|10m)$$ {
            root $folder;
            try_files /$$file.txt =404;
        }
        location / {
            if ($$arg_echo) { return 200 "x-plugin: $$http_x_plugin\n"; }
            return 200 "$body";
        }
    }
""")

PROXY = Template("""
    upstream bench {
        server $host:$upstream;
        keepalive 64;
        keepalive_requests 100000000;
    }
    server {
        listen $host:$port backlog=4096;
        location / {
            proxy_pass http://bench;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $$host;
            proxy_set_header X-Forwarded-For $$proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $$scheme;
        }
    }
""")


@contextmanager
def upstream(folder: Path) -> Iterator[Server]:
    port = free_port()
    for resource, body in BODIES.items():
        (folder / f"{resource}.txt").write_bytes(body)
    servers = UPSTREAM.substitute(host=HOST, port=port, body=BODY.decode(), folder=folder)
    with _nginx("upstream", port, servers, folder) as server:
        yield server


@contextmanager
def proxy(folder: Path, upstream_port: int, work: Work = PLAIN) -> Iterator[Server]:
    port = free_port()
    with _nginx(f"nginx{work.suffix}", port, PROXY.substitute(host=HOST, port=port, upstream=upstream_port), folder) as server:
        yield server


@contextmanager
def _nginx(name: str, port: int, servers: str, folder: Path) -> Iterator[Server]:
    file = folder / f"{name}.conf"
    file.write_text(BASE.substitute(folder=folder, name=name, servers=servers))
    with running(name, port, [path_of("nginx"), "-p", str(folder), "-c", str(file)], folder) as server:
        server.await_answer(path(0))
        yield server

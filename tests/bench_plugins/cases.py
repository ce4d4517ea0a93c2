"""The routes that are measured: each native plugin as its documentation has it, but so that requests pass; and ten together."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from typing import Any

from tests.support.command import ROOT

JWT_SECRET = "0123456789abcdef0123456789abcdef"

_ROW = re.compile(r"^\| `([a-z-]+)` \| -?\d+ \| .* \| `(\{.*\})` \|$", re.MULTILINE)

# In the place of the documentation's examples, which would end the request, or count too few.
OVERRIDES: dict[str, dict[str, Any]] = {
    "client-control": {"max_body_size": 1_048_576},
    "consumer-restriction": {"type": "route_id", "whitelist": ["1"]},
    "fault-injection": {"abort": {"http_status": 503, "vars": [["arg_fail", "==", "1"]]}},
    "ip-restriction": {"whitelist": ["10.0.0.0/8"]},
    "limit-conn": {"conn": 1000, "burst": 0, "default_conn_delay": 0.1},
    "limit-count": {"count": 2_000_000_000, "time_window": 3600},
    "limit-req": {"rate": 2_000_000_000, "burst": 1_000_000, "key": "remote_addr", "nodelay": True},
    "multi-auth": {"auth_plugins": [{"basic-auth": {}}, {"key-auth": {}}]},
    "real-ip": {"source": "http_x_real_ip", "trusted_addresses": ["10.0.0.0/8"]},
    "referer-restriction": {"whitelist": ["*.example.com"], "bypass_missing": True},
    "request-validation": {"header_schema": {"type": "object", "required": ["user-agent"]}},
    "traffic-split": {"rules": [{"weighted_upstreams": [{"upstream": {"nodes": {"127.0.0.1:1981": 1}}}, {"weight": 9}]}]},
}
# They wait for another server, or want a signature of this very second.
UNMEASURED = ("forward-auth", "hmac-auth")

TEN = (
    *("client-control", "request-id", "cors", "ip-restriction", "ua-restriction"),
    *("uri-blocker", "key-auth", "proxy-rewrite", "limit-count", "response-rewrite"),
)

CONSUMERS = {
    "jack": {
        "key-auth": {"key": "jack-key"},
        "basic-auth": {"username": "jack", "password": "open"},
        "jwt-auth": {"key": "jack-jwt", "secret": JWT_SECRET},
    }
}


def _coded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _token() -> str:
    head, claims = ({"alg": "HS256", "typ": "JWT"}, {"key": "jack-jwt", "exp": 4_000_000_000})
    signed = ".".join(_coded(json.dumps(part).encode()) for part in (head, claims))
    return f"{signed}.{_coded(hmac.new(JWT_SECRET.encode(), signed.encode(), hashlib.sha256).digest())}"


# Beside those of every request.
FIELDS: dict[str, tuple[str, ...]] = {
    "basic-auth": (f"Authorization: Basic {base64.b64encode(b'jack:open').decode()}",),
    "jwt-auth": (f"Authorization: {_token()}",),
}
KEY_FIELD = "apikey: jack-key"


def examples() -> dict[str, Any]:
    page = (ROOT / "docs/native-plugins.md").read_text(encoding="utf-8")
    return {name: json.loads(example.replace("\\|", "|")) for name, example in _ROW.findall(page)}


def cases() -> dict[str, tuple[dict[str, Any], tuple[str, ...]]]:
    """By name: plugins, and fields of the request."""
    single = {name: conf for name, conf in (examples() | OVERRIDES).items() if name not in UNMEASURED}
    single["key-auth"] = {}
    found = {name: ({name: conf}, FIELDS.get(name, (KEY_FIELD,))) for name, conf in single.items()}
    return {**found, "ten together": ({name: single[name] for name in TEN}, (KEY_FIELD,))}

"""How an upstream spreads its requests: the names of APISIX, and what `chash` may be keyed by.

The law: a key that could never have a value is refused.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal

from pydantic import Field

from shared.schema.common import MAX_SECONDS, later

BalancerType = Literal["roundrobin", "chash", "least_conn", "ewma"]
HashOn = Literal["vars", "header", "cookie", "consumer", "vars_combinations"]
HashKeyText = Annotated[str, Field(min_length=1, max_length=256), later("mqtt_client_id")]
# More than any upstream has nodes worth trying.
Retries = Annotated[int, Field(ge=0, le=1000)]
RetryTimeout = Annotated[float, Field(ge=0, le=MAX_SECONDS, allow_inf_nan=False)]

VARIABLE_IN_TEMPLATE: Final = re.compile(r"\$(?:\{([a-zA-Z0-9_]+)\}|([a-zA-Z0-9_]+))")

# APISIX's list for `hash_on` vars, and what templates may name besides.
_ALONE: Final = "uri|server_name|server_addr|request_uri|remote_port|remote_addr|query_string|host|hostname"
_ARGUMENT: Final = "arg_[0-9a-zA-Z_-]+"
_VARIABLE: Final = re.compile(f"{_ALONE}|{_ARGUMENT}")
_IN_TEMPLATE: Final = re.compile(f"{_ALONE}|request_method|consumer_name|(?:arg|http|cookie)_[0-9a-zA-Z_]+")
_FIELD_NAME: Final = re.compile(r"[a-zA-Z0-9_-]+")
_COOKIE_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def problem_with_key(hash_on: HashOn, key: str | None) -> str | None:
    """Why `chash` cannot use this key, or None."""
    if hash_on == "consumer":
        return None
    if key is None:
        return "missing key"
    if hash_on == "vars_combinations":
        return _problem_with_template(key)
    pattern, expected = {
        "vars": (_VARIABLE, f"one of {_ALONE.replace('|', ', ')}, arg_NAME"),
        "header": (_FIELD_NAME, "the name of a field: letters, digits, - and _"),
        "cookie": (_COOKIE_NAME, "the name of a cookie"),
    }[hash_on]
    return None if pattern.fullmatch(key) else f"expected {expected}, got {key!r}"


def _problem_with_template(key: str) -> str | None:
    names = [match[1] or match[2] for match in VARIABLE_IN_TEMPLATE.finditer(key)]
    unknown = [name for name in names if not _IN_TEMPLATE.fullmatch(name)]
    if unknown:
        return f"unknown variable ${unknown[0]}"
    if not names:
        return f"expected at least one $variable, got {key!r}"
    return None

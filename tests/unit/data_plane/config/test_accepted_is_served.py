"""What the schema accepts a worker can serve: a write that was answered with 201 never becomes a worker's problem."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.schema.errors import SchemaError
from shared.schema.resources import RESOURCES, validate
from tests.support.config import UPSTREAM, Config

_URIS = st.text(st.sampled_from("/:a.*%2Ff;é?#\\\0| "), max_size=12).map("/".__add__) | st.text(max_size=6)
_HOSTS = st.text(st.sampled_from("aB.*-_[]:1é"), max_size=8)
_ADDRESSES = st.text(st.sampled_from("aB.-[]:1é"), max_size=8)
_KEY_PARTS = st.sampled_from(
    ["$", "uri", "host", "${arg_a}", "arg_", "http_a", "a", "-", " ", "é", "{", "$remote_addr", "[", "\\"]
)
_ROUTES = st.fixed_dictionaries(
    {"uris": st.lists(_URIS, min_size=1, max_size=3)},
    optional={
        "hosts": st.lists(_HOSTS, min_size=1, max_size=3),
        "methods": st.lists(st.sampled_from(["GET", "PURGE"]), max_size=2),
        "priority": st.integers(-(2**33), 2**33),
        "upstream": st.fixed_dictionaries(
            {"nodes": st.dictionaries(_ADDRESSES, st.integers(-1, 2**33), max_size=3)},
            optional={
                "upstream_host": _ADDRESSES,
                "pass_host": st.sampled_from(["pass", "node", "rewrite"]),
                "type": st.sampled_from(["roundrobin", "chash", "least_conn", "ewma"]),
                "hash_on": st.sampled_from(["vars", "header", "cookie", "consumer", "vars_combinations"]),
                "key": st.lists(_KEY_PARTS, max_size=3).map("".join),
                "retry_timeout": st.floats(-1, 1),
            },
        ),
    },
)


@given(_ROUTES)
def test_an_accepted_route_is_compiled(document: dict[str, Any]) -> None:
    document = {"upstream": UPSTREAM, **document}
    try:
        validate(RESOURCES["routes"].model, document)
    except SchemaError:
        return
    config = Config()
    config.put("routes", "1", document)
    snapshot = config.commit()
    assert config.compiler.problems == {}
    assert snapshot.routes["1"].problem in (None, "no_nodes")

"""`oci://HOST[:PORT]/REPOSITORY[:TAG][@sha256:DIGEST]`: where an image is in a registry.

The law: what parses has a host, a repository, and a tag or a digest; `str()` of it parses to the same again. The grammar is the
distribution specification's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

SCHEME = "oci://"
_HOST = r"(?P<host>(?:[a-zA-Z0-9](?:[a-zA-Z0-9.-]{0,252}[a-zA-Z0-9])?|\[[0-9a-fA-F:.]{2,45}\])(?::[0-9]{1,5})?)"
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = rf"(?P<repository>{_PART}(?:/{_PART})*)"
_TAG = r"(?::(?P<tag>[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}))?"
_DIGEST = r"(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
_REFERENCE = re.compile(f"{SCHEME}{_HOST}/{_REPOSITORY}{_TAG}{_DIGEST}")
# Of the host, the repository and all the rest; registries refuse longer names.
MAX_LENGTH = 1024


@dataclass(frozen=True, slots=True)
class OciReference:
    """`digest` is that of the manifest, `sha256:` included."""

    host: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError."""
        found = _REFERENCE.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if found is None or (found["tag"] is None and found["digest"] is None):
            raise ValueError("expected oci://HOST/REPOSITORY:TAG, with @sha256:DIGEST behind it or instead of the tag")
        return cls(found["host"], found["repository"], found["tag"], found["digest"])

    @property
    def wanted(self) -> str:
        """What the registry is asked for: the digest when there is one."""
        return self.digest or self.tag or ""

    def __str__(self) -> str:
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{SCHEME}{self.host}/{self.repository}{tag}{digest}"

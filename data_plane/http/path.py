"""The normal form of request paths, under the name that the HTTP floor knows it by.

The law: the schema checks path patterns by the same rules, so they stand in `shared`.
"""

from __future__ import annotations

from shared.request_path import PathError as PathError
from shared.request_path import normalise as normalise

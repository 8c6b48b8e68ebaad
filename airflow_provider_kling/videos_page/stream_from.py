# SPDX-License-Identifier: Apache-2.0
"""
Which stored files may be shown, by the spelling of their paths alone.

Every DAG author can write an XCom, so a path in one proves nothing. It counts only below a prefix that the
configuration lists, with the same scheme, the same connection and the same bucket, and only in a spelling that
every store reads in one way.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Schemes of stores without symbolic links, which could lead out of a prefix.
_STORES = frozenset({"s3", "s3a", "s3n", "gs", "gcs", "abfs", "abfss", "adl", "az", "oss"})
_LOCAL = frozenset({"file", "local"})
#: Characters by which a store, a URL or ``fsspec`` may read a path as another one.
_AMBIGUOUS = re.compile(r"[%?#\\]|::")
#: Maximum length of a path in characters: far above that of any file.
_LONGEST = 2048


class Location(NamedTuple):
    """
    A place in a store, or in the file system of the API server.

    :param scheme: The scheme of its URI, ``file`` for a local file.
    :param authority: What the URI has before its path, the Airflow connection included: ``conn@bucket``.
    :param segments: The names in its path.
    """

    scheme: str
    authority: str
    segments: tuple[str, ...]

    @property
    def is_local(self) -> bool:
        """Whether it is in the file system of the API server."""
        return self.scheme == "file"

    def is_below(self, prefix: Location) -> bool:
        """Return whether it is below a prefix, compared by whole names."""
        return (
            self[:2] == prefix[:2]
            and len(self.segments) > len(prefix.segments)
            and self.segments[: len(prefix.segments)] == prefix.segments
        )


def listed_prefixes(text: str) -> tuple[list[Location], list[str]]:
    """
    Return the prefixes that a configuration lists, and the entries that are none.

    The root of the local file system is none.

    :param text: URIs, separated by commas or whitespace.
    """
    prefixes, unusable = [], []
    for entry in filter(None, re.split(r"[,\s]+", text)):
        prefix = _location(entry.removesuffix("/"), least_names=0)
        if prefix is None or (prefix.is_local and not prefix.segments):
            unusable.append(entry)
        else:
            prefixes.append(prefix)
    return prefixes, unusable


def location_of(path: str) -> Location | None:
    """
    Return the location of a file; None if its path is of another kind, or could be read in two ways.

    :param path: A path for ``ObjectStoragePath``, or an absolute one of a local file.
    """
    return _location(path, least_names=1)


def prefix_above(location: Location, prefixes: Iterable[Location]) -> Location | None:
    """Return the first of the prefixes that a location is below, None if it is below none."""
    return next((prefix for prefix in prefixes if location.is_below(prefix)), None)


def _location(path: str, *, least_names: int) -> Location | None:
    if len(path) > _LONGEST or _AMBIGUOUS.search(path) or not all(map(_is_plain, path)):
        return None
    scheme, separator, rest = path.partition("://")
    if not separator:
        scheme, rest = "file", path
    scheme = scheme.lower()
    scheme = "file" if scheme in _LOCAL else scheme
    authority, _, names = rest.partition("/")
    # A local path has no authority, and one in a store needs a bucket.
    if (scheme != "file" and scheme not in _STORES) or (scheme == "file") != (not authority.rpartition("@")[2]):
        return None
    if (scheme == "file" and authority) or ":" in authority or (not separator and not path.startswith("/")):
        return None
    segments = tuple(names.split("/")) if names else ()
    if len(segments) < least_names or {"", ".", ".."} & set(segments):
        return None
    return Location(scheme, authority, segments)


def _is_plain(character: str) -> bool:
    """Return whether no file system and no URL drops a character or reads it as another one."""
    return unicodedata.category(character) not in ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")

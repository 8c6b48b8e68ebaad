# SPDX-License-Identifier: Apache-2.0
"""File names made of ids that others choose."""

from __future__ import annotations

import hashlib
import re

#: Bytes of UTF-8 that a name takes at most: file systems take 255, and suffixes come on top.
MAX_BYTES = 120


def safe_name(text: str) -> str:
    """
    Return a name for one file or folder that POSIX file systems and object storages keep as it is.

    Letters and digits of any script, ``_``, ``-`` and dots that do not stand first are kept. A text that is longer
    than :data:`MAX_BYTES` or has other characters is changed, and gets eight hexadecimal digits of its hash. Two
    texts then share a name only if one was made to look like the name of the other, or if their hashes happen to
    be the same. A file system may still take names for one that differ in case alone, or in how letters are
    composed.

    :param text: Any text, for example a task id.
    """
    name = re.sub(r"[^\w.-]|^\.+", "_", text)
    if name == text and 0 < len(name.encode()) <= MAX_BYTES:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    room = MAX_BYTES - len(digest) - 1
    return f"{name.encode(errors='replace')[:room].decode(errors='ignore')}-{digest}"

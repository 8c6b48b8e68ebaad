# SPDX-License-Identifier: Apache-2.0
"""Safe file names from ids that this package does not choose."""

from __future__ import annotations

import hashlib
import re

#: Maximum length of a name in bytes of UTF-8. File systems allow 255, and suffixes are added to the name.
MAX_BYTES = 120


def safe_name(text: str) -> str:
    """
    Return a name for one file or folder that POSIX file systems and object storages accept unchanged.

    Letters and digits of any script, ``_``, ``-``, and dots except leading ones are kept. A text that is longer
    than :data:`MAX_BYTES` or has other characters is changed, and gets eight hexadecimal digits of its hash at the
    end. Different texts then share a name only if one was made to look like the name of the other, or if their
    hashes happen to be equal. A file system may still treat names as equal that differ in case alone, or in how
    letters are composed.

    :param text: Any text, for example a task id.
    """
    name = re.sub(r"[^\w.-]|^\.+", "_", text)
    if name == text and 0 < len(name.encode()) <= MAX_BYTES:
        return name
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:8]
    room = MAX_BYTES - len(digest) - 1
    return f"{name.encode(errors='replace')[:room].decode(errors='ignore')}-{digest}"

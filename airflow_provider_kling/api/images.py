# SPDX-License-Identifier: Apache-2.0
"""
Images of a request that are in an object storage, where the vendor cannot fetch them.

The request keeps their URIs; only the body of a submit has signed URLs.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.utils.store_uris import is_store_uri

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kling.api.request import VideoRequest

#: The fields of a request that may hold images.
_FIELDS = ("image", "last_image", "element_list", "extra_body")
#: Keys of texts for the model. A URI in such a text is not an image.
_TEXTS = frozenset({"prompt", "negative_prompt"})


def stored_images(request: VideoRequest) -> dict[str, str]:
    """Return the URI of each image in an object storage, by its place: ``image``, ``element_list[0].image``."""
    found: dict[str, str] = {}

    def note(place: str, uri: str) -> str:
        found[place] = uri
        return uri

    replace_images(request, note)
    return found


def replace_images(request: VideoRequest, replacement: Callable[[str, str], str]) -> VideoRequest:
    """
    Return a request with another text in place of each URI of an object storage.

    :param request: The request; it is not changed.
    :param replacement: Returns the text for a place and its URI.
    """
    given = {name: getattr(request, name) for name in _FIELDS}
    # Through JSON: a copy of plain lists and dicts, which is what is sent.
    fields: dict[str, Any] = json.loads(json.dumps(given))
    changed: set[str] = set()
    pending: deque[tuple[str, Any, Any]] = deque((name, name, fields) for name in _FIELDS)
    while pending:
        place, key, container = pending.popleft()
        value = container[key]
        if isinstance(value, dict):
            pending.extend((f"{place}.{inner}", inner, value) for inner in value if inner not in _TEXTS)
        elif isinstance(value, list):
            pending.extend((f"{place}[{index}]", index, value) for index in range(len(value)))
        elif is_store_uri(value):
            container[key] = replacement(place, value)
            changed.add(re.split(r"[.\[]", place, maxsplit=1)[0])
    return request._replace(**{name: fields[name] for name in changed})

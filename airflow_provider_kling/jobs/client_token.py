# SPDX-License-Identifier: Apache-2.0
"""
The client token of a submit: a text that the server keeps with the job, and takes only once.

With a durable record each purchase has a random one, written to the record before the POST. A derived one would
collide where two deployments with the same DAGs share an account. Without a record it is derived, so that the next
attempt has it too: the server is then the record.
"""

from __future__ import annotations

import secrets
from base64 import urlsafe_b64encode
from hashlib import sha256

#: Bytes of a token; in Base64 they are 16 characters of ``[A-Za-z0-9_-]``, which servers are assumed to take.
BYTES = 12
#: Purchases of one request that have a derived token. Each one but the last has failed at the vendor.
MAX_DERIVED = 5


def new_client_token() -> str:
    """Return a random token."""
    return secrets.token_urlsafe(BYTES)


def derived_client_token(seed: str, purchase: int) -> str:
    """
    Return the token of a purchase that keeps no record.

    :param seed: What names the deployment, the task instance and the request.
    :param purchase: The number of jobs that the request had before, from 0 to below :data:`MAX_DERIVED`.
    """
    return urlsafe_b64encode(sha256(f"{seed}\0{purchase}".encode()).digest()[:BYTES]).decode()

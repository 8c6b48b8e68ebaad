# SPDX-License-Identifier: Apache-2.0
"""Who sends a request: an API key, or a JWT signed with a secret key."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from airflow_provider_kling.sandbox.errors import ApiError

FAILED, EMPTY, INVALID, TOO_EARLY, EXPIRED = 1000, 1001, 1002, 1003, 1004
ONE_ACCOUNT = "account"


class Caller(NamedTuple):
    """The key of a request, and the account that it belongs to."""

    key: str
    account: str


@dataclass(frozen=True)
class Keys:
    """
    The valid keys.

    :param api_keys: API keys.
    :param access_keys: Access key -> secret key.
    :param accounts: API key or access key -> account; all others belong to one account.
    """

    api_keys: frozenset[str]
    access_keys: Mapping[str, str]
    accounts: Mapping[str, str] = field(default_factory=dict)

    def caller(self, authorization: str, *, now: float, jwt_allowed: bool) -> Caller:
        """
        Return who sends a request.

        :param authorization: The header.
        :param now: The server's time, in epoch seconds.
        :param jwt_allowed: Whether the route takes JWTs.
        :raises ApiError: with 401 and a code of 1000 to 1004.
        """
        if not authorization.strip():
            raise ApiError(401, EMPTY, "Authorization is empty")
        scheme, _, token = authorization.strip().partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise ApiError(401, INVALID, "Authorization is invalid: send Bearer and the key")
        if token in self.api_keys:
            return self._caller(token)
        if token.count(".") != 2 or not jwt_allowed:
            raise ApiError(401, INVALID, "Authorization is invalid")
        return self._caller(self._access_key(token, now))

    def _caller(self, key: str) -> Caller:
        return Caller(key, self.accounts.get(key, ONE_ACCOUNT))

    def _access_key(self, token: str, now: float) -> str:
        signed, _, signature = token.rpartition(".")
        header, claims = (_decoded(part) for part in signed.split("."))
        access_key = claims.get("iss")
        expires, starts = _time(claims.get("exp")), _time(claims.get("nbf", 0))
        if (
            header.get("alg") != "HS256"
            or not isinstance(access_key, str)
            or access_key not in self.access_keys
            or expires is None
            or starts is None
        ):
            raise ApiError(401, INVALID, "Authorization is invalid")
        digest = hmac.digest(self.access_keys[access_key].encode(), signed.encode(), hashlib.sha256)
        expected = base64.urlsafe_b64encode(digest).rstrip(b"=")
        if not hmac.compare_digest(expected, signature.encode()):
            raise ApiError(401, FAILED, "Authorization signature is invalid")
        if starts > now:
            raise ApiError(401, TOO_EARLY, "Authorization is not yet valid")
        if expires <= now:
            raise ApiError(401, EXPIRED, "Authorization is expired")
        return access_key


def _decoded(part: str) -> dict[str, Any]:
    try:
        decoded = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError:
        decoded = None
    if not isinstance(decoded, dict):
        raise ApiError(401, INVALID, "Authorization is invalid")
    return decoded


def _time(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None

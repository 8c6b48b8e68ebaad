# SPDX-License-Identifier: Apache-2.0
"""The credentials of the platform: an API key, or an access key with its secret key."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_kling.api.base import Authorization
from airflow_provider_kling.exceptions import Problem

if TYPE_CHECKING:
    from airflow_provider_kling.api.base import Credentials

#: Seconds for which a token is valid.
TOKEN_SECONDS = 1800
#: Seconds by which a token is valid before this machine's time, for a clock that is a little fast.
CLOCK_TOLERANCE = 5
API_KEY_PREFIX = "api-key-"
#: The whole prefix of an API key, without which a server may echo it.
_WHOLE_PREFIX = re.compile(r"api-key-(?:kling-)?")
#: Minimum lengths at which a part of a key, and an access key, is masked on its own; a shorter one may be a word.
_SHORTEST_PART, _SHORTEST_ACCESS_KEY = 16, 8
_JWT = re.compile(r"eyJ[\w=-]+\.[\w=-]+\.[\w=-]*")
#: The form of an access key and of a secret key.
_HALF_OF_PAIR = re.compile(r"[0-9A-Za-z]{32}")
_HIDDEN = "***"


def authorization(credentials: Credentials, *, now: float) -> Authorization:
    """Return the header for these credentials; a token is signed anew."""
    if credentials.login is None:
        return Authorization(f"Bearer {credentials.secret}")
    token = signed_token(credentials.login, credentials.secret, now=now)
    return Authorization(f"Bearer {token}", int(now) + TOKEN_SECONDS)


def signed_token(access_key: str, secret_key: str, *, now: float) -> str:
    """
    Return the JWT of an access key.

    :param now: The time (epoch seconds).
    """
    import jwt  # every DAG file would pay for it at each parse

    claims = {"iss": access_key, "exp": int(now) + TOKEN_SECONDS, "nbf": int(now) - CLOCK_TOLERANCE}
    return jwt.encode(claims, secret_key, algorithm="HS256", headers={"alg": "HS256", "typ": "JWT"})


def secrets_of(credentials: Credentials) -> tuple[str, ...]:
    """Return the texts to mask."""
    secret, login = credentials
    rest = _WHOLE_PREFIX.sub("", secret, count=1) if secret.startswith(API_KEY_PREFIX) else secret
    masked = (rest if len(rest) >= _SHORTEST_PART else secret,)
    return (*masked, login) if login and len(login) >= _SHORTEST_ACCESS_KEY else masked


def problems_of(credentials: Credentials, *, is_vendors_host: bool) -> list[Problem]:
    """
    Return what is wrong with credentials, by field of the connection.

    :param is_vendors_host: Whether they are for the vendor itself; the keys of resellers have any form.
    """
    secret, login = credentials
    if login is not None:
        return list(_problems_of_pair(secret, login))
    if ":" in secret:
        expected = "holds two keys; the access key belongs in Access key (login), and the secret key here"
        return [Problem("password", _HIDDEN, expected)]
    if not is_vendors_host:
        return []
    if _JWT.fullmatch(secret):
        expected = (
            "holds a token that expires; enter the keys themselves: the access key in Access key (login), the "
            "secret key in API key (password)"
        )
        return [Problem("password", _HIDDEN, expected)]
    if _HALF_OF_PAIR.fullmatch(secret):
        expected = (
            "must hold the access key that belongs to the secret key in API key (password); it stays empty only "
            f"for an API key, which starts with {API_KEY_PREFIX}"
        )
        return [Problem("login", "", expected)]
    return []


def _problems_of_pair(secret: str, login: str) -> list[Problem]:
    if login.startswith(API_KEY_PREFIX):
        expected = "holds an API key, which belongs in API key (password); Access key stays empty"
        return [Problem("login", _HIDDEN, expected)]
    if secret.startswith(API_KEY_PREFIX):
        expected = "must be empty, since API key (password) holds one; an access key belongs to a secret key"
        return [Problem("login", _HIDDEN, expected)]
    if not login.isascii() or not login.isprintable() or any(character in login for character in " :,;\"'"):
        return [Problem("login", _HIDDEN, "must hold the access key alone")]
    if not secret:
        expected = "must hold the secret key that belongs to the access key in Access key (login)"
        return [Problem("password", "", expected)]
    if login == secret:
        expected = "holds the same key as API key (password), which must be the secret key"
        return [Problem("login", _HIDDEN, expected)]
    return []

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import base64
import json
import math
from typing import Any

import jwt
import pytest

from airflow_provider_kling.api.base import Credentials
from airflow_provider_kling.api.official.api import OfficialApi
from tests.fixtures.official import (
    ACCESS_KEY,
    API_KEY,
    INTERNATIONAL,
    RESELLER,
    SECRET_KEY,
    error,
    response,
    with_api_key,
    with_pair,
)

NOW = 1_790_000_000.75


def part(token: str, place: int) -> Any:
    text = token.split(".")[place]
    return json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))


def test_an_api_key_is_sent_as_it_is_and_never_expires() -> None:
    assert with_api_key().authorization(now=NOW) == (f"Bearer {API_KEY}", math.inf)


def test_an_access_key_signs_a_token_with_the_documented_claims_and_no_others() -> None:
    header, expires_at = with_pair().authorization(now=NOW)
    scheme, _, token = header.partition(" ")
    assert scheme == "Bearer"
    assert part(token, 0) == {"alg": "HS256", "typ": "JWT"}
    assert part(token, 1) == {"iss": ACCESS_KEY, "exp": 1_790_001_800, "nbf": 1_789_999_995}
    assert expires_at == 1_790_001_800
    assert jwt.decode(token, SECRET_KEY, algorithms=["HS256"], options={"verify_exp": False, "verify_nbf": False})


@pytest.mark.parametrize(
    ("api", "http_status", "code", "wanted"),
    [
        (with_pair(), 401, 1003, True),
        (with_pair(), 401, 1004, True),
        (with_pair(), 401, 1002, False),
        (with_pair(), 401, 1000, False),
        (with_pair(), 400, 1004, False),
        (with_pair(), 200, 1004, False),
        (with_api_key(), 401, 1004, False),
    ],
)
def test_only_a_token_out_of_its_time_is_signed_anew(
    api: OfficialApi, http_status: int, code: int, *, wanted: bool
) -> None:
    assert api.wants_new_authorization(response(error(code, "x"), http_status)) is wanted


def test_every_key_is_masked() -> None:
    assert with_api_key().secrets() == (API_KEY.removeprefix("api-key-kling-"),)
    assert with_pair().secrets() == (SECRET_KEY, ACCESS_KEY)
    assert OfficialApi(Credentials("api-key-kling-short")).secrets() == ("api-key-kling-short",)


def test_a_login_that_may_be_a_word_is_not_masked() -> None:
    assert OfficialApi(Credentials(SECRET_KEY, "team")).secrets() == (SECRET_KEY,)


def test_no_key_is_shown() -> None:
    assert SECRET_KEY not in repr(with_pair())
    assert ACCESS_KEY not in repr(with_pair())


@pytest.mark.parametrize(
    ("secret", "login", "base_url", "field", "words"),
    [
        (API_KEY, ACCESS_KEY, INTERNATIONAL, "login", "must be empty"),
        (API_KEY, ACCESS_KEY, RESELLER, "login", "must be empty"),
        (SECRET_KEY, API_KEY, INTERNATIONAL, "login", "belongs in API key (password)"),
        (SECRET_KEY, SECRET_KEY, INTERNATIONAL, "login", "same key"),
        (SECRET_KEY, f'"{ACCESS_KEY}"', INTERNATIONAL, "login", "alone"),
        (SECRET_KEY, f"{ACCESS_KEY}:{SECRET_KEY}", INTERNATIONAL, "login", "alone"),
        (SECRET_KEY, "käy", INTERNATIONAL, "login", "alone"),
        (f"{ACCESS_KEY}:{SECRET_KEY}", None, RESELLER, "password", "two keys"),
        (SECRET_KEY, None, INTERNATIONAL, "login", "access key"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln", None, INTERNATIONAL, "password", "expires"),
    ],
)
def test_wrong_credentials_are_named_and_not_shown(
    secret: str, login: str | None, base_url: str, field: str, words: str
) -> None:
    [problem] = OfficialApi(Credentials(secret, login), base_url).credential_problems()
    assert problem.field == field
    assert words in problem.expected
    assert problem.value in ("", "***")
    assert SECRET_KEY not in str(problem)


@pytest.mark.parametrize(
    ("secret", "login", "base_url"),
    [
        (API_KEY, None, INTERNATIONAL),
        (SECRET_KEY, ACCESS_KEY, INTERNATIONAL),
        (SECRET_KEY, ACCESS_KEY, RESELLER),
        (SECRET_KEY, None, RESELLER),
        ("sk-4711-any-key", None, RESELLER),
        ("eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJhIn0.c2ln", None, RESELLER),
        ("some-other-form-of-key", None, INTERNATIONAL),
    ],
)
def test_credentials_that_may_be_right_are_taken(secret: str, login: str | None, base_url: str) -> None:
    assert OfficialApi(Credentials(secret, login), base_url).credential_problems() == []

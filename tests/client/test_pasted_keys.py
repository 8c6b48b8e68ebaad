# SPDX-License-Identifier: Apache-2.0
"""A key that was pasted with the text around it is cleaned; one in the wrong field is refused, and never shown."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import string
import traceback
from itertools import pairwise
from typing import Any

import pytest
from airflow.models.connection import Connection
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_kling.client.connection import KlingConnection
from airflow_provider_kling.client.lookup import connection_from, lookup_error
from airflow_provider_kling.client.pasted_keys import clean_key, looks_like_key, mask_keys
from airflow_provider_kling.connection_form import field_name
from airflow_provider_kling.exceptions import KlingError, KlingValidationError
from airflow_provider_kling.hooks.kling import KlingHook
from tests.conftest import Connect
from tests.raw_server import RawServer, http_response

SECRET = "9f3Kx7Lq2WmAbCdE4tYu"
KEY = f"sk-{SECRET}"
#: Keys of several vendors, none of them in use.
KEYS = {
    "of a gateway": KEY,
    "of OpenAI": "sk-proj-Ab3dEf6hIj9kLm2nOp5qRs8tUv1wXy4z",
    "without a prefix": "Zx9Qv7Kp3Lm8Rt2Wy5Nb4Hc6Jd1Fg0Sa",
    "lower case": "b7f2k9x4m1q8z3w6t5r0y2u8i4o6p1a3",
    "a JSON web token": "eyJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJha18xIn0.s9LqK3xZ7vR2mN8bT4yW1cE6uJ5hG0dF",
    "with Bearer": f"Bearer {KEY}",
    "as a header": f"Authorization: Bearer {KEY}",
    "with a newline": f"{KEY}\n",
    "in quotes": f'"{KEY}"',
    "in capitals": KEY.upper(),
}


def parse(**fields: Any) -> KlingConnection:
    return KlingConnection.parse(
        **{"conn_id": "kling_default", "host": "api.example.com", "password": "sk-4711-very-secret", **fields}
    )


def refusal(**fields: Any) -> KlingValidationError:
    with pytest.raises(KlingValidationError) as caught:
        parse(**fields)
    return caught.value


def shows(key: str, error: BaseException) -> bool:
    """Whether an error shows a recognisable part of a key."""
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
    if isinstance(error, KlingError):
        text += json.dumps(error.to_dict())
    parts = re.findall(r"[A-Za-z0-9]{8,}", key.replace("Authorization", "").replace("Bearer", ""))
    return any(part[:8].lower() in text.lower() for part in parts)


class TestPassword:
    @pytest.mark.parametrize(
        "pasted",
        [
            "{}",
            "{}\n",
            "{}\r\n",
            " \t{} ",
            "\ufeff{}",
            "{}\u200b",
            "{}\u00a0",
            '"{}"',
            "'{}'",
            "`{}`",
            "\u201c{}\u201d",
            '"{}",',
            "{}'",
            "Bearer {}",
            "bearer {}",
            "BEARER  {}\n",
            "Bearer: {}",
            '"Bearer {}"',
            "Bearer '{}'",
            "Bearer Bearer {}",
            "Authorization: Bearer {}",
            "authorization: bearer {}\r\n",
            '"Authorization": "Bearer {}",',
            "Authorization=Bearer {}",
            "'Authorization: Bearer {}'",
        ],
    )
    @pytest.mark.parametrize(
        "key", [KEY, "a1b2c3d4e5f6", 'sk-9f3Kx/7Lq+2WmAbCdE="x', "eyJhbGciOi.eyJpc3Mi.s9LqK3_x-Z7="]
    )
    def test_what_was_pasted_with_the_key_is_taken_off(self, pasted: str, key: str) -> None:
        assert parse(password=pasted.format(key)).authorization(now=0) == f"Bearer {key}"

    @pytest.mark.parametrize(
        ("pasted", "hint"),
        [
            ("Bearer ", "must hold the API key"),
            ("Authorization: Bearer", "must hold the API key"),
            ('""', "must hold the API key"),
            (f"KLING_API_KEY={KEY}", "must hold the key alone"),
            (f"x-api-key: {KEY}", "must hold the key alone"),
            (f"Token {KEY}", "must hold the key alone"),
            (f"Basic {KEY}", "must hold the key alone"),
            (f'{{"api_key": "{KEY}"}}', "must hold the key alone"),
            (f"curl -H 'Authorization: Bearer {KEY}' https://api.example.com", "must hold the key alone"),
            (f"{KEY} {KEY}", "must hold the key alone"),
            ("<your key>", "must hold the key alone"),
            ("https://api.example.com", "holds a URL"),
            (f"{KEY[:8]}***{KEY[-4:]}", "shortened for display"),
            (f"{KEY[:8]}...{KEY[-4:]}", "shortened for display"),
            (f"{KEY[:8]}\u2026{KEY[-4:]}", "shortened for display"),
            (f"{KEY}\n{KEY}", "holds characters that no API key has"),
            (f"{KEY[:9]}\u200b{KEY[9:]}", "holds characters that no API key has"),
        ],
    )
    def test_what_cannot_be_taken_off_is_refused_with_a_hint(self, pasted: str, hint: str) -> None:
        error = refusal(password=pasted)
        assert hint in str(error)
        assert not shows(pasted, error)

    @given(
        st.text(string.ascii_letters + string.digits + "-_./+=", min_size=1).filter(lambda key: ".." not in key)
    )
    def test_a_key_alone_is_never_changed(self, key: str) -> None:
        if not key.lower().startswith(("bearer", "authorization")):
            assert clean_key(key) == key

    @given(st.text())
    def test_cleaning_twice_is_cleaning_once(self, pasted: str) -> None:
        assert clean_key(clean_key(pasted)) == clean_key(pasted)

    def test_the_key_is_sent_clean_by_both_clients(self, connect: Connect) -> None:
        with RawServer(http_response(json.dumps({"id": "t", "status": "queued"}))) as server:
            hook = KlingHook(connect(server.base_url, f' "Bearer {KEY}"\n'))
            with hook.client.session:
                hook.get_video("t")
            asyncio.run(hook.aget_video("t"))
        assert [request.headers["Authorization"] for request in server.requests] == [f"Bearer {KEY}"] * 2

    def test_airflow_masks_the_key_as_it_is_sent(self, connect: Connect) -> None:
        from airflow.providers.common.compat.sdk import redact

        key = "sk-Qw7Er5Ty3Ui1Op9As8Df6"
        assert KlingHook(connect("https://api.example.com", f"Bearer {key}")).connection.credentials.secret == key
        assert key not in redact(f"sent {key}")


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
class TestWrongField:
    @pytest.mark.parametrize(
        ("field", "form"),
        [
            ("host", "{}"),
            ("host", "https://{}"),
            ("host", "https://{}/"),
            ("host", "{}:443"),
            ("host", "api.example.com/{}"),
            ("host", "https://api.example.com/{}/v1"),
            ("host", "https://api.example.com/v1?key={}"),
            ("host", "https://{}@api.example.com"),
            ("host", "https://user:{}@api.example.com"),
            ("host", "https://api.example.com#{}"),
            ("host", "api.example.com:{}"),
            ("host", "api.example.com {}"),
            ("schema", "{}"),
            ("schema", "v1/{}"),
            ("login", "{}"),
            ("port", "{}"),
        ],
    )
    @pytest.mark.parametrize("password", ["sk-4711-very-secret", None])
    def test_in_a_field_of_airflow(self, key: str, field: str, form: str, password: str | None) -> None:
        error = refusal(**{field: form.format(key), "password": password})
        assert f"\n  - {field_name(field)}='***': " in str(error)
        assert not shows(key, error)

    @pytest.mark.parametrize(
        "name", ["api_key", "key", "notes", "X-Api-Key", "Authorization", "read_timeout", "api"]
    )
    def test_in_an_extra(self, key: str, name: str) -> None:
        error = refusal(extra={name: key})
        assert f"{field_name(f'extra.{name}')}='***': it holds what looks like an API key" in str(error)
        assert not shows(key, error)

    @pytest.mark.parametrize("name", ["verify", "probe", "trust_env", "private_hosts", "refusal_codes"])
    def test_in_an_extra_that_takes_any_text(self, key: str, name: str) -> None:
        error = refusal(extra={name: key})
        assert f"{field_name(f'extra.{name}')}='***'" in str(error)
        assert not shows(key, error)

    @pytest.mark.parametrize("value", [["{}"], {"headers": {"Authorization": "{}"}}, ["a", {"b": ["{}"]}]])
    def test_in_a_nested_extra(self, key: str, value: Any) -> None:
        if "\n" in key or '"' in key:
            pytest.skip("has no literal place in JSON")
        error = refusal(extra={"more": json.loads(json.dumps(value).replace("{}", key))})
        assert "extra.more='***'" in str(error)
        assert not shows(key, error)

    def test_as_the_name_of_an_extra(self, key: str) -> None:
        error = refusal(extra={key: "1"})
        assert "extra." in str(error)
        assert not shows(key, error)

    def test_in_what_airflow_says_of_a_connection_that_it_cannot_read(self, key: str) -> None:
        error = lookup_error(
            "kling_default", ValueError(f"Expected integer value for `port`, but got '{key}' instead.")
        )
        assert not shows(key, error)
        assert error.__cause__ is None


def test_an_id_in_the_name_of_an_extra_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    token = "d41d8cd98f00b204e9800998ecf8427e"
    with caplog.at_level(logging.WARNING):
        connection_from("kling_default", Connection(host="api.example.com", password=KEY), {token: "1"})
    assert "extras that are not read: ***" in caplog.text
    assert token not in caplog.text


def test_a_port_that_is_a_key_in_the_secrets_backend(connect: Connect) -> None:
    from tests.connections import BOOK

    BOOK.add("kling_default", {"conn_type": "kling", "host": "api.example.com", "port": KEY, "password": "sk-1"})
    for ask in (lambda: KlingHook().get_video("t"), lambda: asyncio.run(KlingHook().aget_video("t"))):
        with pytest.raises(KlingError) as caught:
            ask()
        assert not shows(KEY, caught.value)


class TestWhatIsNoKey:
    @pytest.mark.parametrize(
        "fields",
        [
            {"host": "https://api.example.com"},
            {"host": "localhost:8990"},
            {"host": "http://kling-sandbox:8990"},
            {"host": "task-runner"},
            {"host": "risk-management-gateway"},
            {"host": "http://10.0.0.1:8080/kling"},
            {"host": "2001:db8:85a3:8d3:1319:8a2e:370:7348"},
            {"host": "https://d111111abcdef8.cloudfront.net"},
            {"host": "internal-a1b2c3d4e5f6478899aabbccddeeff00-1234567890.us-east-1.elb.amazonaws.com"},
            {"host": "kling-gateway-7f8b9c6d5b-x2x4z.default.svc.cluster.local:8080"},
            {"host": "https://sk-telecom.example.com/kling"},
            {"host": "https://gateway.example.com/v1/0123456789abcdef0123456789abcdef/kling"},
            {"host": "https://gw.example.com/projects/123e4567-e89b-12d3-a456-426614174000"},
            {"host": "gw.example.com", "schema": "kling/api"},
            {"login": "video-team@example.com"},
            {"login": "VideoTeamProductionEurope2026"},
            {"port": 8443},
            {"port": "8443"},
            {"extra": {"verify": "/usr/local/share/ca-certificates/company-root-2026-q4.pem"}},
            {"extra": {"proxy": f"http://user:{SECRET}@proxy.example.com:3128"}},
            {"extra": {"private_hosts": "nas.local:9000, https://media-store-01.internal:*"}},
            {"extra": {"refusal_codes": "insufficient_user_quota, get_channel_failed, 7001"}},
            {"extra": {"conect_timeout": 3, "X-Evil": "1"}},
            {"extra": {"Authorization": "Basic x"}},
        ],
        ids=str,
    )
    def test_is_taken(self, fields: dict[str, Any]) -> None:
        assert parse(**fields).credentials.secret == "sk-4711-very-secret"

    def test_a_wrong_value_is_still_shown(self) -> None:
        message = str(refusal(host="ftp://api.example.com", extra={"api": "no-such-api", "read_timeout": "soon"}))
        for shown in (
            "(host)='ftp://api.example.com'",
            "(extra.api)='no-such-api'",
            "(extra.read_timeout)='soon'",
        ):
            assert shown in message

    @pytest.mark.parametrize(
        "text",
        [
            "kling-v3-std-silent",
            "The conn_id `kling_default` isn't defined",
            "2026-11-03T12:00:00+00:00",
            "a" * 64,
        ],
    )
    def test_stays_in_a_message(self, text: str) -> None:
        assert mask_keys(text) == text


@given(
    st.text(string.ascii_letters + string.digits, min_size=40, max_size=60),
    st.sampled_from(["{}", "x {} y", "/{}/"]),
)
def test_a_random_token_is_nearly_always_recognised(token: str, form: str) -> None:
    kinds = [c.isdigit() for c in token]
    if sum(one != other for one, other in pairwise(kinds)) >= 10:
        assert looks_like_key(form.format(token))

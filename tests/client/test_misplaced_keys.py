# SPDX-License-Identifier: Apache-2.0
"""A key without upper case, or one that is an id, is recognised where no id belongs; no message shows it."""

from __future__ import annotations

import json
import traceback
from typing import Any

import pytest

from airflow_provider_kling.client.connection import KlingConnection
from airflow_provider_kling.connection_form import field_name
from airflow_provider_kling.exceptions import KlingValidationError

KEY = "sk-aa1bb2cc3dd4ee5ff6aa7bb8cc9dd0ee"
PASSWORD = "sk-4711-very-secret"
LOWER = "qmzvtkxwprlnbdghjcsfyaeuoiqwmzvt"
DIGITS = "10293847561029384756102938"
HEX = "3f9a1c7be24d5068a1b2c3d4e5f60718"
UUID = "3f9a1c7b-e24d-5068-a1b2-c3d4e5f60718"
PAIR = f"{UUID}:9f8e7d6c5b4a39281706f5e4d3c2b1a0"


def parse(**fields: Any) -> KlingConnection:
    return KlingConnection.parse(
        **{"conn_id": "kling_default", "host": "api.example.com", "password": PASSWORD, **fields}
    )


def refusal(**fields: Any) -> str:
    """Return all that is shown of the error for a connection."""
    with pytest.raises(KlingValidationError) as caught:
        parse(**fields)
    error = caught.value
    return "".join(traceback.format_exception(error)) + repr(error) + json.dumps(error.to_dict())


class TestAProxy:
    @pytest.mark.parametrize("key", [KEY, LOWER, DIGITS, HEX, UUID, PAIR])
    @pytest.mark.parametrize(
        "form", ["{}", "http://{}", "https://{}:3128", " {}/", "http://user:word@{}:3128", "user@{}"]
    )
    def test_whose_host_is_a_key(self, key: str, form: str) -> None:
        shown = refusal(extra={"proxy": form.format(key)})
        assert "Proxy (extra.proxy)='***'" in shown
        assert key not in shown

    @pytest.mark.parametrize("key", [KEY, PAIR])
    @pytest.mark.parametrize("form", ["http://proxy.example.com/{}", "http://u:p@proxy.example.com:3128/?key={}"])
    def test_whose_path_holds_a_key(self, key: str, form: str) -> None:
        shown = refusal(extra={"proxy": form.format(key)})
        assert "Proxy (extra.proxy)='***'" in shown
        assert key not in shown

    @pytest.mark.parametrize(
        "proxy",
        [
            f"http://user:{KEY}@proxy.example.com:3128",
            f"{KEY}@proxy:3128",
            f"{PAIR}@proxy:3128",
            "http://proxy:3128",
            "proxy.example.com",
            "http://[2001:db8::1]:3128",
            "internal-a1b2c3d4e5f6478899aabbccddeeff00-1234567890.us-east-1.elb.amazonaws.com:3128",
        ],
    )
    def test_without_one_is_taken(self, proxy: str) -> None:
        assert proxy in (parse(extra={"proxy": proxy}).proxy or "")


class TestAWrongValue:
    @pytest.mark.parametrize("key", [LOWER, DIGITS, LOWER[:20], DIGITS[:20], HEX, UUID, PAIR])
    @pytest.mark.parametrize(
        "fields",
        [
            {"port": "{}"},
            {"host": "api.example.com {}"},
            {"host": "api.example.com:{}"},
            {"host": "ftp://api.example.com/{}"},
            {"extra": {"api": "{}"}},
            {"extra": {"read_timeout": "{}"}},
            {"extra": {"max_requests_per_second": ["{}"]}},
            {"extra": {"private_hosts": "{} x"}},
            {"extra": {"refusal_codes": {"{}": 1}}},
        ],
        ids=str,
    )
    def test_that_may_be_a_key_is_not_shown(self, key: str, fields: dict[str, Any]) -> None:
        filled = json.loads(json.dumps(fields).replace("{}", key))
        if key.isdigit() and "extra" in fields:
            filled["extra"]["connect_timeout"] = "soon"  # a long number is a number
        assert key not in refusal(**filled)

    def test_that_is_a_long_number(self) -> None:
        assert DIGITS not in refusal(port=int(DIGITS))


class TestAnId:
    @pytest.mark.parametrize("key", [LOWER, DIGITS, HEX, HEX.upper(), UUID, PAIR])
    @pytest.mark.parametrize(
        ("field", "fields"),
        [
            ("schema", {"schema": "{}"}),
            ("schema", {"schema": "v1/{}"}),
            ("login", {"login": "{}"}),
            ("host", {"host": "{}"}),
            ("extra.verify", {"extra": {"verify": "{}"}}),
            ("extra.trust_env", {"extra": {"trust_env": "{}"}}),
            ("extra.probe", {"extra": {"probe": "{}"}}),
            ("extra.private_hosts", {"extra": {"private_hosts": "{}"}}),
            ("extra.private_hosts", {"extra": {"private_hosts": ["nas.local", "{}"]}}),
            ("extra.refusal_codes", {"extra": {"refusal_codes": "a, {}"}}),
        ],
        ids=str,
    )
    def test_where_none_belongs_is_a_key(self, key: str, field: str, fields: dict[str, Any]) -> None:
        shown = refusal(**json.loads(json.dumps(fields).replace("{}", key)))
        assert f"{field_name(field)}='***'" in shown
        assert key not in shown

    @pytest.mark.parametrize("pair", [PAIR, f"{HEX}:{HEX}", PAIR.upper()])
    @pytest.mark.parametrize(
        "fields",
        [
            {"host": "https://api.example.com/{}"},
            {"host": "{}"},
            {"schema": "{}"},
            {"extra": {"notes": "{}"}},
            {"extra": {"{}": "1"}},
        ],
        ids=str,
    )
    def test_two_of_them_are_a_key_anywhere(self, pair: str, fields: dict[str, Any]) -> None:
        assert pair not in refusal(**json.loads(json.dumps(fields).replace("{}", pair)))

    @pytest.mark.parametrize(
        "fields",
        [
            {"host": f"https://api.example.com/{HEX}/v1"},
            {"host": f"https://api.example.com/{UUID}"},
            {"host": f"http://{HEX}.example.com"},
            {"login": "video-team-of-the-european-marketing@example.com"},
            {"extra": {"verify": f"/etc/ssl/certs/{HEX}.pem"}},
            {"extra": {"verify": f"certs/{HEX}.crt"}},
            {"extra": {"verify": f"C:\\certs\\{HEX}"}},
            {"extra": {"private_hosts": f"{HEX}.cdn.example.com, nas:9000"}},
            {"extra": {"refusal_codes": "insufficient_user_quota_for_this_model, 1102"}},
        ],
        ids=str,
    )
    def test_where_one_may_be_is_taken(self, fields: dict[str, Any]) -> None:
        assert parse(**fields).credentials.secret == PASSWORD


class TestAPassword:
    @pytest.mark.parametrize(
        "pasted",
        [
            "{},",
            "{};",
            "{} ;\n",
            "({})",
            "(Bearer {})",
            "Bearer%20{}",
            "Bearer+{}",
            "Bearer{}",
            "BearerBearer {}",
            '\\"{}\\"',
            '\\\\\\"{}\\\\\\"',
            '\\"Bearer {}\\",',
            "{}\\n",
            "{}\\r\\n",
            '"{}\\n"',
            "{}\\",
            "\u201e{}\u201c",
            "\u202a{}\u202c",
            "{}\u2060",
        ],
    )
    def test_is_cleaned(self, pasted: str) -> None:
        assert parse(password=pasted.format(KEY)).credentials.secret == KEY

    @pytest.mark.parametrize(
        ("pasted", "hint"),
        [
            (f"{KEY}.", "ends with a full stop"),
            (f"{KEY},{KEY}", "characters that no API key has"),
            (f"{KEY};{KEY}", "characters that no API key has"),
            (f"\\n{KEY}", "characters that no API key has"),
            (f"b'{KEY}'", "characters that no API key has"),
            (f"key({KEY})", "characters that no API key has"),
            (f"{KEY[:9]}%2D{KEY[9:]}", "characters that no API key has"),
            *(
                (word, "holds a placeholder")
                for word in (
                    "None",
                    "null",
                    "undefined",
                    "changeme",
                    "YOUR_API_KEY",
                    "your-api-key",
                    "YOUR_KLING_KEY",
                    "KLING_API_KEY",
                    "sk-xxxxxxxx",
                    "sk-xxxx-xxxx",
                    "XXXXXXXXXXXX",
                    "sk-your-key-here",
                    "Bearer YOUR_API_KEY",
                    '"None"',
                )
            ),
        ],
    )
    def test_that_is_no_key_is_refused_and_not_shown(self, pasted: str, hint: str) -> None:
        shown = refusal(password=pasted)
        assert "API key (password)='***': " in shown
        assert hint in shown
        assert KEY[3:] not in shown

    @pytest.mark.parametrize(
        "key",
        [
            KEY,
            "AKLTZmFhNWQ0YzU3ODk0NDIwN2E5",
            "a.b~c+d/e=f:g_h-i",
            PAIR,
            "eyJhbGciOi.eyJpc3Mi.s9LqK3_x-Z7=",
            "xai-Zx9Qv7Kp3Lm8Rt2W",
            "nullify-1234",
            "bearer-token-1",
            "yourkey1234",
        ],
    )
    def test_that_is_a_key_is_kept(self, key: str) -> None:
        assert parse(password=key).credentials.secret == key

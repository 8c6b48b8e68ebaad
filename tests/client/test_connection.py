# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
import pickle
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from airflow.models.connection import Connection
from hypothesis import example, given
from hypothesis import strategies as st
from yarl import URL

from airflow_provider_kling.client.connection import EXTRAS, HEADERS, KlingConnection, origin
from airflow_provider_kling.exceptions import KlingValidationError
from tests.fixtures.responses import KEY


def parse(host: str | None = "api.example.com", password: str | None = KEY, **fields: Any) -> KlingConnection:
    return KlingConnection.parse(conn_id="kling_default", host=host, password=password, **fields)


def refusal(**fields: Any) -> str:
    with pytest.raises(KlingValidationError) as caught:
        parse(**fields)
    return str(caught.value)


#: What URLs are made of.
PIECES = [
    *"/\\@:#?.。 \t\n\x00[]ü",
    *("https:", "http:", "//", "443", "80", "%2e", "%40", "::1", "user"),
    *("api.example.com", "API.example.COM", "evil.test"),
]


class TestBaseUrl:
    @pytest.mark.parametrize(
        ("fields", "base_url"),
        [
            ({"host": "api.example.com"}, "https://api.example.com"),
            ({"host": " api.example.com "}, "https://api.example.com"),
            ({"host": "https://api.example.com"}, "https://api.example.com"),
            ({"host": "https://api.example.com/"}, "https://api.example.com"),
            ({"host": "http://api.example.com"}, "http://api.example.com"),
            ({"host": "HTTPS://API.Example.COM"}, "https://api.example.com"),
            ({"host": "api.example.com", "schema": "http"}, "http://api.example.com"),
            ({"host": "api.example.com", "schema": "HTTPS"}, "https://api.example.com"),
            ({"host": "https://api.example.com", "schema": "http"}, "https://api.example.com"),
            ({"host": "api.example.com", "port": 8443}, "https://api.example.com:8443"),
            ({"host": "api.example.com:8443"}, "https://api.example.com:8443"),
            ({"host": "http://127.0.0.1:8990"}, "http://127.0.0.1:8990"),
            ({"host": "api.example.com:8443", "port": 8443}, "https://api.example.com:8443"),
            ({"host": "api.example.com:8443", "port": 0}, "https://api.example.com:8443"),
            ({"host": "api.example.com", "port": 0}, "https://api.example.com"),
            ({"host": "api.example.com", "port": 443}, "https://api.example.com"),
            ({"host": "http://api.example.com:80", "port": "80"}, "http://api.example.com"),
            ({"host": "http://api.example.com", "port": 443}, "http://api.example.com:443"),
            ({"host": None, "port": 443, "extra": {"api": "official"}}, "https://api-singapore.klingai.com"),
            ({"host": "https://gw.example.com/kling"}, "https://gw.example.com/kling"),
            ({"host": "gw.example.com/team/kling/"}, "https://gw.example.com/team/kling"),
            ({"host": "gw.example.com", "schema": "kling/api"}, "https://gw.example.com/kling/api"),
            ({"host": "gw.example.com", "schema": "/kling/"}, "https://gw.example.com/kling"),
            ({"host": "https://gw.example.com/v1"}, "https://gw.example.com"),
            ({"host": "https://gw.example.com/v1/"}, "https://gw.example.com"),
            ({"host": "https://gw.example.com/kling/v1"}, "https://gw.example.com/kling"),
            ({"host": "https://gw.example.com/kling-v1"}, "https://gw.example.com/kling-v1"),
            ({"host": "[::1]"}, "https://[::1]"),
            ({"host": "[::1]:8990"}, "https://[::1]:8990"),
            ({"host": "http://[2001:db8::5]:8990/kling"}, "http://[2001:db8::5]:8990/kling"),
            ({"host": "::1", "port": 8990}, "https://[::1]:8990"),
            ({"host": "2001:db8::5"}, "https://[2001:db8::5]"),
            ({"host": "https://Bücher.example/kling"}, "https://xn--bcher-kva.example/kling"),
            ({"host": "faß.example:8443"}, "https://xn--fa-hia.example:8443"),
            ({"host": "xn--bcher-kva.example"}, "https://xn--bcher-kva.example"),
            ({"host": "api。example。com"}, "https://api.example.com"),
            ({"host": "https://gw.example.com/a b"}, "https://gw.example.com/a b"),
        ],
        ids=str,
    )
    def test_every_form(self, fields: dict[str, Any], base_url: str) -> None:
        assert parse(**fields).base_url == base_url

    @pytest.mark.parametrize(
        ("uri", "base_url"),
        [
            ("kling://:key@api.example.com", "https://api.example.com"),
            ("kling://:key@api.example.com:8443", "https://api.example.com:8443"),
            ("kling://:key@127.0.0.1:8990/http", "http://127.0.0.1:8990"),
            ("kling://:key@gw.example.com/kling%2Fapi", "https://gw.example.com/kling/api"),
            ("kling://:key@http%3A%2F%2F127.0.0.1%3A8990%2Fkling", "http://127.0.0.1:8990/kling"),
            ("kling://https://:key@api.example.com:8443", "https://api.example.com:8443"),
            ("kling://:key@[::1]:8990/http", "http://[::1]:8990"),
        ],
    )
    def test_the_uri_form_of_an_airflow_connection(self, uri: str, base_url: str) -> None:
        found = Connection(uri=uri)
        parsed = parse(host=found.host, password=found.password, schema=found.schema, port=found.port)
        assert (parsed.base_url, parsed.credentials.secret) == (base_url, "key")

    @pytest.mark.parametrize(
        "host",
        [
            None,
            "",
            "  ",
            "https://",
            "ftp://api.example.com",
            "api example.com",
            "api.example.com:port",
            "https://api.example.com:99999",
            "https://[::1",
            "/v1/videos",
            "https://evil.test\\.example.com",
            "https://api.example.com\\@evil.test",
            "https://api\x00.example.com",
            "https://℀.example",
            "https://" + "ü" * 70 + ".example",
        ],
    )
    def test_what_is_no_base_url_is_refused(self, host: str | None) -> None:
        message = refusal(host=host)
        assert "connection 'kling_default' cannot be used" in message
        assert "\n  - Base URL (host)" in message

    @pytest.mark.parametrize("port", [-1, 99_999])
    def test_a_port_that_cannot_be_is_refused(self, port: int) -> None:
        assert "\n  - " in refusal(port=port)

    def test_a_port_that_differs_from_that_of_the_base_url_is_refused(self) -> None:
        message = refusal(host="api.example.com:8443", port=9)
        assert "\n  - Port (port)=9: it must be that of the Base URL, which has 8443, or 0\n" in message

    @pytest.mark.parametrize(
        "host",
        [
            f"https://user:{KEY}@api.example.com",
            f"https://{KEY}@api.example.com:port",
            f"{KEY}@api.example.com",
            f"https://api.example.com?key={KEY}",
            f"https://api.example.com#{KEY}",
            f"https://api.example.com:port?key={KEY}",
        ],
    )
    def test_a_key_typed_into_the_host_is_refused_and_not_shown(self, host: str) -> None:
        message = refusal(host=host)
        assert "Base URL (host)='***': it must be" in message
        assert KEY not in message

    @given(st.text(), st.none() | st.text(max_size=8), st.none() | st.integers(-(10**6), 10**6))
    def test_no_host_at_all_breaks_it(self, host: str, schema: str | None, port: int | None) -> None:
        try:
            connection = parse(host=host, schema=schema, port=port)
        except KlingValidationError:
            return
        assert connection.base_url.startswith(("http://", "https://"))
        assert connection.is_own_origin(connection.url("/v1/videos/x"))


class TestKey:
    @pytest.mark.parametrize("password", [None, "", "  "])
    def test_no_key_is_refused(self, password: str | None) -> None:
        assert "API key (password) is empty: it must hold the API key" in refusal(password=password)

    @pytest.mark.parametrize("password", ["sk-ключ", "sk-a\nX-Evil: 1", "sk-\x00", "sk-\u200b1"])
    def test_a_key_that_cannot_be_one_is_refused_and_not_shown(self, password: str) -> None:
        message = refusal(password=password)
        assert "holds characters that no API key has" in message
        assert password not in message

    def test_spaces_around_a_key_are_taken_off(self) -> None:
        assert parse(password=f" {KEY}\n").authorization(now=0) == f"Bearer {KEY}"

    def test_the_key_is_in_no_spelling_of_the_connection(self) -> None:
        connection = parse()
        assert KEY not in f"{connection} {connection!r} {[connection]}"

    def test_the_key_is_in_no_error_about_other_fields(self) -> None:
        assert KEY not in refusal(host="", extra={"read_timeout": "soon"})


class TestExtras:
    @pytest.mark.parametrize("name", ["probe", "trust_env"])
    def test_a_switch_that_is_neither_on_nor_off_is_refused(self, name: str) -> None:
        assert f"(extra.{name})='maybe': it must be true or false" in refusal(extra={name: "maybe"})

    def test_the_defaults(self) -> None:
        connection = parse()
        assert (connection.connect_timeout, connection.read_timeout) == (10.0, 60.0)
        assert (connection.verify, connection.proxy, connection.trust_env) == (True, None, True)

    def test_each_is_read_by_its_name(self) -> None:
        connection = parse(
            extra={
                "connect_timeout": 3,
                "read_timeout": "4.5",
                "verify": "/etc/ca.pem",
                "proxy": "http://proxy:3128",
                "trust_env": "no",
            }
        )
        assert (connection.connect_timeout, connection.read_timeout) == (3.0, 4.5)
        assert (connection.verify, connection.proxy) == ("/etc/ca.pem", "http://proxy:3128")
        assert connection.trust_env is False
        assert connection.unknown_extras == ()

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (["insert_task_failed", "Server_Busy"], ("insert_task_failed", "server_busy")),
            ([7001, " 7002 "], ("7001", "7002")),
            (7001, ("7001",)),
            ("insert_task_failed", ("insert_task_failed",)),
            ("a, B ,,7001", ("a", "b", "7001")),
            ('["insert_task_failed", "b"]', ("insert_task_failed", "b")),
            ((), ()),
            ([""], ()),
        ],
    )
    def test_refusal_codes_however_they_were_typed(self, given: Any, expected: tuple[str, ...]) -> None:
        assert parse(extra={"refusal_codes": given}).refusal_codes == expected

    @pytest.mark.parametrize("given", [{"a": 1}, True, 1.5, [None], [["a"]], [True], [{"code": "a"}]])
    def test_refusal_codes_that_are_none_are_refused(self, given: Any) -> None:
        assert "extra.refusal_codes" in refusal(extra={"refusal_codes": given})

    @pytest.mark.parametrize(
        ("given", "expected"),
        [(False, False), ("false", False), ("off", False), (0, False), (True, True), ("yes", True)],
    )
    def test_the_probe_can_be_turned_off(self, given: Any, expected: bool) -> None:
        assert parse().probe
        assert parse(extra={"probe": given}).probe is expected

    def test_unknown_ones_are_named_and_nothing_else_comes_of_them(self) -> None:
        connection = parse(extra={"X-Evil": "1", "conect_timeout": 1, "read_timeout": 5})
        assert connection.unknown_extras == ("X-Evil", "conect_timeout")
        assert connection == parse(extra={"X-Evil": "2", "conect_timeout": 3, "read_timeout": 5})

    @pytest.mark.parametrize("nothing", [None, ""])
    def test_an_empty_form_field_means_the_default(self, nothing: str | None) -> None:
        assert parse(extra=dict.fromkeys(EXTRAS, nothing)) == parse()

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            (True, True),
            ("true", True),
            ("True", True),
            (1, True),
            ("on", True),
            ("yes", True),
            (False, False),
            ("false", False),
            ("FALSE", False),
            (0, False),
            ("off", False),
            ("no", False),
        ],
    )
    def test_a_switch_however_it_was_typed(self, given: Any, expected: bool) -> None:
        connection = parse(extra={"verify": given, "trust_env": given})
        assert (connection.verify, connection.trust_env) == (expected, expected)

    @pytest.mark.parametrize("given", [20, 20.0, "20", " 20 ", "20.0"])
    def test_a_number_of_jobs_however_it_was_typed(self, given: Any) -> None:
        limit = parse(extra={"max_concurrent_jobs": given}).max_concurrent_jobs
        assert (limit, type(limit)) == (20, int)

    def test_the_number_of_jobs_is_unknown_by_default(self) -> None:
        assert parse().max_concurrent_jobs is None

    @pytest.mark.parametrize("value", [0, -1, 2.5, "2.5", "many", True, [5], math.nan, math.inf, 10**400])
    def test_a_number_of_jobs_that_is_none_is_refused(self, value: Any) -> None:
        message = refusal(extra={"max_concurrent_jobs": value})
        assert "\n  - Jobs at once (extra.max_concurrent_jobs)=" in message
        assert ": it must be a positive whole number" in message

    @pytest.mark.parametrize("name", ["connect_timeout", "read_timeout", "max_requests_per_second"])
    @pytest.mark.parametrize("value", [0, -1, "soon", True, [5], math.nan, math.inf, "-3"])
    def test_a_timeout_that_is_none_is_refused(self, name: str, value: Any) -> None:
        assert f"(extra.{name})={value!r}: it must be a positive number" in refusal(extra={name: value})

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ("http://proxy:3128", "http://proxy:3128"),
            ("https://proxy", "https://proxy"),
            (" proxy:3128 ", "http://proxy:3128"),
            ("//proxy:3128/", "http://proxy:3128/"),
            ("user:p%40ss@proxy:3128", "http://user:p%40ss@proxy:3128"),
            ("HTTP://[::1]:3128", "HTTP://[::1]:3128"),
        ],
    )
    def test_a_proxy_however_it_was_typed(self, given: str, expected: str) -> None:
        assert parse(extra={"proxy": given}).proxy == expected

    @pytest.mark.parametrize(
        "proxy",
        [
            "socks5://u:hunter2@proxy",
            "ftp://proxy",
            "u:hunter2@",
            "u:hunter2@proxy:x",
            "u:hunter2@proxy:99999",
            "http://",
            "a b",
        ],
    )
    def test_what_is_no_proxy_is_refused_and_not_shown(self, proxy: str) -> None:
        message = refusal(extra={"proxy": proxy})
        assert "Proxy (extra.proxy)='***': it must be the http(s) URL of a proxy" in message
        assert "hunter2" not in message

    @given(st.text())
    @example("http://u:hunter2@℀.example")
    def test_no_proxy_at_all_breaks_it(self, proxy: str) -> None:
        with suppress(KlingValidationError):
            assert (parse(extra={"proxy": proxy}).proxy or "http://").lower().startswith(("http://", "https://"))

    def test_all_problems_are_reported_at_once(self) -> None:
        message = refusal(host="", password="", extra={"connect_timeout": 0, "read_timeout": "x"})
        assert message.splitlines() == [
            "The Airflow connection 'kling_default' cannot be used:",
            "  - Base URL (host) is empty: it must be the address of the API, such as https://api.example.com",
            "  - API key (password) is empty: it must hold the API key",
            "  - Connect timeout (extra.connect_timeout)=0: it must be a positive number",
            "  - Read timeout (extra.read_timeout)='x': it must be a positive number",
            "Correct it under Admin > Connections, or where it is stored.",
        ]


class TestWhereTheKeyMayGo:
    @pytest.mark.parametrize(
        "url",
        [
            "https://api.example.com/v1/videos/x",
            "https://api.example.com:443/files/x.mp4",
            "https://API.EXAMPLE.COM/x",
            "HTTPS://api.example.com",
            "https://user@api.example.com/x",
        ],
    )
    def test_to_its_own_host(self, url: str) -> None:
        assert parse().is_own_origin(url)

    @pytest.mark.parametrize(
        "url",
        [
            "http://api.example.com/v1/videos/x",
            "https://api.example.com:8443/x",
            "https://cdn.example.com/x",
            "https://api.example.com.evil.test/x",
            "https://evil.test/api.example.com",
            "https://api.example.com@evil.test/x",
            "https://evil.test#@api.example.com",
            "//api.example.com/x",
            "/v1/videos/x",
            "",
            "https://[::1",
            "https://api.example.com:99999/",
            "http://api.example.com:443/",
            "https://evil.test\\@api.example.com/",
            "https://api.example.com\\@evil.test/",
            "https://api.example.com\\.evil.test/",
            "https://api.example.com\t/",
            "https://api.exa\nmple.com/",
            "https://evil.test\n@api.example.com/",
            "https://evil.test @api.example.com/",
            "https://api。example。com/",
            "https://api.example.com./",
            "https://api.example.com%2eevil.test/",
            "https://api.example.com:４４３/",
            "https://api\u00ad.example.com/",
            "https:api.example.com/",
            "https:///api.example.com/",
            "https:\\\\api.example.com/",
        ],
    )
    def test_and_nowhere_else(self, url: str) -> None:
        assert not parse().is_own_origin(url)

    @given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join), st.sampled_from(["", "https://"]))
    @example("evil.test\\@api.example.com", "https://")
    def test_a_url_that_clients_would_send_elsewhere_is_not_its_own(self, rest: str, scheme: str) -> None:
        url = scheme + rest
        if not parse().is_own_origin(url):
            return
        own = ("https", "api.example.com", 443)
        with suppress(ValueError):
            prepared = urlsplit(requests.Request("GET", url).prepare().url)
            assert (prepared.scheme, prepared.hostname, prepared.port or 443) == own
        with suppress(ValueError):
            assert (URL(url).scheme, URL(url).raw_host, URL(url).port or 443) == own

    @pytest.mark.parametrize(
        "host", ["https://bücher.example", "https://gw.example.com/a b", "HTTPS://API.example.com"]
    )
    def test_it_goes_to_the_url_that_is_really_sent(self, host: str) -> None:
        connection = parse(host=host)
        sent = requests.Request("GET", connection.url("/v1/videos/x")).prepare().url
        assert connection.is_own_origin(str(sent))
        assert connection.is_own_origin(str(URL(connection.url("/v1/videos/x"))))

    def test_another_port_of_the_same_host_is_another_host(self) -> None:
        assert not parse(host="http://127.0.0.1:8990").is_own_origin("http://127.0.0.1:8991/x")

    def test_a_written_standard_port_is_the_same_as_none(self) -> None:
        assert origin("http://example.com:80/") == origin("http://example.com")


class TestPrivateHosts:
    @pytest.mark.parametrize(
        ("entry", "url"),
        [
            ("nas.local", "http://nas.local/x.mp4"),
            ("nas.local", "https://nas.local/x.mp4"),
            ("nas.local", "https://nas.local:443/x.mp4"),
            ("NAS.local", "http://nas.LOCAL/x.mp4"),
            ("nas.local:9000", "http://nas.local:9000/x.mp4"),
            ("nas.local:9000", "https://nas.local:9000/x.mp4"),
            ("http://nas.local", "http://nas.local:80/x.mp4"),
            ("https://nas.local:9000/", "https://nas.local:9000/x.mp4"),
            ("nas.local:*", "http://nas.local:1/x.mp4"),
            ("https://nas.local:*", "https://nas.local:1/x.mp4"),
            ("10.0.0.1:080", "http://10.0.0.1/x.mp4"),
            ("::1", "http://[::1]/x.mp4"),
            ("[::1]:9000", "http://[::1]:9000/x.mp4"),
        ],
    )
    def test_are_allowed_where_they_are_named(self, entry: str, url: str) -> None:
        assert parse(extra={"private_hosts": f"other.local, {entry}"}).may_download_from(url)
        assert parse(extra={"private_hosts": [entry]}).may_download_from(url)

    @pytest.mark.parametrize(
        ("entry", "url"),
        [
            ("nas.local", "http://nas.local:6379/"),
            ("nas.local", "http://nas.local:443/"),
            ("nas.local", "https://nas.local:80/"),
            ("nas.local:9000", "http://nas.local/x.mp4"),
            ("nas.local:9000", "http://nas.local:9001/x.mp4"),
            ("https://nas.local", "http://nas.local/x.mp4"),
            ("https://nas.local", "http://nas.local:443/x.mp4"),
            ("https://nas.local:*", "http://nas.local:443/x.mp4"),
            ("nas.local:*", "http://nas.local.example.com/x.mp4"),
            ("[::1]:9000", "http://[::1]/x.mp4"),
        ],
    )
    def test_and_nowhere_else(self, entry: str, url: str) -> None:
        assert not parse(extra={"private_hosts": entry}).may_download_from(url)

    @pytest.mark.parametrize(
        "entry",
        [
            "nas.local:port",
            "nas.local:0",
            "nas.local:65536",
            "nas.local:",
            "ftp://nas.local",
            "http://nas.local/videos",
            "*.local",
            "10.0.0.0/8",
            "[::1",
            "nas local",
            "u:hunter2@nas.local",
            "//nas.local",
        ],
    )
    def test_an_invalid_entry_is_reported(self, entry: str) -> None:
        message = refusal(extra={"private_hosts": f"other.local, {entry}"})
        assert "Private hosts (extra.private_hosts)=" in message
        assert "must be host, host:port or scheme://host:port" in message
        assert "hunter2" not in message

    @given(st.text(), st.sampled_from(["http://nas.local/x", "https://[::1]:1/x", "http://10.0.0.1"]))
    def test_nothing_at_all_breaks_them(self, entry: str, url: str) -> None:
        with suppress(KlingValidationError):
            parse(extra={"private_hosts": entry}).may_download_from(url)


def test_the_user_agent_names_package_and_version(installed: str) -> None:
    assert HEADERS["User-Agent"] == f"airflow-provider-kling/{installed}"


def test_a_connection_can_be_copied_between_processes() -> None:
    assert pickle.loads(pickle.dumps(parse())) == parse()  # noqa: S301

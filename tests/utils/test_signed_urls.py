# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import html
import json
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.utils.signed_urls import (
    MASK,
    MIN_SECRET,
    SIGNINGS,
    mask_signatures,
    signatures_in,
    without_signature,
)
from tests.fixtures.signed_urls import FILE, SIGNATURE, SIGNED, TOKEN, signed

every_vendor = pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED.keys())


class TestWithoutSignature:
    @every_vendor
    def test_all_that_belongs_to_the_signature_goes(self, query: str) -> None:
        assert without_signature(signed(query)) == FILE

    @every_vendor
    def test_all_else_stays_in_its_order_and_spelling(self, query: str) -> None:
        kept = "response-content-type=image%2fpng&versionId=3%41&&b=+&a"
        assert without_signature(signed(query, first=f"{kept}&", last="&Z=%7e&z=#top")) == (
            f"{FILE}?{kept}&Z=%7e&z=#top"
        )

    @pytest.mark.parametrize(
        "query",
        [
            "Expires=1762000000",
            "Signature=abc",
            "Signature=abc&Expires=1762000000",
            "AWSAccessKeyId=AKID&Expires=1762000000",
            "X-Amz-Date=20261101T000000Z&X-Amz-Expires=900",
            "X-Amz-Signature=",
            "X-Amz-Signature",
            "sig=abc",
            "sig=abc&sv=1",
            "sv=1&se=2&sr=b",
            "Key-Pair-Id=K2",
            "token=abc",
            "xX-Amz-Signature=abc",
        ],
    )
    def test_without_a_vendors_whole_signature_all_parameters_stay(self, query: str) -> None:
        assert without_signature(f"{FILE}?{query}") == f"{FILE}?{query}"

    def test_one_vendors_signature_does_not_drop_anothers_parameters(self) -> None:
        url = f"{FILE}?X-Amz-Signature=abc&Expires=5&sv=1&Key-Pair-Id=K2"
        assert without_signature(url) == f"{FILE}?Expires=5&sv=1&Key-Pair-Id=K2"

    @every_vendor
    def test_names_are_read_in_any_case_and_any_spelling(self, query: str) -> None:
        names = [(*parameter.partition("="),) for parameter in query.split("&")]
        for spell in (str.lower, str.upper, lambda name: "".join(f"%{ord(c):02x}" for c in name)):
            assert without_signature(signed("&".join(spell(n) + e + v for n, e, v in names))) == FILE

    @pytest.mark.parametrize(
        "what_is_served",
        [
            *(
                "versionId=2",
                "partNumber=2",
                "response-content-type=x",
                "response-content-disposition=x",
                "x-id=Get",
            ),
            *("x-oss-process=image%2Fresize,w_9", "generation=2", "userProject=x", "snapshot=2026", "versionid=2"),
            *("rscc=x", "rscd=x", "rsce=x", "rscl=x", "rsct=x", "imageMogr2/thumbnail/9x", "x-tos-process=x"),
        ],
    )
    @every_vendor
    def test_what_changes_what_is_served_stays(self, query: str, what_is_served: str) -> None:
        assert without_signature(signed(query, last=f"&{what_is_served}")) == f"{FILE}?{what_is_served}"

    @pytest.mark.parametrize(
        "text",
        [
            f"Look at {signed(SIGNED['AWS V4'])}",
            f"{signed(SIGNED['AWS V4'])} is nice",
            f"ftp://example.com/a?{SIGNED['AWS V4']}",
            f"https://example.com/a#?{SIGNED['AWS V4']}",
            *("", "?", "https://", "https://?", "https://h?#", "A traveler in desert ruins"),
        ],
    )
    def test_what_is_no_url_as_a_whole_stays(self, text: str) -> None:
        assert without_signature(text) == text

    @pytest.mark.parametrize(
        "place",
        ["https://[::1]:443/a", "HTTPS://u:p@h/ä b/%zz/%", "http://[broken/a", "https://h:x:y//", "https://"],
    )
    def test_any_host_and_path_stay(self, place: str) -> None:
        assert without_signature(signed(SIGNED["AWS V4"], file=place, first="%zz=%&")) == f"{place}?%zz=%"

    @given(st.text() | st.text("?&=#%/: \ud800X-").map(lambda text: f"https://h/a?{text}"))
    @example(f"https://h/a?{'%zz' * 9}&X-Amz-Signature=1&\ud800=%ff")
    def test_it_never_raises_and_is_stable(self, text: str) -> None:
        once = without_signature(text)
        assert without_signature(once) == once
        assert len(once) <= len(text)

    @pytest.mark.parametrize(
        "hostile", ["?", "&", "=", "%", "%41", " ", "#", "a", "X-Amz-Signature=1&", "sig=1&sv=1&se=1&", "https://"]
    )
    def test_a_hostile_text_costs_little_time(self, hostile: str) -> None:
        started = time.process_time()
        without_signature("https://h/?" + hostile * ((1 << 20) // len(hostile)))
        without_signature(hostile * ((1 << 20) // len(hostile)))
        assert time.process_time() - started < 3

    def test_the_table_is_in_lower_case(self) -> None:
        assert all(name == name.lower() for signing in SIGNINGS for name in signing.names)


SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in HTML": html.escape,
    "in HTML, by number": lambda text: text.replace("&", "&#38;").replace("=", "&#x3d;").replace("/", "&#x2F;"),
    "in JSON": json.dumps,
    "in JSON of PHP": lambda text: json.dumps(text).replace("/", r"\/"),
    "in JSON for HTML": lambda text: json.dumps(text).replace("&", r"\u0026").replace("=", r"\u003d"),
    "in JSON inside JSON": lambda text: json.dumps(json.dumps(text).replace("&", r"\u0026")),
    "in a URL": lambda text: f"https://proxy.example/?url={quote(text, safe='')}&x=1",
    "in a message": lambda text: f"GET {text}: refused. Try ({text}), or '{text}'.",
}


class TestMaskSignatures:
    @pytest.mark.parametrize("spell", SPELLINGS.values(), ids=SPELLINGS.keys())
    @every_vendor
    def test_no_credential_is_left(self, query: str, spell: Callable[[str], str]) -> None:
        masked = mask_signatures(spell(f"{FILE}?a=1&{query.format(signature=SIGNATURE, token=TOKEN)}"))
        for secret in (SIGNATURE, SIGNATURE[:-6], "Bk%3D", "Bk=", TOKEN):
            assert secret not in masked
        assert MASK in masked

    @every_vendor
    def test_all_else_stays(self, query: str) -> None:
        kept = [part for part in query.split("&") if "{" not in part and "credential=" not in part.lower()]
        masked = mask_signatures(f"<a href='{signed(query)}'>here</a>, says the server.")
        assert masked.startswith(f"<a href='{FILE}?")
        assert masked.endswith("'>here</a>, says the server.")
        assert [part for part in kept if part not in masked] == []

    def test_it_masks_short_values_as_well(self) -> None:
        assert mask_signatures("https://h/a?sig=x&b=2, then https://h?b=2&Signature=yz.") == (
            "https://h/a?sig=***&b=2, then https://h?b=2&Signature=***."
        )

    def test_an_escaped_ampersand_does_not_end_a_value(self) -> None:
        assert mask_signatures("https://h/a?sig=abc%26def&b=2") == "https://h/a?sig=***&b=2"

    @pytest.mark.parametrize(
        "prose",
        [
            "The signature=none is wrong, and so is sig=1",
            "Policy=strict; token=abc",
            "Is it a signature? Signature=abc is none",
            "R&D sig=3",
            "https://h/a?design=modern&signatures=2&big=3&sig",
            "https://h/a?sig=&b=2",
        ],
    )
    def test_prose_is_not_touched(self, prose: str) -> None:
        assert mask_signatures(prose) == prose

    @given(st.text() | st.text("?&=sig%26;amp\\u0 "))
    @example("?sig=a&sig=b&&sig=")
    def test_masking_twice_is_masking_once(self, text: str) -> None:
        once = mask_signatures(text)
        assert mask_signatures(once) == once

    @pytest.mark.parametrize(
        "hostile",
        [
            *("?", "&", "=", "\\", "%", "%26", "&amp;", "?sig=", "?sig=a", "&sig=.", "&amp;sig=a", "?sig=&", "&a"),
            *("?amp;", "%3Fsig%3Da", "?sig=a&&", "&a.b-", "?signature", "."),
        ],
    )
    def test_a_hostile_text_costs_little_time(self, hostile: str) -> None:
        size = 1 << 18
        for text in (hostile * (size // len(hostile)), "?sig=" + hostile * (size // len(hostile)) + " "):
            started = time.process_time()
            mask_signatures(text)
            assert time.process_time() - started < 1.5


class TestSignaturesIn:
    def test_values_are_given_as_written_and_as_read(self) -> None:
        assert signatures_in(f"{FILE}?a=1&Signature={SIGNATURE}") == {SIGNATURE, "dGhlIHNpZ25hdHVyZSBv+k="}

    def test_a_short_value_may_be_a_word_and_is_given_with_its_name(self) -> None:
        short = "x" * (MIN_SECRET - 1)
        assert signatures_in(f"{FILE}?a=1&sig={short}&b=2") == {f"sig={short}"}

    def test_a_text_without_any_gives_none(self) -> None:
        assert signatures_in(f"{FILE}?versionId=abcdefghijklmnopqrstuvwxyz") == set()

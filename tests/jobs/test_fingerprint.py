# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from airflow_provider_kling.api.gateway import payload
from airflow_provider_kling.api.gateway.payload import EXTRA_BODY_FIELDS
from airflow_provider_kling.api.request import VideoRequest
from airflow_provider_kling.jobs.fingerprint import fingerprint_of
from airflow_provider_kling.utils.signed_urls import SIGNINGS
from tests.fixtures.signed_urls import FILE, SIGNED

BASE: dict[str, Any] = {"model": "kling-v3-std-silent", "prompt": "A traveler in desert ruins"}
SIGNATURES = st.text("abcdefghijklmnopqrstuvwxyzABC0123456789-_~", min_size=1, max_size=60)
every_vendor = pytest.mark.parametrize("query", SIGNED.values(), ids=SIGNED.keys())
#: Where a request may name a file.
PLACES: dict[str, Any] = {
    "image": lambda url: {"image": url},
    "last_image": lambda url: {"image": FILE, "last_image": url},
    "element_list": lambda url: {"element_list": [{"image": url, "also": [url]}]},
    "multi_prompt": lambda url: {
        "prompt": None,
        "image": FILE,
        "multi_prompt": [{"prompt": "x", "duration": 3, "image": url}],
    },
    "extra_body": lambda url: {"extra_body": {"mask": {"deep": [[url]]}}},
    "extra_body, as text": lambda url: {"extra_body": json.dumps({"video_url": url})},
}
every_place = pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())


def of(*, conn_id: str = "kling", base_url: str = "https://k", take: int = 1, **arguments: Any) -> str:
    request = VideoRequest.build(**BASE | arguments)
    return fingerprint_of(request, conn_id=conn_id, base_url=base_url, take=take)


def presigned(query: str, signature: str, token: str, *, seconds: int = 0, file: str = FILE) -> str:
    """A URL as a vendor's tools sign it at some time."""
    query = query.replace("20261101T000000Z", f"20261101T{seconds:06}Z").replace(
        "1762000000", f"{1762000000 + seconds}"
    )
    query = query.replace("01%3A00%3A00Z", f"01%3A00%3A{seconds % 60:02}Z")
    return f"{file}?{query.format(signature=signature, token=token)}"


@every_place
@every_vendor
def test_a_new_signature_is_the_same_request(query: str, place: Any) -> None:
    @given(SIGNATURES, SIGNATURES, st.integers(0, 59), st.randoms())
    def same(signature: str, token: str, seconds: int, chance: random.Random) -> None:
        parameters = query.split("&")
        chance.shuffle(parameters)
        again = presigned("&".join(parameters), signature, token, seconds=seconds)
        assert of(**place(again)) == of(**place(presigned(query, "first", "token")))

    same()


@every_place
@every_vendor
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("first%20frame", "last%20frame"),
        ("/art/", "/Art/"),
        ("media.example.com", "media2.example.com"),
        ("https://", "http://"),
        ("example.com/", "example.com:8443/"),
        ("?", "?versionId=2&"),
        ("?", "?response-content-type=image%2Fpng&"),
        ("?", "?x-oss-process=image%2Fresize,w_9&"),
    ],
)
def test_any_other_change_of_a_url_is_another_request(query: str, place: Any, old: str, new: str) -> None:
    url = presigned(query, "s", "t")
    assert of(**place(url)) != of(**place(url.replace(old, new, 1)))


def belongs_to_a_signature(parameters: str) -> bool:
    names = {unquote(parameter.partition("=")[0]).lower() for parameter in parameters.split("&")}
    return bool(names & {name for signing in SIGNINGS for name in signing.names})


@given(
    st.text(min_size=1)
    .map(lambda text: text.replace("#", ""))
    .filter(lambda text: not belongs_to_a_signature(text)),
    st.sampled_from(list(SIGNED.values())),
)
@example("versionId=2", SIGNED["AWS V4"])
def test_any_other_parameter_makes_another_request(parameter: str, query: str) -> None:
    url = presigned(query, "s", "t")
    assert of(extra_body={"u": url}) != of(extra_body={"u": f"{url}&{parameter}"})


@pytest.mark.parametrize("parameters", [("Expires=1", "Expires=2"), ("sig=1", "sig=2"), ("token=1", "token=2")])
def test_a_parameter_that_is_no_vendors_signature_counts(parameters: tuple[str, str]) -> None:
    assert len({of(image=f"{FILE}?{parameter}") for parameter in parameters}) == 2


@pytest.mark.parametrize(
    "texts",
    [
        lambda url: {"prompt": url},
        lambda url: {"negative_prompt": url},
        lambda url: {"prompt": f"Look at {url}"},
        lambda url: {"multi_prompt": [{"prompt": url, "duration": 3}]},
        lambda url: {"extra_body": {"caption": f"Look at {url}"}},
    ],
)
def test_a_text_always_counts(texts: Any) -> None:
    first, second = (presigned(SIGNED["AWS V4"], signature, "t") for signature in "ab")
    assert of(**texts(first)) != of(**texts(second))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELDS: dict[str, Any] = {
    "negative_prompt": "blur",
    "cfg_scale": 0.5,
    "multi_prompt": [{"prompt": "a", "duration": 3}],
    "element_list": [{"element_id": 5}],
    "shot_type": "customize",
}


def test_every_field_that_the_api_nests_is_tried_here() -> None:
    assert set(FIELDS) == set(EXTRA_BODY_FIELDS)


@given(st.sets(st.sampled_from(list(FIELDS))), st.booleans())
def test_it_matters_nothing_where_a_field_is_given(moved: set[str], as_text: bool) -> None:
    extra: Any = {name: FIELDS[name] for name in moved} | {"camera": {"a": 1, "b": 2}}
    arguments = {name: value for name, value in FIELDS.items() if name not in moved}
    given = {"extra_body": json.dumps(extra) if as_text else extra, **arguments}
    assert of(**given) == of(**FIELDS, extra_body={"camera": {"b": 2, "a": 1}})


@given(st.dictionaries(st.text("abc", min_size=1), JSON, max_size=4), st.randoms())
def test_neither_does_the_order_of_keys(extra: dict[str, Any], chance: random.Random) -> None:
    def shuffled(value: Any) -> Any:
        if isinstance(value, list):
            return [shuffled(item) for item in value]
        if not isinstance(value, dict):
            return value
        items = [(key, shuffled(item)) for key, item in value.items()]
        chance.shuffle(items)
        return dict(items)

    assert of(extra_body=shuffled(extra)) == of(extra_body=extra)


@given(JSON, JSON)
def test_two_values_are_the_same_request_only_if_they_are_equal(one: Any, other: Any) -> None:
    # Python takes True for 1, and 1 for 1.0; JSON and a server take the second pair alone for equal.
    same = json.dumps(_plain(one), sort_keys=True) == json.dumps(_plain(other), sort_keys=True)
    assert (of(extra_body={"x": one}) == of(extra_body={"x": other})) is same


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


@pytest.mark.parametrize(
    ("one", "other"), [(5, 5.0), (0, -0.0), (10**16, 1e16), ([1, 2], (1, 2)), ({1: 2}, {"1": 2})]
)
def test_spellings_of_one_value_are_one_request(one: Any, other: Any) -> None:
    assert of(extra_body={"x": one}) == of(extra_body={"x": other})


def test_what_is_not_given_does_not_count() -> None:
    assert of(image="", negative_prompt=None, extra_body={}) == of()
    assert of(duration="5", cfg_scale="1") == of(duration=5, cfg_scale=1)


def test_request_server_connection_and_take_count() -> None:
    changed = [{"prompt": "x"}, {"duration": 5}, {"conn_id": "x"}, {"base_url": "https://x"}, {"take": 2}]
    assert len({of(), *(of(**change) for change in changed)}) == len(changed) + 1


def test_a_field_of_the_request_is_not_taken_for_one_of_extra_body() -> None:
    assert len({of(), of(extra_body={"x": {"duration": 5}}), of(duration=5)}) == 3


def test_any_depth_is_supported() -> None:
    deep: Any = "https://h/a?X-Amz-Signature=1"
    for _ in range(400):
        deep = [deep]
    assert of(extra_body={"x": deep}) == of(extra_body=json.loads(json.dumps({"x": deep}).replace("=1", "=2")))


def test_it_is_independent_of_the_json_that_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of(**FIELDS)
    monkeypatch.setattr(payload, "payload_of", lambda request: {"input": {"text": request.prompt}})
    assert of(**FIELDS) == before


def test_it_stays_as_it_is_over_releases() -> None:
    # Another value would have every task that was running during an upgrade buy a second video.
    assert of(image=presigned(SIGNED["AWS V4"], "s", "t"), duration=5, **FIELDS | {"multi_prompt": None}) == (
        "0c3fa5982c9256f3ccea0e6e97af6265"
    )


def test_mode_and_sound_that_repeat_the_name_of_the_model_do_not_count() -> None:
    plain = of(model="kling-v3-pro-audio")
    assert of(model="kling-v3-pro-audio", mode="pro", sound="on") == plain
    assert (
        len({plain, of(model="kling-v3"), of(model="kling-v3", mode="pro"), of(model="kling-v3", sound=True)}) == 4
    )


def test_mode_and_sound_in_extra_body_stay_as_they_were_before_they_were_arguments() -> None:
    extra = {"mode": "pro", "sound": "on"}
    assert of(model="kling-v3-pro-audio", prompt="A paper boat", extra_body=extra) == (
        "30d2c8be2d23f0bd38348eab9cc467be"
    )


def of_images(digests: dict[str, str], **arguments: Any) -> str:
    request = VideoRequest.build(**BASE | arguments)
    return fingerprint_of(request, conn_id="kling", base_url="https://k", image_digests=digests)


def test_an_image_in_a_store_is_known_by_its_content() -> None:
    first = of_images({"s3://conn@bucket/a.png": "aa"}, image="s3://conn@bucket/a.png")
    assert of_images({"gs://other@b/c.png": "aa"}, image="gs://other@b/c.png") == first
    assert of_images({"s3://conn@bucket/a.png": "bb"}, image="s3://conn@bucket/a.png") != first
    # At the same place only.
    assert of_images({"s3://conn@bucket/a.png": "aa"}, extra_body={"image_2": "s3://conn@bucket/a.png"}) != first


def test_other_requests_have_the_fingerprint_that_they_always_had() -> None:
    """A record of an earlier version is still found."""
    assert of(image=FILE) == of_images({"s3://conn@bucket/a.png": "aa"}, image=FILE)

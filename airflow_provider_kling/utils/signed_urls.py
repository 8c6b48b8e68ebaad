# SPDX-License-Identifier: Apache-2.0
"""
Pre-signed URLs: a new signature does not make a new file, and a signature is a credential.

Each time a URL is presigned, its signature differs. So a request is identified by the URL without its signature,
and logs and stored texts have the URL with its signature masked. This module depends neither on Airflow nor on
HTTP libraries.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

MASK = "***"
#: Minimum length at which a value is masked anywhere. A shorter one may be a common word: it is masked only after
#: the name of its parameter.
MIN_SECRET = 16


class Signing(NamedTuple):
    """
    The query parameters with which one vendor signs a URL; names in lower case.

    :param vendor: The vendor and its scheme.
    :param signature: The parameters that identify the scheme: a signed URL has all of them, with a value.
    :param secrets: The parameters whose values grant access, or are parts of a key.
    :param others: All other parameters that belong to the signature and change with it. A parameter that changes
        *what* is served (a version, a content type, an image operation) is not among them.
    """

    vendor: str
    signature: frozenset[str]
    secrets: frozenset[str]
    others: frozenset[str]

    @property
    def names(self) -> frozenset[str]:
        return self.signature | self.secrets | self.others


def _signing(vendor: str, signature: str, secrets: str, others: str) -> Signing:
    return Signing(vendor, *(frozenset(names.split()) for names in (signature, secrets, others)))


SIGNINGS = (
    _signing(
        "AWS Signature Version 4 (S3, R2, MinIO and many others)",
        signature="x-amz-signature",
        secrets="x-amz-signature x-amz-credential x-amz-security-token x-amz-s3session-token",
        others="x-amz-algorithm x-amz-date x-amz-expires x-amz-signedheaders x-amz-content-sha256",
    ),
    _signing(
        "AWS Signature Version 2",
        signature="awsaccesskeyid signature",
        secrets="signature x-amz-security-token",
        others="expires",
    ),
    _signing(
        "Google Cloud Storage V4",
        signature="x-goog-signature",
        secrets="x-goog-signature x-goog-credential x-goog-security-token",
        others="x-goog-algorithm x-goog-date x-goog-expires x-goog-signedheaders x-goog-content-sha256",
    ),
    _signing(
        "Google Cloud Storage V2", signature="googleaccessid signature", secrets="signature", others="expires"
    ),
    _signing(
        "Azure shared access signature",
        signature="sig sv se",
        secrets="sig",
        others="st sr sp sip spr ss srt si sdd ses skoid sktid skt ske sks skv skdutid sduoid saoid suoid scid",
    ),
    _signing(
        "Amazon CloudFront",
        signature="key-pair-id signature",
        secrets="signature policy",
        others="expires hash-algorithm",
    ),
    _signing(
        "Alibaba Cloud OSS V1",
        signature="ossaccesskeyid signature",
        secrets="signature security-token",
        others="expires",
    ),
    _signing(
        "Alibaba Cloud OSS V2 and V4",
        signature="x-oss-signature",
        secrets="x-oss-signature x-oss-credential x-oss-security-token",
        others="x-oss-signature-version x-oss-access-key-id x-oss-date x-oss-expires x-oss-additional-headers",
    ),
    _signing(
        "Tencent Cloud COS",
        signature="q-signature",
        secrets="q-signature x-cos-security-token",
        others="q-sign-algorithm q-ak q-sign-time q-key-time q-header-list q-url-param-list",
    ),
    _signing(
        "Volcengine TOS",
        signature="x-tos-signature",
        secrets="x-tos-signature x-tos-credential x-tos-security-token x-tos-policy",
        others="x-tos-algorithm x-tos-date x-tos-expires x-tos-signedheaders x-tos-content-sha256",
    ),
    _signing(
        "Huawei Cloud OBS",
        signature="accesskeyid signature",
        secrets="signature x-obs-security-token",
        others="expires",
    ),
    _signing("Kingsoft Cloud KS3", signature="kssaccesskeyid signature", secrets="signature", others="expires"),
)
#: Other parameters that carry a credential. They are masked, but they count for the identity of a URL: no vendor's
#: set of parameters proves that they are only a signature.
_OTHER_SECRETS = frozenset({"token", "access_token", "auth_key", "authorization", "hdnea", "hdnts"})

#: A text that is one URL with a query: the part before the query, the query, and the part after it.
_WITH_QUERY = re.compile(r"(\s*https?://[^?#]*\?)([^#\s]*)((?:#\S*)?\s*)", re.IGNORECASE)
#: The beginnings of the parameters of schemes that tell a date, and seconds after it.
_DATED_SIGNINGS = ("x-amz", "x-goog", "x-oss", "x-tos")
_SHORT_NUMBER = re.compile(r"[0-9]{1,9}")
_EPOCH = re.compile(r"[0-9]{9,11}")
_SECRET_NAMES = sorted(_OTHER_SECRETS.union(*(signing.secrets for signing in SIGNINGS)), key=len, reverse=True)
#: A secret parameter in the query of a URL, anywhere in a text. An ampersand belongs to the value unless another
#: parameter begins there.
_SECRET = re.compile(
    rf"[?&](?:amp;)*((?:{'|'.join(map(re.escape, _SECRET_NAMES))})=)((?:[^&#\s\"'<>]|&(?![\w.%;-]*=))+)",
    re.IGNORECASE,
)


def without_signature(url: str) -> str:
    """
    Return a URL without the parameters with which a known vendor signs it.

    They are dropped as a set, and only if that vendor's signature is among them: a lone ``Expires`` stays.
    Everything else is returned unchanged, and so is a text that is not an http(s) URL.
    """
    match = _WITH_QUERY.fullmatch(url)
    if match is None:
        return url
    before, query, after = match.groups()
    parameters = [parameter.partition("=") for parameter in query.split("&")]
    names = [unquote(name).lower() for name, _, _ in parameters]
    given = {name for name, (_, _, value) in zip(names, parameters, strict=True) if value}
    dropped = {name for signing in SIGNINGS if signing.signature <= given for name in signing.names}
    if not dropped:
        return url
    kept = ["".join(parameter) for name, parameter in zip(names, parameters, strict=True) if name not in dropped]
    return (before if kept else before.removesuffix("?")) + "&".join(kept) + after


def mask_signatures(text: str) -> str:
    """Return a text with the credentials in the queries of URLs masked, and otherwise unchanged."""
    kept, after = [], 0
    for _, begin, end in _secrets(text):
        kept.append(text[after:begin])
        after = end
    return MASK.join([*kept, text[after:]])


def signatures_in(text: str) -> set[str]:
    """
    Return the strings to mask wherever this text, or a part of it, may be shown.

    These are the values of the credentials in the queries of URLs, both as written and percent-decoded. A short
    value may be a common word, so it is returned with the name of its parameter.
    """
    secrets = set()
    for name, begin, end in _secrets(text):
        if end - begin < MIN_SECRET:
            secrets.add(text[name:end])
        else:
            secrets |= {text[begin:end], unquote(text[begin:end])}
    return secrets


def _secrets(text: str) -> Iterator[tuple[int, int, int]]:
    """Yield the positions of each secret parameter: start of its name, start and end of its value."""
    if "=" not in text and "%" not in text and "\\" not in text and "&" not in text:
        return
    from airflow_provider_kling.utils.masking import DecodedText

    decoded = DecodedText(text)
    for match in _SECRET.finditer(decoded.text):
        # Punctuation after the URL belongs to the sentence, not to the signature.
        value = match[2].rstrip(".,;:!?)]}")
        if value:
            begin = match.start(2)
            name, _ = decoded.span(match.start(1), match.end(1))
            value_begin, value_end = decoded.span(begin, begin + len(value))
            yield name, value_begin, value_end


def expires_at(url: str) -> float | None:
    """
    Return when a signed URL stops working, as its query says.

    :param url: The URL; its signature is not checked.
    :return: Seconds since 1970; None for a text that is not a URL, or that tells no valid time.
    """
    match = _WITH_QUERY.fullmatch(url)
    if match is None:
        return None
    values: dict[str, str] = {}
    for parameter in match[2].split("&"):
        name, _, value = parameter.partition("=")
        values.setdefault(unquote(name).lower(), unquote(value))
    ends = [
        *(_end_after(values.get(f"{kind}-date"), values.get(f"{kind}-expires")) for kind in _DATED_SIGNINGS),
        _epoch(values.get("expires")),
        _epoch(values.get("x-oss-expires")) if "x-oss-date" not in values else None,
        _epoch(values.get("q-sign-time", "").partition(";")[2]),
        _iso_time(values.get("se")) if "sig" in values else None,
    ]
    # The first limit that is reached counts.
    return min((end for end in ends if end is not None), default=None)


def _end_after(date: str | None, seconds: str | None) -> float | None:
    """Return the end of a period of so many seconds after a date such as ``20260102T030405Z``."""
    if not date or not seconds or not _SHORT_NUMBER.fullmatch(seconds):
        return None
    try:
        begin = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None
    return begin.timestamp() + int(seconds)


def _epoch(text: str | None) -> float | None:
    """Return a time in seconds since 1970; shorter numbers are periods after an unknown time."""
    return float(text) if text and _EPOCH.fullmatch(text) else None


def _iso_time(text: str | None) -> float | None:
    """Return a time such as ``2026-01-02T03:04:05Z`` or ``2026-01-02``, which is UTC if it names no zone."""
    try:
        moment = datetime.fromisoformat(text or "")
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None

# SPDX-License-Identifier: Apache-2.0
"""
Images of a request that are in an object storage: read, checked, and signed just before they are sent.

A signed URL, or the image as Base64, goes into the body of the submit alone. Everything that is stored or logged
has the URI, and the signature and the image are masked in what the server returns.
"""

from __future__ import annotations

import hashlib
import logging
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from airflow_provider_kling.api.images import replace_images, stored_images
from airflow_provider_kling.exceptions import KlingError, KlingValidationError, Problem, short_repr
from airflow_provider_kling.media.image_facts import MAX_BYTES, image_problem
from airflow_provider_kling.utils.addresses import unreachable_reason
from airflow_provider_kling.utils.signed_urls import MIN_SECRET, signatures_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsspec import AbstractFileSystem

    from airflow_provider_kling.api.request import VideoRequest
    from airflow_provider_kling.client.connection import KlingConnection

#: Default of ``[kling] sign_seconds``, and the longest time for which S3 and Google sign.
SIGN_SECONDS, MAX_SIGN_SECONDS = 24 * 3600, 7 * 24 * 3600
#: Fields that take an image as Base64, on an API that does.
_BASE64_FIELDS = ("image", "last_image")
#: Characters of Base64 that are masked, from its beginning, and the length of the parts that are masked: a server
#: that repeats an image in an error shows its beginning, of any length.
_HIDDEN_BASE64, _PART = 1024, 32
#: Errors with which stores say that they cannot sign at all; gcsfs raises an AttributeError without a private key.
_CANNOT_SIGN = (NotImplementedError, AttributeError, TypeError)
_NOT_SUBMITTED = "This attempt submitted nothing."


class _UnsuitableError(Exception):
    """An image that no retry makes suitable; the text says why, for :class:`Problem`."""


@dataclass(frozen=True)
class StoredImage:
    """
    An image in an object storage, as it was read.

    :param uri: Its URI.
    :param fs: Its store.
    :param path: Its path in the store.
    :param info: What the store reported about it; it changes with the content.
    :param content: The image.
    """

    uri: str
    fs: AbstractFileSystem
    path: str
    info: Mapping[str, Any]
    content: bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of the content."""
        return hashlib.sha256(self.content).hexdigest()


class Frames:
    """
    The images of one request that are in object storages.

    :param images: The images, by their URI.
    :param connection: The connection over which the request is sent.
    """

    def __init__(self, images: Mapping[str, StoredImage], connection: KlingConnection) -> None:
        self._images = dict(images)
        self._connection = connection
        self.digests = {uri: image.digest for uri, image in images.items()}

    def to_send(self, request: VideoRequest) -> VideoRequest:
        """
        Return the request with a new signed URL, or with Base64, in place of each URI.

        :raises KlingValidationError: if a store cannot sign, and the API does not take the image itself.
        :raises KlingError: if the store fails, or if an image has changed since it was read.
        """
        return replace_images(request, self._text_to_send)

    def _text_to_send(self, place: str, uri: str) -> str:
        image = self._images[uri]
        try:
            url = _signed_url(image)
        except _UnsuitableError as error:
            if place in _BASE64_FIELDS and self._connection.api.takes_base64_images:
                return self._as_base64(image)
            raise _refused([Problem(place, uri, str(error))]) from error.__cause__
        self._hide(_secrets_of(url))
        try:
            self._check_unchanged(image)
        except _UnsuitableError as error:
            raise _refused([Problem(place, uri, str(error))]) from error.__cause__
        return url

    def _check_unchanged(self, image: StoredImage) -> None:
        """Raise unless the content is that of the fingerprint; it is read again if its store reports a change."""
        if _info(image) == image.info:
            return
        again = _read(image)
        if again.content != image.content:
            raise KlingError(
                f"{image.uri} has changed while this task waited to submit",
                advice="Nothing was submitted with it. A retry submits the new image, as another request.",
            )
        self._images[image.uri] = again

    def _as_base64(self, image: StoredImage) -> str:
        text = b64encode(image.content).decode()
        head = text[:_HIDDEN_BASE64]
        # Each part repeats the last character of the one before, so that they are masked as one.
        self._hide([head[start : start + _PART + 1] for start in range(0, len(head), _PART)])
        return text

    def _hide(self, secrets: list[str]) -> None:
        from airflow.providers.common.compat.sdk import mask_secret

        self._connection.hide(secrets)
        mask_secret([*secrets])


def read_frames(request: VideoRequest, connection: KlingConnection) -> Frames:
    """
    Read and check every image of a request that is in an object storage.

    :param request: The request.
    :param connection: The connection over which it is sent.
    :raises KlingValidationError: naming each field whose image is missing, unreadable, or none that Kling takes.
    :raises KlingError: if a store cannot be reached now.
    """
    images: dict[str, StoredImage] = {}
    problems: list[Problem] = []
    failure: KlingError | None = None
    for place, uri in stored_images(request).items():
        if uri in images:
            continue
        try:
            images[uri] = _read(_opened(uri))
        except _UnsuitableError as error:
            problems.append(Problem(place, uri, str(error)))
        except KlingError as error:
            failure = failure or error.replace(message=f"{place}={short_repr(uri)}: {error.message}")
    if problems:
        raise _refused(problems)
    if failure is not None:
        raise failure
    return Frames(images, connection)


def _refused(problems: list[Problem]) -> KlingValidationError:
    advice = f"Correct the arguments, or the images. {_NOT_SUBMITTED}"
    return KlingValidationError.from_problems(problems).replace(advice=advice)


def _opened(uri: str) -> StoredImage:
    """
    Return an image that is not read yet.

    :raises _UnsuitableError: if the URI leads to another object than it spells, or to no kind of store.
    :raises KlingError: if the store cannot be opened now.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        parsed = ObjectStoragePath(uri)
        path, fs = parsed.path, parsed.fs
    except (ValueError, ImportError) as error:
        raise _UnsuitableError(f"cannot be opened ({error})") from error
    except Exception as error:
        # A connection that Airflow does not have looks like a secrets backend that did not respond.
        raise _unreachable(error) from error
    place, _, key = uri.partition("://")[2].partition("/")
    # The part before an @ is the Airflow connection. A store whose host comes from it uses the path alone.
    spelled = {f"{place.rpartition('@')[2]}/{key}".lstrip("/"), key.lstrip("/")}
    if path.lstrip("/") not in spelled:
        raise _UnsuitableError(f"would be read as {short_repr(path)}")
    return StoredImage(uri, fs, path, {}, b"")


def _read(image: StoredImage) -> StoredImage:
    """
    Return an image with its content.

    :raises _UnsuitableError: if there is none, or if it is none that Kling takes.
    :raises KlingError: if the store cannot be read now.
    """
    info = _info(image)
    if info.get("type") == "directory":
        raise _UnsuitableError("is a folder; name the object")
    # Of a larger object nothing is read.
    size = info.get("size")
    if isinstance(size, int) and size > MAX_BYTES:
        raise _UnsuitableError(f"has {size:,} bytes; Kling takes at most {MAX_BYTES:,} (10 MB)")
    with _store_errors():
        content: bytes = image.fs.cat_file(image.path, start=0, end=MAX_BYTES + 1) if size != 0 else b""
    if (problem := image_problem(content)) is not None:
        raise _UnsuitableError(problem)
    return replace(image, info=info, content=content)


def _info(image: StoredImage) -> dict[str, Any]:
    """Return what the store reports about an image now."""
    with _store_errors():
        image.fs.invalidate_cache()  # it would hide what other processes have written
        return cast("dict[str, Any]", image.fs.info(image.path))


@contextmanager
def _store_errors() -> Iterator[None]:
    """Raise the errors of a store as those that a retry may cure, and those that it cannot."""
    try:
        yield
    except FileNotFoundError as error:
        raise _UnsuitableError("does not exist, nor perhaps its bucket or folder") from error
    except (IsADirectoryError, NotADirectoryError) as error:
        raise _UnsuitableError("is not a file") from error
    except Exception as error:
        if isinstance(error, PermissionError) or "Forbidden" in str(error):
            raise _UnsuitableError(
                f"may not be read with this connection ({_described(error)}); it needs the permission to get it"
            ) from error
        raise _unreachable(error) from error


def _signed_url(image: StoredImage) -> str:
    """
    Return a URL from which everybody can download an image for a while.

    :raises _UnsuitableError: if its store has none that the vendor can reach.
    :raises KlingError: if the store cannot sign now.
    """
    seconds = sign_seconds()
    try:
        with _without_debug_logs():
            url = str(image.fs.sign(image.path, expiration=seconds))
    except _CANNOT_SIGN as error:
        raise _UnsuitableError(f"is in a store that cannot sign URLs ({_described(error)}); {_INSTEAD}") from error
    except Exception as error:
        raise KlingError(
            f"The store of {image.uri} could not sign its URL: {_described(error)}",
            advice=f"Check its connection: static credentials or a private key can sign. {_NOT_SUBMITTED}",
        ) from error
    if unreachable_reason(url) is not None:
        host = url.partition("?")[0].rpartition("@")[2]
        raise _UnsuitableError(f"gets the signed URL {host}, which the vendor cannot reach; {_INSTEAD}")
    return url


_INSTEAD = (
    "use a public http(s) URL, a store on the internet whose connection has static credentials, or Kling's own "
    "platform, which takes image and last_image themselves"
)


def sign_seconds() -> int:
    """
    Return the seconds for which URLs are signed.

    :raises KlingValidationError: if they are not configured as a number of them.
    """
    from airflow.providers.common.compat.sdk import conf

    text: str = conf.get("kling", "sign_seconds", fallback=str(SIGN_SECONDS)).strip()
    if not text.isdecimal() or not 0 < int(text) <= MAX_SIGN_SECONDS:
        raise KlingValidationError(
            f"[kling] sign_seconds is {text!r}, not a whole number of seconds from 1 to {MAX_SIGN_SECONDS}",
            advice=f"Correct Airflow's configuration. {_NOT_SUBMITTED}",
        )
    return int(text)


def _secrets_of(url: str) -> list[str]:
    """Return what to mask of a signed URL: of an unknown way to sign, every long value."""
    query = urlsplit(url).query
    values = [parameter.partition("=")[2] for parameter in query.split("&")]
    return sorted(signatures_in(url) or {value for value in values if len(value) >= MIN_SECRET})


@contextmanager
def _without_debug_logs() -> Iterator[None]:
    """Drop all records of level DEBUG for a moment: libraries of stores log the signature that they make."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.DEBUG))
    try:
        yield
    finally:
        logging.disable(before)


def _unreachable(error: Exception) -> KlingError:
    return KlingError(
        f"its store cannot be read now ({_described(error)})",
        advice=f"Check the connection of the store, and that it can be reached. {_NOT_SUBMITTED}",
    )


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

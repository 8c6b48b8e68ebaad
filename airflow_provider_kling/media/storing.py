# SPDX-License-Identifier: Apache-2.0
"""
From the URL of a finished video to a whole file.

An attempt that broke off is continued, an expired URL is renewed, and a file that is stored already is not fetched
again.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from airflow_provider_kling.exceptions import KlingConnectionError, KlingDownloadError
from airflow_provider_kling.media.download import (
    EXPIRED_STATUSES,
    CannotContinueError,
    Download,
    is_transient,
)
from airflow_provider_kling.media.facts import UNKNOWN, VideoFacts
from airflow_provider_kling.media.stored import StoredFile, is_stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kling.client.sync_client import SyncClient
    from airflow_provider_kling.exceptions import KlingError
    from airflow_provider_kling.media.download import Downloaded
    from airflow_provider_kling.media.target import Part, Target

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Seconds before the second, third and fourth attempt of an interrupted download. They begin anew after an attempt
#: that has continued it.
PAUSES = (2.0, 10.0, 30.0)


class VideoLocation(NamedTuple):
    """
    Where a video lies at the vendor.

    :param url: Its URL.
    :param status_body: The beginning of the status response, where it holds no URL and this one was built.
    """

    url: str
    status_body: str | None = None


class StoredVideo(NamedTuple):
    """
    A file that was stored.

    :param path: Its whole path.
    :param size_bytes: Its size.
    :param sha256: The SHA-256 of its content, 64 hexadecimal digits.
    :param facts: What the file itself says of the video.
    """

    path: str
    size_bytes: int
    sha256: str | None = None
    facts: VideoFacts = UNKNOWN


class VideoStorer:
    """
    Stores one finished video.

    :param client: The client of the connection.
    :param kling_task_id: The Kling task, for errors and messages.
    :param locate: Requests from the API where the video lies now; called for a URL that leads to no video.
    :param seconds: Seconds that the download may take, further attempts included.
    :param max_bytes: Greatest size of the file in bytes; None sets no limit.
    """

    def __init__(
        self,
        client: SyncClient,
        kling_task_id: str,
        *,
        locate: Callable[[], VideoLocation],
        seconds: float,
        max_bytes: int | None,
    ) -> None:
        self.client = client
        self.kling_task_id = kling_task_id
        self.locate = locate
        self.seconds = seconds
        self.max_bytes = max_bytes

    def store(self, location: VideoLocation, target: Target, *, overwrite: bool) -> StoredVideo:
        """
        Store the video under the name of the target.

        A file that is there already, and is proven to be this video, counts as stored: its attempt ended before it
        could say so.

        :param location: Where it lies, as far as known.
        :param target: Where to store it.
        :param overwrite: Whether an existing file may be replaced.
        :raises KlingValidationError: if there is another file, or one has appeared meanwhile, and it may not
            be replaced.
        :raises KlingDownloadError: if the file cannot be downloaded or stored, or is not a complete video.
        :raises KlingConnectionError: if the connection was interrupted, also in the last attempt.
        """
        attempts = _Attempts(self, location)
        size = target.size()
        if size and (self.max_bytes is None or size <= self.max_bytes):
            file = StoredFile(target, size)
            if attempts.is_stored(file):
                log.info("%s is this video already; it is not downloaded again", target.path)
                return StoredVideo(target.path, *file.content.downloaded)
        if not overwrite:
            target.check(overwrite=False)
        while True:
            try:
                return StoredVideo(target.path, *target.store(attempts.download, overwrite=overwrite))
            except CannotContinueError as error:
                log.warning("%s", error)


class _Attempts:
    """The attempts to fetch one video, until its storer's time is over."""

    def __init__(self, storer: VideoStorer, location: VideoLocation) -> None:
        self._storer = storer
        self._location = location
        self._is_renewed = False
        self._give_up_at = time.monotonic() + storer.seconds
        self._pauses = iter(PAUSES)

    def is_stored(self, file: StoredFile) -> bool:
        """Return whether a file is proven to be this video; any doubt is a no."""
        try:
            return self._repeated(lambda url, seconds: is_stored(self._storer.client, url, file, seconds=seconds))
        except KlingDownloadError as error:
            if is_transient(error.http_status):
                raise
            log.debug("Not compared with the file that is there: %s", error)
            return False

    def download(self, part: Part) -> Downloaded:
        """Download the video."""
        download = Download(self._storer.client, part, max_bytes=self._storer.max_bytes)
        return self._repeated(
            lambda url, seconds: download.attempt(url, seconds=seconds), lambda: download.continued_bytes
        )

    def _repeated(self, attempt: Callable[[str, float], T], progress: Callable[[], int] = lambda: 0) -> T:
        """
        Return what an attempt returns, after as many as it takes.

        :param attempt: The attempt, given the URL and the seconds that are left.
        :param progress: Tells what attempts have added to earlier ones.
        """
        storer, before = self._storer, 0
        while True:
            try:
                return attempt(self._location.url, self._give_up_at - time.monotonic())
            except CannotContinueError:
                raise
            except (KlingDownloadError, KlingConnectionError) as unnamed:
                error = unnamed.replace(kling_task_id=storer.kling_task_id)
                if self._renew(error):
                    continue
                if isinstance(error, KlingDownloadError) and not is_transient(error.http_status):
                    raise _not_found_at(self._location, error) from None
                if progress() > before:
                    self._pauses, before = iter(PAUSES), progress()
                pause = next(self._pauses, None)
                if pause is None or time.monotonic() + pause >= self._give_up_at:
                    raise error from None
                log.warning("%s Trying again in %g s.", error, pause)
                time.sleep(pause)

    def _renew(self, error: KlingError) -> bool:
        """Return whether there is another URL for the one that leads to no video."""
        if self._is_renewed or self._location.status_body is not None or not self._may_have_moved(error):
            return False
        log.info("The URL of Kling task %s leads to no video; requesting a new one", self._storer.kling_task_id)
        before, self._location, self._is_renewed = self._location, self._storer.locate(), True
        return self._location.status_body is None or self._location.url != before.url

    def _may_have_moved(self, error: KlingError) -> bool:
        """Return whether the API may know another URL: this one is no longer good, or was only built."""
        if error.http_status in EXPIRED_STATUSES:
            return True
        connection = self._storer.client.connection
        is_built = connection.is_content_url(self._location.url, self._storer.kling_task_id)
        return is_built and error.http_status is not None and not is_transient(error.http_status)


def _not_found_at(location: VideoLocation, error: KlingDownloadError) -> KlingDownloadError:
    """Return the error of a download; where the URL was only built, it quotes what the API says of the job."""
    if location.status_body is None or error.http_status is None:
        return error
    return error.replace(
        message=f"{error.message}, and the API gives no other URL of Kling task {error.kling_task_id}",
        server_message=location.status_body,
        advice="The video was made and paid for. Look it up at the vendor under this id.",
    )

# SPDX-License-Identifier: Apache-2.0
"""From the URL of a finished video to a whole file: further attempts, and a new URL for one that has expired."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, NamedTuple

from airflow_provider_kling.exceptions import KlingConnectionError, KlingDownloadError
from airflow_provider_kling.media.download import EXPIRED_STATUSES, download, is_transient
from airflow_provider_kling.media.facts import UNKNOWN, VideoFacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_kling.client.sync_client import SyncClient
    from airflow_provider_kling.exceptions import KlingError
    from airflow_provider_kling.media.target import Target

log = logging.getLogger(__name__)

#: Seconds before the second, third and fourth attempt of an interrupted download.
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
        self._client = client
        self._kling_task_id = kling_task_id
        self._locate = locate
        self._seconds = seconds
        self._max_bytes = max_bytes

    def store(self, location: VideoLocation, target: Target, *, overwrite: bool) -> StoredVideo:
        """
        Store the video under the name of the target.

        :param location: Where it lies, as far as known.
        :param target: Where to store it.
        :param overwrite: Whether an existing file may be replaced.
        :raises KlingValidationError: if a file that may not be replaced has appeared meanwhile.
        :raises KlingDownloadError: if the file cannot be downloaded or stored, or is not a complete video.
        :raises KlingConnectionError: if the connection was interrupted, also in the last attempt.
        """
        give_up_at = time.monotonic() + self._seconds
        pauses = iter(PAUSES)
        renewed = False
        while True:
            try:
                size = self._attempt(location.url, target, give_up_at - time.monotonic(), overwrite=overwrite)
                return StoredVideo(target.path, size)
            except (KlingDownloadError, KlingConnectionError) as unnamed:
                error = unnamed.replace(kling_task_id=self._kling_task_id)
                if not renewed and location.status_body is None and self._may_have_moved(error, location):
                    log.info(
                        "The URL of Kling task %s leads to no video; requesting a new one", self._kling_task_id
                    )
                    before, location, renewed = location, self._locate(), True
                    if location.status_body is None or location.url != before.url:
                        continue
                if isinstance(error, KlingDownloadError) and not is_transient(error.http_status):
                    raise _not_found_at(location, error) from None
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause >= give_up_at:
                    raise error from None
                log.warning("%s Trying again in %g s.", error, pause)
                time.sleep(pause)

    def _may_have_moved(self, error: KlingError, location: VideoLocation) -> bool:
        """Return whether the API may know another URL: this one is no longer good, or was only built."""
        if error.http_status in EXPIRED_STATUSES:
            return True
        is_built = self._client.connection.is_content_url(location.url, self._kling_task_id)
        return is_built and error.http_status is not None and not is_transient(error.http_status)

    def _attempt(self, url: str, target: Target, seconds: float, *, overwrite: bool) -> int:
        return target.store(
            lambda file: download(self._client, url, file, seconds=seconds, max_bytes=self._max_bytes),
            overwrite=overwrite,
        )


def _not_found_at(location: VideoLocation, error: KlingDownloadError) -> KlingDownloadError:
    """Return the error of a download; where the URL was only built, it quotes what the API says of the job."""
    if location.status_body is None or error.http_status is None:
        return error
    return error.replace(
        message=f"{error.message}, and the API gives no other URL of Kling task {error.kling_task_id}",
        server_message=location.status_body,
        advice="The video was made and paid for; look it up at the vendor under this id.",
    )

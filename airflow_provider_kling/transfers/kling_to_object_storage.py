# SPDX-License-Identifier: Apache-2.0
"""Store finished videos."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.exceptions import (
    KlingConnectionError,
    KlingDownloadError,
    KlingError,
)
from airflow_provider_kling.jobs.limits import to_seconds
from airflow_provider_kling.media.mp4 import MAX_BYTES
from airflow_provider_kling.tasks.base import KlingTask
from airflow_provider_kling.utils.file_names import safe_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_kling.media.target import Target

#: Seconds before the second, third and fourth attempt of an interrupted download.
PAUSES = (2.0, 10.0, 30.0)
DEFAULT_TIMEOUT = 3600.0


class _Place(NamedTuple):
    """
    Where a video lies.

    :param url: Its URL.
    :param status_body: The beginning of the status response, where it holds no URL and this one was built.
    """

    url: str
    status_body: str | None = None


class KlingToObjectStorageOperator(KlingTask, BaseOperator):
    """
    Stream a finished video into any object storage, or onto a local disk.

    Links to videos expire, so store what you paid for. The file appears under its final name only when it is
    complete. Each attempt writes its own file beside it, ``.kling-<32 hexadecimal digits>.part``. When that is
    complete, a file system renames it; an object storage copies it and deletes the part. Then name and size of
    the stored file are verified. A link that has expired meanwhile is renewed once.

    :param video: The finished video (what the sensor or a waiting ``KlingGenerateOperator`` returned), or its
        Kling task id.
    :param path: Target of the file as ``ObjectStoragePath`` takes it: ``s3://conn@bucket/clip.mp4``,
        ``gs://...``, ``file:///...``. A path that ends in ``/`` is a folder; the file is ``<task id>.mp4`` there.
        A long id, or one with characters other than letters, digits, ``.``, ``_`` and ``-``, is changed for that.
    :param kling_conn_id: The Airflow connection. Its key is sent to its own host only, whatever the URL is.
    :param overwrite: Replace an existing file (the default, so that the task can run again); False fails instead.
        With False, two concurrent tasks cannot both succeed on a file system; on an object storage they can,
        since the last check of the name and the copy are two steps.
    :param timeout: Seconds (or a timedelta) that the download may take, further attempts included; one hour by
        default.
    :param max_bytes: Greatest size of the file in bytes, 4 GiB by default; None sets no limit.
    :return: The path of the stored file, as a string.
    :raises KlingValidationError: before anything is downloaded, if ``path`` is a folder, a bucket, an existing
        file with ``overwrite=False``, a name that the store would change, or one on a store that cannot copy.
    :raises KlingDownloadError: if the file cannot be downloaded or stored, is not a complete video, or has more
        bytes than ``max_bytes``.
    :raises KlingAddressRefusedError: if its URL leads to an address inside this network, other than the
        connection's own host and its ``private_hosts``.
    :raises KlingError: any other named error, if the URL has to be requested from the API.
    """

    template_fields: Sequence[str] = ("video", "path", "kling_conn_id")
    text_fields: ClassVar[Sequence[str]] = ("video", "path", "kling_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"video": "json"}
    ui_color = "#e8f5d0"

    def __init__(
        self,
        *,
        video: Mapping[str, Any] | str | XComArg,
        path: str,
        kling_conn_id: str = "kling_default",
        overwrite: bool = True,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        max_bytes: int | None = MAX_BYTES,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.video = video
        self.path = path
        self.kling_conn_id = kling_conn_id
        self.overwrite = overwrite
        self.timeout = to_seconds("timeout", timeout)
        if max_bytes is not None and (
            isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1
        ):
            raise ValueError(f"max_bytes={max_bytes!r} must be a positive whole number, or None for no limit")
        self.max_bytes = max_bytes

    def execute(self, context: Context) -> str:
        """Store the video and return its path."""
        from airflow_provider_kling.jobs.result import task_reference
        from airflow_provider_kling.media.target import target_of

        kling_task_id, url = task_reference(self.video)
        path = str(self.path)
        target = target_of(f"{path}{safe_name(kling_task_id)}.mp4" if path.endswith("/") else path)
        target.check(overwrite=self.overwrite)
        place = _Place(url) if url else self._current_place(kling_task_id)
        started = time.monotonic()
        size = self._store(kling_task_id, place, target)
        self.log.info(
            "Stored Kling task %s as %s: %d bytes in %.1f s",
            kling_task_id,
            target.path,
            size,
            time.monotonic() - started,
        )
        return target.path

    def _current_place(self, kling_task_id: str, *, was_finished: bool = False) -> _Place:
        """
        Return where the video lies, as the API says now.

        :param was_finished: Whether the wait for it has ended already, so that a URL is one even where the job's
            status word is unknown.
        """
        from airflow_provider_kling.jobs.result import finished_video

        job = self._hook.get_video(kling_task_id)
        finished_video(job)  # raises for one that failed
        url = job.video_url or job.content_url
        is_finished = job.status == "completed" or (was_finished and not job.is_known_status)
        if url is None or not is_finished:
            raise KlingError(
                f"Kling task {kling_task_id} has no video to store yet: it is {job.raw_status}",
                kling_task_id=kling_task_id,
                server_message=job.excerpt,
                advice="Wait for it first, with a KlingTaskSensor or wait_for_completion=True.",
            )
        return _Place(url, None if job.video_url else job.excerpt)

    def _store(self, kling_task_id: str, place: _Place, target: Target) -> int:
        from airflow_provider_kling.media.download import is_transient

        give_up_at = time.monotonic() + self.timeout
        pauses = iter(PAUSES)
        renewed = False
        while True:
            try:
                return self._attempt(place.url, target, give_up_at - time.monotonic())
            except (KlingDownloadError, KlingConnectionError) as unnamed:
                error = unnamed.replace(kling_task_id=kling_task_id)
                if not renewed and place.status_body is None and self._may_have_moved(error, place):
                    self.log.info(
                        "The URL of Kling task %s leads to no video; requesting a new one", kling_task_id
                    )
                    before, place, renewed = place, self._current_place(kling_task_id, was_finished=True), True
                    if place.status_body is None or place.url != before.url:
                        continue
                if isinstance(error, KlingDownloadError) and not is_transient(error.http_status):
                    raise _not_found_at(place, error) from None
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause >= give_up_at:
                    raise error from None
                self.log.warning("%s Trying again in %g s.", error, pause)
                time.sleep(pause)

    def _may_have_moved(self, error: KlingError, place: _Place) -> bool:
        """Return whether the API may know another URL: this one is no longer good, or was only built."""
        from airflow_provider_kling.media.download import EXPIRED_STATUSES, is_transient

        if error.http_status in EXPIRED_STATUSES:
            return True
        is_built = self._hook.connection.is_content_url(place.url, error.kling_task_id or "")
        return is_built and error.http_status is not None and not is_transient(error.http_status)

    def _attempt(self, url: str, target: Target, seconds: float) -> int:
        from airflow_provider_kling.media.download import download

        return target.store(
            lambda file: (
                download(self._hook.client, url, file, seconds=seconds, max_bytes=self.max_bytes).size_bytes
            ),
            overwrite=self.overwrite,
        )


def _not_found_at(place: _Place, error: KlingDownloadError) -> KlingDownloadError:
    """Return the error of a download; where the URL was only built, it quotes what the API says of the job."""
    if place.status_body is None or error.http_status is None:
        return error
    return error.replace(
        message=f"{error.message}, and the API gives no other URL of Kling task {error.kling_task_id}",
        server_message=place.status_body,
        advice="The video was made and paid for; look it up at the vendor under this id.",
    )

# SPDX-License-Identifier: Apache-2.0
"""Store finished videos."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.exceptions import (
    KlingConnectionError,
    KlingDownloadError,
    KlingError,
    KlingValidationError,
)
from airflow_provider_kling.failures import failing_the_task
from airflow_provider_kling.polling import seconds_of
from airflow_provider_kling.rendered import masking_signatures

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_kling.hooks.kling import KlingHook

#: Seconds before the second, third and fourth attempt at a download that broke off.
PAUSES = (2.0, 10.0, 30.0)
DEFAULT_TIMEOUT = 3600.0


class KlingToObjectStorageOperator(BaseOperator):
    """
    Stream a finished video into any object storage, or onto a local disk.

    Links to videos expire, so store what you paid for. The file appears under its final name only when it is
    whole: it is written beside it as ``.<name>.part`` and moved. A link that expired meanwhile is asked for anew.

    :param video: The finished video (what the sensor or a waiting ``KlingGenerateOperator`` returned), or its
        Kling task id.
    :param path: Target of the file as ``ObjectStoragePath`` takes it: ``s3://conn@bucket/clip.mp4``,
        ``gs://...``, ``file:///...``. One that ends in ``/`` is a folder; the file is ``<task id>.mp4`` there.
    :param kling_conn_id: The Airflow connection. Its key goes to its own host only, whatever the URL says.
    :param overwrite: Replace an existing file (the default, so that the task may run again); False fails instead.
    :param timeout: Seconds (or a timedelta) that the download may take, further attempts included; an hour by
        default.
    :return: The path of the stored file, as a string.
    :raises KlingDownloadError: if the file cannot be fetched, is not a video, or is not as long as announced.
    :raises KlingAddressRefusedError: if its URL leads to an address inside this network, other than the
        connection's own host and its ``private_hosts``.
    :raises KlingError: any other, by name, if the API has to be asked for the URL.
    """

    template_fields: Sequence[str] = ("video", "path", "kling_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"video": "json"}
    ui_color = "#e8f5d0"

    def __init__(
        self,
        *,
        video: Mapping[str, Any] | str,
        path: str,
        kling_conn_id: str = "kling_default",
        overwrite: bool = True,
        timeout: float | timedelta = DEFAULT_TIMEOUT,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.video = video
        self.path = path
        self.kling_conn_id = kling_conn_id
        self.overwrite = overwrite
        self.timeout = seconds_of("timeout", timeout)

    def _do_render_template_fields(self, *args: Any, **kwargs: Any) -> None:
        """Render as every operator does, mapped or not; no signature of a URL is shown."""
        with masking_signatures(self):
            super()._do_render_template_fields(*args, **kwargs)

    def execute(self, context: Context) -> str:
        """Store the video and return its path."""
        from airflow_provider_kling.wire.answer import task_reference

        with failing_the_task():
            task_id, url = task_reference(self.video)
            path = self._target(task_id)
            if not self.overwrite and _is_there(path):
                raise KlingValidationError(
                    f"{path} exists, and overwrite=False", advice="Nothing was downloaded; nothing was changed."
                )
            url = url or self._fresh_url(task_id)
            started = time.monotonic()
            size = self._store(task_id, url, path)
            self.log.info(
                "Stored Kling task %s as %s: %d bytes in %.1f s", task_id, path, size, time.monotonic() - started
            )
            return str(path)

    def _target(self, task_id: str) -> ObjectStoragePath:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        target = str(self.path)
        if target.endswith("/"):
            target += re.sub(r"[^\w.-]", "_", task_id) + ".mp4"
        return ObjectStoragePath(target)

    def _fresh_url(self, task_id: str) -> str:
        job = self._hook.get_video(task_id)
        if job.status == "failed":
            raise job.failure()
        if job.status != "completed" or not job.video_url:
            raise KlingError(
                f"Kling task {task_id} has no video to store yet: it is {job.status_word}",
                task_id=task_id,
                advice="Wait for it first, with a KlingTaskSensor or wait_for_completion=True.",
            )
        return job.video_url

    def _store(self, task_id: str, url: str, path: ObjectStoragePath) -> int:
        from airflow_provider_kling.hooks.download import EXPIRED_STATUSES

        give_up_at = time.monotonic() + self.timeout
        pauses = iter(PAUSES)
        renewed = False
        while True:
            try:
                return self._attempt(url, path, give_up_at - time.monotonic())
            except KlingDownloadError as error:
                error.task_id = task_id
                if renewed or error.http_status not in EXPIRED_STATUSES:
                    raise
                self.log.info("The link of Kling task %s is no longer good; asking for a new one", task_id)
                url, renewed = self._fresh_url(task_id), True
            except KlingConnectionError as error:
                error.task_id = task_id
                pause = next(pauses, None)
                if pause is None or time.monotonic() + pause >= give_up_at:
                    raise
                self.log.warning("%s Once more in %g s.", error, pause)
                time.sleep(pause)

    def _attempt(self, url: str, path: ObjectStoragePath, seconds: float) -> int:
        from airflow_provider_kling.hooks.download import download

        part = path.with_name(f".{path.name}.part")
        if path.protocol in ("file", ""):
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                size = download(self._hook, url, file, seconds=seconds)
            path.fs.mv(part.path, path.path)
        except BaseException:
            with suppress(Exception):  # that this fails must not hide why the file is half
                part.unlink(missing_ok=True)
            raise
        return size

    @cached_property
    def _hook(self) -> KlingHook:
        from airflow_provider_kling.hooks.kling import KlingHook

        return KlingHook(self.kling_conn_id)


def _is_there(path: ObjectStoragePath) -> bool:
    """Return whether a file exists; trouble while looking is raised, where ``exists`` would call it absence."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True

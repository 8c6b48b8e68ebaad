# SPDX-License-Identifier: Apache-2.0
"""Store finished videos."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_kling.jobs.limits import to_seconds
from airflow_provider_kling.media.mp4 import MAX_BYTES
from airflow_provider_kling.tasks.base import label_of
from airflow_provider_kling.tasks.failures import reporting_failure
from airflow_provider_kling.tasks.import_errors import naming_own_task, naming_task
from airflow_provider_kling.tasks.metrics import measured
from airflow_provider_kling.tasks.parse_checks import CheckedPartial, check_storing, with_path_uris
from airflow_provider_kling.tasks.storing import DEFAULT_SAVE_TIMEOUT, StoringTask
from airflow_provider_kling.utils.coerce import with_uris
from airflow_provider_kling.utils.text import as_mapping

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath, XComArg

    from airflow_provider_kling.jobs.result import KlingVideo


class KlingToObjectStorageOperator(StoringTask, BaseOperator):
    """
    Stream a finished video into any object storage, or onto a local disk.

    Links to videos expire, so store what you paid for. The file appears under its final name only when it is
    complete. Each attempt writes its own file beside it, ``.kling-<32 hexadecimal digits>.part``. When that is
    complete, a file system renames it; an object storage copies it and deletes the part. Then name and size of
    the stored file are verified. A link that has expired meanwhile is renewed once.

    :param video: The finished video (what the sensor or a waiting ``KlingGenerateOperator`` returned), or its
        Kling task id.
    :param path: Target of the file as ``ObjectStoragePath`` takes it: ``s3://conn@bucket/clip.mp4``,
        ``gs://...``, ``file:///...``. It may contain ``{kling_task_id}``, ``{map_index}``, ``{model}``, ``{slug}``
        (the first words of the prompt, where the video tells it) and ``{ext}``. A path that ends in ``/`` is a
        folder; the file is ``{kling_task_id}.{ext}`` there. A long id, or one with characters other than letters,
        digits, ``.``, ``_`` and ``-``, is changed for that.
    :param kling_conn_id: The Airflow connection. Its key is sent to its own host only, whatever the URL is.
    :param overwrite: Replace an existing file (the default, so that the task can run again); False fails instead.
        With False, two concurrent tasks cannot both succeed on a file system; on an object storage they can,
        since the last check of the name and the copy are two steps.
    :param timeout: Seconds (or a timedelta) that the download may take, further attempts included; one hour by
        default.
    :param max_bytes: Greatest size of the file in bytes, 4 GiB by default; None sets no limit.
    :param sidecar: Store the result as JSON beside the file: ``clip.json`` beside ``clip.mp4``.
    :param last_frame_to: Path where the last frame of the video is stored as PNG; needs the extra ``media``.
    :return: The video, a :class:`~airflow_provider_kling.jobs.result.KlingVideo` with ``path`` and what the file
        says of itself.
    :raises KlingValidationError: before anything is downloaded, if ``path`` is a folder, a bucket, an existing
        file with ``overwrite=False``, a name that the store would change, or one on a store that cannot copy.
    :raises KlingDownloadError: if the file cannot be downloaded or stored, is not a complete video, or has more
        bytes than ``max_bytes``.
    :raises KlingAddressRefusedError: if its URL leads to an address inside this network, other than the
        connection's own host and its ``private_hosts``.
    :raises KlingError: any other named error, if the URL has to be requested from the API.
    """

    template_fields: Sequence[str] = ("video", "path", "kling_conn_id", "last_frame_to")
    text_fields: ClassVar[Sequence[str]] = ("video", "path", "kling_conn_id", "last_frame_to")
    path_argument: ClassVar[str] = "path"
    template_fields_renderers: ClassVar[dict[str, str]] = {"video": "json"}
    ui_color = "#e8f5d0"

    @naming_own_task
    def __init__(
        self,
        *,
        video: Mapping[str, Any] | str | XComArg,
        path: str | ObjectStoragePath,
        kling_conn_id: str = "kling_default",
        overwrite: bool = True,
        timeout: float | timedelta = DEFAULT_SAVE_TIMEOUT,
        max_bytes: int | None = MAX_BYTES,
        sidecar: bool = False,
        last_frame_to: str | ObjectStoragePath | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.video = video
        self.path = with_uris(path)
        self.kling_conn_id = kling_conn_id
        self.overwrite = overwrite
        self.timeout = to_seconds("timeout", timeout)
        self.max_bytes = max_bytes
        self.sidecar = sidecar
        self.last_frame_to = with_uris(last_frame_to)
        self._has_last_frame = last_frame_to is not None
        check_storing({"path": self.path, "max_bytes": max_bytes, "last_frame_to": self.last_frame_to})

    @classmethod
    def partial(cls, **kwargs: Any) -> Any:
        """Prepare a mapped task, and check its literal arguments: parsing creates no operator that could."""
        kwargs = with_path_uris(kwargs)
        with naming_task(kwargs.get("task_id")):
            check_storing(kwargs)
        return CheckedPartial(
            super().partial(**kwargs),
            kwargs,
            check_storing,
            paths=("path", "last_frame_to"),
            labelled_by=("video",),
        )

    @property
    def map_label(self) -> str:
        """What Airflow's UI calls this row: the first words of the prompt or its hash, or the id of the job."""
        from airflow_provider_kling.jobs.result import given_video, prompt_of, task_reference

        prompt = prompt_of(given_video(self.video).get("request"))
        return label_of(prompt) or task_reference(self.video)[0]

    @reporting_failure
    @measured
    def execute(self, context: Context) -> KlingVideo:
        """Store the video and return it."""
        from airflow_provider_kling.jobs.result import given_video, prompt_of, task_reference

        kling_task_id, url = task_reference(self.video)
        # The Videos page shows the tasks of one job together.
        context["ti"].xcom_push(key="kling_task_id", value=kling_task_id)
        path = str(self.path)
        video: Mapping[str, Any] = {**given_video(self.video), "kling_task_id": kling_task_id, "video_url": url}
        if request := as_mapping(video.get("request")):
            video = {**video, "request": self._with_shown_prompts(request)}
        prompt, model = prompt_of(video.get("request")), video.get("model")
        self._check_place(context, path, model=model, prompt=prompt)
        status_body = None
        if not url:
            current, status_body = self._current_video(kling_task_id)
            video = {**current, **{name: value for name, value in video.items() if value is not None}}
        return self._store_video(
            context, video, path=path, seconds=self.timeout, model=model, prompt=prompt, status_body=status_body
        )

    def _lineage_inputs(self) -> list[str]:
        from airflow_provider_kling.jobs.result import task_reference

        url = task_reference(self.video)[1]
        return [url] if url else []

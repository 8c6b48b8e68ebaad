# SPDX-License-Identifier: Apache-2.0
"""What all tasks that store a video share: the name of the file, the download, and the result."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from airflow_provider_kling.exceptions import KlingError, KlingValidationError
from airflow_provider_kling.tasks.base import KlingTask
from airflow_provider_kling.tasks.lineage import LineageTask
from airflow_provider_kling.tasks.metrics import count_stored
from airflow_provider_kling.tasks.outlets import describe_outlets
from airflow_provider_kling.utils.signed_urls import mask_signatures

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_kling.jobs.result import KlingVideo
    from airflow_provider_kling.media.storing import VideoLocation
    from airflow_provider_kling.media.target import Target

#: Default seconds that the download of one video may take, further attempts included.
DEFAULT_SAVE_TIMEOUT = 3600.0
#: An id of a job that does not exist yet, where the name of its file is checked beforehand.
_ANY_TASK_ID = "0" * 24
#: Seconds for which a task waits for another one to give up a path that both want.
_CLAIM_PATIENCE = 15.0


class _File(NamedTuple):
    """
    A file that a task stores.

    :param argument: The argument that wants it.
    :param template: The rendered path from which its name comes, with its placeholders.
    :param target: Where it is stored.
    """

    argument: str
    template: str
    target: Target


class StoringTask(LineageTask, KlingTask):
    """
    A mixin for an operator that stores one video.

    Put it before Airflow's own class. The task has the attributes below.
    """

    if TYPE_CHECKING:
        log: Any
        outlets: list[Any]
        overwrite: bool
        max_bytes: int | None
        sidecar: bool
        last_frame_to: str | None
        #: Whether it was given: a template that finds nothing must not do without the frame.
        _has_last_frame: bool

    #: The argument that says where the video is stored.
    path_argument: ClassVar[str]
    #: Files whose names are known before there is a job.
    _known_files: Sequence[_File] = ()
    #: The Kling task whose video is being stored now.
    _storing: str | None = None

    def on_kill(self) -> None:
        """Log what becomes of the video that is being stored."""
        if self._storing:
            self.log.warning(
                "Killed while the video of Kling task %s was being stored. It is finished and paid for; the next "
                "attempt stores it, as long as its link is good",
                self._storing,
            )

    def _check_place(self, context: Context, path: str, *, model: str | None, prompt: str | None) -> None:
        """
        Check where the files will be stored, as far as possible before there is a video, and claim their paths.

        :param path: The rendered path, with its placeholders.
        :raises KlingValidationError: if nothing can be stored there, or another file of this task belongs there.
        :raises KlingDownloadError: if the store cannot be reached.
        """
        from airflow_provider_kling.media.path_template import file_values, needs_task_id

        if self._has_last_frame:
            from airflow_provider_kling.media.last_frame import require_av

            require_av()
        map_index = context["ti"].map_index
        values = file_values(kling_task_id=_ANY_TASK_ID, map_index=map_index, model=model, prompt=prompt)
        needs_id = values["slug"] == values["kling_task_id"]
        self._known_files = []
        for file in self._files(path, values):
            with _naming(file.argument):
                file.target.check(overwrite=True)
            if not needs_task_id(file.template) and not (needs_id and "{slug}" in file.template):
                self._known_files.append(file)
                self._claim_path(context, file.template, file.target.path)

    def _check_overwrite(self) -> None:
        """
        Check before a purchase that no file is there which may not be replaced.

        A file whose name depends on the id of the job cannot be there.

        :raises KlingValidationError: if one is.
        """
        for file in () if self.overwrite else self._known_files:
            with _naming(file.argument):
                file.target.check(overwrite=False)

    def _files(self, path: str, values: Mapping[str, object]) -> list[_File]:
        """
        Return what the task stores: the video, and where they are wanted its last frame and the sidecar file.

        :param path: The rendered path of the video, with its placeholders.
        :param values: The value of each placeholder.
        :raises KlingValidationError: naming the argument, if it names no file, or that of another argument.
        """
        from airflow_provider_kling.media.path_template import fill
        from airflow_provider_kling.media.target import target_of

        filled = fill(path, values)
        paths = [(self.path_argument, path, filled)]
        if self._has_last_frame:
            frame = str(self.last_frame_to)
            paths.append(("last_frame_to", frame, fill(frame, {**values, "ext": "png"})))
        if self.sidecar:
            paths.append(("sidecar", path, _beside(filled)))
        files: list[_File] = []
        for argument, template, name in paths:
            with _naming(argument):
                file = _File(argument, template, target_of(name))
            if same := next((other for other in files if other.target.place == file.target.place), None):
                raise KlingValidationError(
                    f"{argument}: its file would be {name}, which is that of {same.argument}",
                    advice=f"Give {same.argument} another name or ending, so that neither replaces the other. "
                    "Nothing was stored.",
                )
            files.append(file)
        return files

    def _claim_path(self, context: Context, template: str, path: str) -> None:
        """
        Claim a path for this row of a mapped task, so that two rows do not store one over the other.

        Each row writes its claim into XCom, and then reads those of the others: whoever reads later sees both.

        :raises KlingValidationError: if another row claims it.
        """
        from airflow_provider_kling.media.path_template import may_meet

        ti = context["ti"]
        index = -1 if ti.map_index is None else ti.map_index
        if index < 0 or not may_meet(template):
            return
        key = f"kling_path_{hashlib.sha256(path.encode()).hexdigest()[:16]}"
        ti.xcom_push(key=key, value=index)
        give_up_at = time.monotonic() + _CLAIM_PATIENCE
        while others := [claim for claim in _claims(ti, key) if claim != index]:
            if index < min(others) and time.monotonic() < give_up_at:
                time.sleep(1.0)  # a row that claimed it at the same moment gives it up
                continue
            ti.xcom_push(key=key, value=None)
            raise KlingValidationError(
                f"Row {index} would be stored as {path}, which is the file of row {min(others)}",
                advice="Write {map_index} or {kling_task_id} into the path, so that each row gets its own file. "
                "Nothing was stored, and nothing was replaced.",
            )

    def _store_video(
        self,
        context: Context,
        video: Mapping[str, Any],
        *,
        path: str,
        seconds: float,
        model: str | None,
        prompt: str | None,
        status_body: str | None = None,
    ) -> KlingVideo:
        """
        Store a finished video, and what belongs to it.

        :param video: The video; any keys of a :class:`KlingVideo`, with its id and its URL.
        :param path: The rendered path, with its placeholders.
        :param seconds: Seconds that the download may take.
        :param model: The model, for ``{model}``.
        :param prompt: The prompt, for ``{slug}``.
        :param status_body: See :class:`~airflow_provider_kling.media.storing.VideoLocation`.
        :return: The video, with what is known of its file.
        :raises KlingError: a named error; its advice then says that the video is finished, and not stored.
        """
        from airflow_provider_kling.jobs.result import complete_video
        from airflow_provider_kling.media.path_template import file_values
        from airflow_provider_kling.media.storing import VideoLocation, VideoStorer

        kling_task_id, url = str(video["kling_task_id"]), str(video["video_url"])
        values = file_values(
            kling_task_id=kling_task_id, map_index=context["ti"].map_index, model=model, prompt=prompt, url=url
        )
        self._storing = kling_task_id
        state = "is not stored"
        try:
            files = {file.argument: file.target for file in self._files(path, values)}
            target = files[self.path_argument]
            target.check(overwrite=True)  # whether the file there is this video is found out below
            self._claim_path(context, path, target.path)
            storer = VideoStorer(
                self._hook.client,
                kling_task_id,
                locate=lambda: self._current_location(kling_task_id, was_finished=True),
                seconds=seconds,
                max_bytes=self.max_bytes,
            )
            started = time.monotonic()
            stored = storer.store(VideoLocation(url, status_body), target, overwrite=self.overwrite)
            taken = time.monotonic() - started
            self.log.info(
                "Stored Kling task %s as %s: %d bytes in %.1f s",
                kling_task_id,
                stored.path,
                stored.size_bytes,
                taken,
            )
            state = f"is stored as {stored.path}, without what belongs to it"
            known = {
                **video,
                **stored.facts._asdict(),
                "path": stored.path,
                "size_bytes": stored.size_bytes,
                "sha256": stored.sha256,
            }
            if frame := files.get("last_frame_to"):
                known["last_frame_path"] = self._store_last_frame(frame, target)
            result = complete_video(known)
            if beside := files.get("sidecar"):
                self._store_sidecar(result, beside)
        except KlingError as error:
            advice = f"{error.advice} The video is finished and paid for. It {state}.".strip()
            raise error.replace(kling_task_id=kling_task_id, advice=advice) from error.__cause__
        self._storing = None
        count_stored(self, result)
        self._collect_lineage(self._hook, tuple(filter(None, (result["path"], result["last_frame_path"]))))
        describe_outlets(self.outlets, context, result, model=model)
        return result

    def _store_last_frame(self, frame: Target, video: Target) -> str:
        from airflow_provider_kling.media.last_frame import last_frame_png

        with video.open() as file:
            png = last_frame_png(file)
        frame.store(lambda file: _written(file, png), overwrite=True, content_type="image/png")
        self.log.info("Stored the last frame as %s", frame.path)
        return frame.path

    def _store_sidecar(self, video: KlingVideo, beside: Target) -> None:
        shown = {**video, "video_url": mask_signatures(video["video_url"])}
        text = json.dumps(shown, ensure_ascii=False, indent=2).encode()
        beside.store(lambda file: _written(file, text), overwrite=True, content_type="application/json")

    def _current_location(self, kling_task_id: str, *, was_finished: bool = False) -> VideoLocation:
        """Return where the video of a job lies, as the API says now."""
        from airflow_provider_kling.media.storing import VideoLocation

        video, status_body = self._current_video(kling_task_id, was_finished=was_finished)
        return VideoLocation(video["video_url"], status_body)

    def _current_video(self, kling_task_id: str, *, was_finished: bool = False) -> tuple[KlingVideo, str | None]:
        """
        Return a finished video as the API has it now, and the beginning of a status response without a URL.

        :param was_finished: Whether the wait for it has ended already, so that a URL is one even where the job's
            status word is unknown.
        """
        from airflow_provider_kling.jobs.result import finished_video, video_at

        job = self._hook.get_video(kling_task_id)
        finished_video(job)  # raises for one that failed
        url = job.video_url or job.content_url
        is_finished = job.status == "completed" or (was_finished and not job.is_known_status)
        if url is None or not is_finished:
            raise KlingError(
                f"The job has no video to store yet: it is {job.raw_status}",
                kling_task_id=kling_task_id,
                server_message=job.excerpt,
                advice="Wait for it first, with a KlingTaskSensor or wait_for_completion=True.",
            )
        return video_at(url, job), None if job.video_url else job.excerpt


def _claims(ti: Any, key: str) -> list[int]:
    found = ti.xcom_pull(task_ids=[ti.task_id], key=key) or []
    return [int(claim) for claim in found if claim is not None]


def _beside(path: str) -> str:
    """Return the path of the sidecar file: ``clip.json`` beside ``clip.mp4``."""
    folder, slash, name = path.rpartition("/")
    stem, dot, _ = name.rpartition(".")
    return f"{folder}{slash}{stem if dot and stem else name}.json"


@contextmanager
def _naming(argument: str) -> Iterator[None]:
    """Have the error of a path name the argument that it comes from."""
    try:
        yield
    except KlingValidationError as error:
        message = error.message.removeprefix("path=")
        raise error.replace(message=f"{argument}={message}") from error.__cause__


def _written(file: Any, content: bytes) -> int:
    file.write(content)
    return len(content)

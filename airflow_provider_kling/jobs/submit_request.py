# SPDX-License-Identifier: Apache-2.0
"""What a submission is given, what it needs of the record and of the server, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from airflow_provider_kling.jobs.shown_prompt import prompt_hash
from airflow_provider_kling.utils.signed_urls import mask_signatures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from airflow_provider_kling.api.job import VideoJob
    from airflow_provider_kling.api.request import VideoRequest
    from airflow_provider_kling.exceptions import KlingError
    from airflow_provider_kling.jobs.journal import Event

OnClear = Literal["reuse", "resubmit"]
OnUncertain = Literal["fail", "resubmit"]


class RecordStore(Protocol):
    """A store for the record of submits. A failure to read raises; it never counts as an empty record."""

    @property
    def durable(self) -> bool:
        """Whether the next attempt can read what this one writes."""
        ...

    def new_intent(self) -> str:
        """Return the id of the next intent."""
        ...

    def load(self) -> Sequence[Event]:
        """Return all events, in any order."""
        ...

    def append(self, event: Event) -> None:
        """Add an event; every reader sees it once this has returned."""
        ...

    def forget(self, intent: str) -> None:
        """Drop a submit that provably made no job and is in no count, so that the record stays short."""
        ...


class SubmitSession(Protocol):
    """A keep-alive connection to the server on which one submit is sent."""

    def probe(self) -> None:
        """
        Check that the API is available, at no cost.

        :raises KlingUnavailableError: if it provably is not.
        :raises KlingAuthenticationError: if it rejects the key.
        """
        ...

    def submit(
        self, request: VideoRequest, *, age: Callable[[], float], client_token: str | None = None
    ) -> VideoJob:
        """
        Send the POST, once.

        :param client_token: See :mod:`airflow_provider_kling.jobs.client_token`.
        :param age: Returns the seconds since its intent was recorded; if that is too long ago, nothing is sent.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class SubmitRequest:
    """
    A request for one video, plus the policies for joining, submitting again or stopping.

    :param video: What to make.
    :param fingerprint: See :func:`fingerprint_of`.
    :param conn_id: The Airflow connection.
    :param dag_id: The DAG.
    :param map_index: The index of a mapped task, -1 for a task that is not mapped.
    :param max_tries: Airflow's ``max_tries`` of the running attempt.
    :param token_seed: What client tokens are derived from where no record is kept; None makes them random.
    :param on_clear: After a clear, join the job that was bought (``reuse``) or buy another (``resubmit``).
    :param on_uncertain: With a submit whose fate is unknown, ``fail`` or buy another (``resubmit``).
    :param to_send: Returns the request as it is sent, from that which is recorded: with signed URLs of its images.
        It is called before the intent of each POST is recorded, so that its errors leave nothing to resolve.
    :param frames_error: Why its images in an object storage cannot be read now. Then nothing is bought, and the
        job that was bought last with the same URIs is joined.
    :param by_uri: The fingerprint with the URIs of these images instead of their content; None without any.
    :param show_prompts: Whether the prompt may be written down.
    """

    video: VideoRequest
    fingerprint: str
    conn_id: str
    dag_id: str
    max_tries: int
    map_index: int = -1
    token_seed: str | None = None
    on_clear: OnClear = "reuse"
    on_uncertain: OnUncertain = "fail"
    to_send: Callable[[VideoRequest], VideoRequest] = lambda video: video
    frames_error: KlingError | None = None
    by_uri: str | None = None
    show_prompts: bool = True

    @property
    def prompt(self) -> str:
        """The start of the prompt, as a person recognises it in the vendor's console, or its hash."""
        if not self.show_prompts and (prompt := self.video.first_prompt):
            return prompt_hash(prompt)
        text = self.video.prompt or f"{len(self.video.multi_prompt or [])} shots"
        text = mask_signatures(" ".join(text.split()))
        return text if len(text) <= 80 else text[:79] + "…"


@dataclass(frozen=True)
class SubmitResult:
    """
    A job that is ours.

    :param kling_task_id: Its id.
    :param submitted_at: When it was submitted (epoch seconds).
    :param job: Its state, where it was looked up; the response to a submit alone never ends a job.
    :param other_id: Another id that the submit gave it; the server may know it by that one alone.
    :param route: Its status route, if it is known.
    """

    kling_task_id: str
    submitted_at: float
    job: VideoJob | None = None
    other_id: str | None = None
    route: str | None = None

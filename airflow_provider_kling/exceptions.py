# SPDX-License-Identifier: Apache-2.0
"""
The named errors for everything that can go wrong on the way from a prompt to a video file.

The worker, the triggerer and plain scripts raise and catch the same classes. Each error has what a person on call
needs at a glance: what failed, the server's own message, what to do, and the ids. None ever contains the API key,
nor the signature of a pre-signed URL.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_kling.utils.signed_urls import mask_signatures

if TYPE_CHECKING:
    from collections.abc import Sequence


#: How errors speak of the connection; its id follows where it is known.
THE_CONNECTION = "the Airflow connection"


class KlingError(Exception):
    """
    Base of every error that this provider raises on purpose.

    An error is immutable; :meth:`replace` returns a changed copy.

    :param message: What failed, as one sentence without a full stop.
    :param kling_task_id: The Kling task concerned, if one is known.
    :param http_status: The HTTP status of the response, if there was one.
    :param code: The server's error code, textual (``insufficient_user_quota``) or official (``1303``).
    :param server_message: The server's own message, untranslated.
    :param request_id: The server's id of the HTTP exchange, for a request to its support.
    :param retry_after: Seconds to wait by the server's Retry-After, if it sent one.
    :param advice: What to do about it. Each class has its own default.
    :param kind: The stable word for what happened, see ``docs/errors.md``; that of the class by default.
    """

    #: Whether another attempt of the same Airflow task could succeed.
    retryable: ClassVar[bool] = True
    kind: str = "error"
    default_advice: ClassVar[str] = ""
    advice_on_a_line_of_its_own: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        kling_task_id: str | None = None,
        http_status: int | None = None,
        code: str | None = None,
        server_message: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        advice: str | None = None,
        kind: str | None = None,
    ) -> None:
        # Masked here, so that no form of the error contains a signature: its text, an event, a pickle, args.
        message = _masked(message)
        super().__init__(message)
        self.message = message
        self.kling_task_id = kling_task_id
        self.http_status = http_status
        self.code = _masked(code)
        self.server_message = _masked(server_message)
        self.request_id = request_id
        self.retry_after = retry_after
        self.advice = self.default_advice if advice is None else _masked(advice)
        if kind is not None:
            self.kind = kind

    def __str__(self) -> str:
        text = self.message
        if ids := self.ids(with_task=str(self.kling_task_id) not in text):
            text += f" ({ids})"
        # What follows a list does not belong to its last item.
        is_list = "\n" in self.message
        if not is_list:
            text += "."
        if self.server_message:
            text += ("\n" if is_list else " ") + f"The server reported: “{self.server_message}”."
        if self.advice:
            text += ("\n" if is_list or self.advice_on_a_line_of_its_own else " ") + self.advice
        return text

    def ids(self, *, with_task: bool = True) -> str:
        """
        Return what a search or the server's support needs, as far as it is known, for example ``HTTP 402``.

        :param with_task: Whether the Kling task is part of it, besides the HTTP status, the code and the request.
        """
        known = {
            "Kling task": self.kling_task_id if with_task else None,
            "HTTP": self.http_status,
            "code": self.code,
            "request": self.request_id,
        }
        return ", ".join(f"{name} {value}" for name, value in known.items() if value)

    def details(self) -> dict[str, Any]:
        """Return the keyword arguments that, with ``message``, rebuild this error."""
        # Without the kind of the class: an error that is rebuilt as another class gets that one's.
        own_kind = {"kind": self.kind} if "kind" in vars(self) else {}
        return {name: getattr(self, name) for name in _DETAILS} | own_kind

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values for some of the arguments, and the same cause and traceback."""
        changed = type(self)(**{"message": self.message, **self.details(), **changes})
        changed.__cause__ = self.__cause__
        return changed.with_traceback(self.__traceback__)

    def to_dict(self) -> dict[str, Any]:
        """Return the error as plain JSON, for the event from the triggerer to a worker."""
        return {"type": error_name(self), "message": self.message, **self.details()}

    @staticmethod
    def from_dict(data: dict[str, Any]) -> KlingError:
        """Rebuild the error of :meth:`to_dict`; an unknown type (from a newer triggerer) becomes a KlingError."""
        kind = _KINDS.get(data.get("type", ""), KlingError)
        given = {name: data.get(name) for name in (*_DETAILS, "kind")}
        return kind(data.get("message") or "Kling failed", **given)

    def __reduce__(self) -> tuple[Any, ...]:
        # Airflow pickles errors between processes; keyword-only arguments need this.
        return _rebuild, (type(self), self.message, self.details())


def _rebuild(kind: type[KlingError], message: str, details: dict[str, Any]) -> KlingError:
    return kind(message, **details)


class KlingPermanentError(KlingError, AirflowFailException):
    """Base of the errors that a retry cannot fix; Airflow fails the task at once, even with retries left."""

    retryable = False


def _masked(text: Any) -> Any:
    # An error from another process may have a value of any type here.
    return mask_signatures(text) if isinstance(text, str) else text


_DETAILS = ("kling_task_id", "http_status", "code", "server_message", "request_id", "retry_after", "advice")


class Problem(NamedTuple):
    """One problem of a request: the field, its value, and what is expected."""

    field: str
    value: Any
    expected: str

    def __str__(self) -> str:
        return f"{self.field}={short_repr(self.value)}: {self.expected}"


def short_repr(value: Any) -> str:
    """Return a value for a message: its ``repr``, shortened if it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # Python itself refuses to print a number of thousands of digits, or a list of thousands of levels.
        return f"<{type(value).__name__} too large to show>"
    if len(text) > 120:
        # Before the cut: Airflow would not recognise a part of a secret.
        text = _without_secrets(text)
    return text if len(text) <= 120 else text[:117] + "..."


def _without_secrets(text: str) -> str:
    from airflow.providers.common.compat.sdk import redact

    try:
        return str(redact(text))
    except RuntimeError:  # Airflow 2 and 3.0 as a library, or with a logging of one's own, mask nothing at all
        return text


NOT_BILLED = "Nothing was submitted or billed. Correct the arguments."


class KlingValidationError(KlingPermanentError):
    """The request is wrong; this provider found that before sending it, or the server did (HTTP 400)."""

    kind = "validation"
    default_advice = "Correct the arguments."

    @classmethod
    def from_problems(cls, problems: Sequence[Problem], subject: str | None = None) -> KlingValidationError:
        """
        Return one error for all problems of a request that was not sent: a sentence for one, a list for more.

        :param problems: The problems.
        :param subject: What has them; None for the request of a video.
        """
        if len(problems) == 1:
            message = f"{subject}: {problems[0]}" if subject else str(problems[0])
        else:
            listed = "".join(f"\n  - {problem}" for problem in problems)
            message = f"{subject or 'The video request'} has {len(problems)} problems:{listed}"
        return cls(message, advice=NOT_BILLED)


class KlingAuthenticationError(KlingPermanentError):
    """The API key is missing, wrong, disabled or used up (HTTP 401; official codes 1000 to 1004)."""

    kind = "authentication"
    default_advice = f"Check API key and Base URL of {THE_CONNECTION}."


class KlingBalanceError(KlingPermanentError):
    """The account has no money left (``insufficient_user_quota``, HTTP 402; official codes 1100 to 1102)."""

    kind = "balance"
    default_advice = "Top up the account at the vendor. Waiting does not help."


class KlingPermissionError(KlingPermanentError):
    """The key lacks permission: model, group or address not allowed (HTTP 403; official codes 1103, 1304)."""

    kind = "permission"
    default_advice = "Ask the vendor which models and addresses this key may use."


class KlingContentRefusedError(KlingPermanentError):
    """The content policy refused the prompt or an image (official codes 1300, 1301)."""

    kind = "content_refused"
    default_advice = "Change the prompt or the image. The same request will be refused again."


class KlingNotFoundError(KlingPermanentError):
    """The server does not know this task id, or has no such API under this address."""

    kind = "not_found"
    default_advice = f"Check the task id, and that {THE_CONNECTION} leads to the server that created it."


class KlingRateLimitError(KlingError):
    """Too many requests or too many jobs at once (HTTP 429; official codes 1302, 1303); waiting helps."""

    kind = "rate_limited"
    default_advice = "The account's limit is reached. Slots free up as running jobs finish."


#: Errors that would be the same for any job of the account.
ACCOUNT_ERRORS = (KlingAuthenticationError, KlingBalanceError, KlingRateLimitError)


class KlingUnavailableError(KlingError):
    """
    The API is provably unavailable, and nothing was submitted.

    There is no connection, or the response is a web page, a redirect, or an error about an unknown route.
    """

    kind = "unavailable"
    default_advice = f"Nothing was submitted. Check Base URL and API of {THE_CONNECTION} if this lasts."


class KlingServerError(KlingError):
    """The server had an error, or its response was invalid."""

    kind = "server_error"
    default_advice = "If it lasts, ask the vendor."


class KlingConnectionError(KlingError):
    """The server was not reached, or the connection broke before the response was complete."""

    kind = "connection"
    default_advice = f"Check the Base URL of {THE_CONNECTION}, DNS, proxies and TLS."


class KlingGenerationFailedError(KlingError):
    """The vendor accepted the job, and the job failed."""

    kind = "generation_failed"
    default_advice = "The vendor decides whether it is billed."


class KlingTimeoutError(KlingError):
    """The video was not finished within the time given; the job continues at the vendor, and is billed."""

    kind = "timeout"


class KlingUncertainSubmissionError(KlingPermanentError):
    """A submit may have been accepted and billed, but its task id never arrived."""

    kind = "uncertain"
    default_advice = "It is not sent again automatically. Check at the vendor whether a job was made at this time."
    advice_on_a_line_of_its_own = True


class KlingDuplicateSubmissionError(KlingUncertainSubmissionError):
    """A submit was refused because an earlier one with the same client token made a job, whose id is not known."""

    kind = "duplicate"


class KlingAddressRefusedError(KlingPermanentError):
    """A video URL leads to an address inside this network, which is not where vendors store videos."""

    kind = "address_refused"
    default_advice = (
        "A server must not make this machine send requests inside its own network. If the video is really there, "
        f"allow its host. Add it to Private hosts (extra.private_hosts) of {THE_CONNECTION}."
    )


class KlingDownloadError(KlingError):
    """The file at the video URL could not be downloaded completely, or is not a video."""

    kind = "download"


_KINDS = {
    kind.__name__: kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, KlingError)
}


def error_name(error: KlingError) -> str:
    """Return the public class name of an error, also for a subclass from another module."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__name__ in _KINDS)

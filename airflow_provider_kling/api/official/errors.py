# SPDX-License-Identifier: Apache-2.0
"""What errors of the platform say besides its message: the id of the exchange, and why a key may be rejected."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow_provider_kling.api.official.envelope import error_code, request_id_in
from airflow_provider_kling.api.official.routes import is_vendors_host, other_region
from airflow_provider_kling.api.official.token import CLOCK_TOLERANCE
from airflow_provider_kling.exceptions import THE_CONNECTION, KlingAuthenticationError, KlingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_provider_kling.api.base import Credentials
    from airflow_provider_kling.api.response import Response

#: Codes for a token that is not valid yet, or no longer.
TIME_CODES = ("1003", "1004")


@contextmanager
def explained(response: Response, credentials: Credentials, base_url: str) -> Iterator[None]:
    """
    Complete the errors that the block raises for a response.

    An error gets the platform's id of the exchange; one about a rejected key gets what to check: the clock of this
    machine, or the region of the key.
    """
    try:
        yield
    except KlingError as error:
        changes = {"request_id": error.request_id or request_id_in(response)}
        if isinstance(error, KlingAuthenticationError):
            changes["advice"] = _advice(response, credentials, base_url)
        raise error.replace(**changes) from None


def _advice(response: Response, credentials: Credentials, base_url: str) -> str:
    keys = "API key" if credentials.login is None else "Access key, and the secret key in API key,"
    sentences = []
    is_about_time = error_code(response) in TIME_CODES
    ahead = response.clock_error
    if credentials.login is not None and ahead is not None and abs(ahead) > CLOCK_TOLERANCE:
        direction = "ahead of" if ahead > 0 else "behind"
        sentences.append(
            f"The clock of this machine is {abs(ahead):.0f} seconds {direction} the server's: set it, since the "
            "token that is signed with it is valid for a span of time."
        )
    elif is_about_time and credentials.login is not None:
        sentences.append(
            "Check the clock of this machine: the token that is signed with it is valid for a span of time."
        )
    if not is_about_time or not sentences:
        sentences.append(f"Check {keys} of {THE_CONNECTION}.")
        if is_vendors_host(base_url):
            sentences.append(
                "Keys are bound to a region: if this one is of the other, the Base URL is "
                f"{other_region(base_url)}."
            )
        else:
            sentences.append("Check its Base URL too.")
    return " ".join(sentences)

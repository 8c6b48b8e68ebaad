# SPDX-License-Identifier: Apache-2.0
"""The error responses of every API that the sandbox serves."""

from __future__ import annotations

import json


class ApiError(Exception):
    """
    An error response of the API.

    :param status: The HTTP status.
    :param code: The API's code. A number is a code of Kling's own platform; a gateway sends it inside the message.
    :param message: The message.
    """

    def __init__(self, status: int, code: int | str, message: str) -> None:
        super().__init__(upstream_message(code, message) if isinstance(code, int) else message)
        self.status = status
        self.code = code
        self.message = message


def upstream_message(code: int, message: str) -> str:
    """Return an error of the platform behind a gateway in the form that the gateway's own message contains."""
    response = {"code": code, "message": message, "request_id": "sandbox"}
    return json.dumps(response, ensure_ascii=False, separators=(",", ":"))

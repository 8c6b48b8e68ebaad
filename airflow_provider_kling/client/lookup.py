# SPDX-License-Identifier: Apache-2.0
"""Check an Airflow connection, with the same errors on a worker and on a triggerer."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowNotFoundException

from airflow_provider_kling.client.connection import KlingConnection
from airflow_provider_kling.client.pasted_keys import mask_keys
from airflow_provider_kling.exceptions import KlingAuthenticationError, KlingError

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)


def connection_from(conn_id: str, found: Any, extra: Mapping[str, Any]) -> KlingConnection:
    """
    Return the checked connection.

    :param conn_id: The Airflow connection.
    :param found: What Airflow returned for it.
    :param extra: Its extras.
    :raises KlingValidationError: naming what is missing or wrong in it.
    """
    connection = KlingConnection.parse(
        conn_id=conn_id,
        host=found.host,
        login=found.login,
        password=found.password,
        schema=found.schema,
        port=found.port,
        extra=extra,
    )
    if connection.unknown_extras:
        names = ", ".join(connection.unknown_extras)
        log.warning("Connection %r has extras that are not read: %s", conn_id, names)
    if connection.credentials.login and not connection.api.takes_login:
        log.warning(
            "The Access key (login) of connection %r is not read; it needs the API (extra.api) official", conn_id
        )
    return connection


def unconfirmed_refusal(conn_id: str, error: KlingAuthenticationError) -> KlingError:
    """
    Return the error for a refused key that Airflow could not be asked for again.

    The key may have been replaced, so a wait goes on until the connection can be looked up.

    :param conn_id: The Airflow connection.
    :param error: The refusal.
    """
    details = error.details() | {
        "advice": f"The connection {conn_id!r} could not be looked up again, in case the key was replaced: check "
        "that Airflow can reach the backend that stores it."
    }
    return KlingError(error.message, **details)


def lookup_error(conn_id: str, error: Exception) -> KlingError:
    """
    Return the error for a connection that Airflow could not return.

    Its cause is Airflow's error, unless the text of that error contains a possible key: it quotes an entry of a
    secrets backend that cannot be parsed.
    """
    failure = _lookup_failure(conn_id, mask_keys(f"{type(error).__name__}: {error}"), error)
    failure.__cause__ = error if mask_keys(str(error)) == str(error) else None
    return failure


def _lookup_failure(conn_id: str, reason: str, error: Exception) -> KlingError:
    if isinstance(error, AirflowNotFoundException):
        # Airflow raises the same error when its secrets backend or its API server did not respond.
        return KlingError(str(error), advice="Add it, or check that Airflow can reach the backend that stores it.")
    return KlingError(
        f"Airflow could not look up the connection {conn_id!r}: {reason}",
        advice="Check that Airflow can reach the backend that stores it.",
    )

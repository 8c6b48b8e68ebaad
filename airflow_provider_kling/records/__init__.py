# SPDX-License-Identifier: Apache-2.0
"""
Where the record of a task's submits is stored.

This is Airflow's task state store (Airflow 3.3 and later), the object storage folder in ``[kling] state_path``, or
both. Without either it is an Airflow Variable. ``python -m airflow_provider_kling.records`` lists and deletes the
records in a folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Variable, conf

from airflow_provider_kling.records.folder import FolderStore
from airflow_provider_kling.records.stores import (
    RECORD_KEY,
    BothStores,
    Identity,
    NoStore,
    Store,
    TaskStateStore,
    VariableStore,
)
from airflow_provider_kling.version_compat import after_success, task_state_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.providers.common.compat.sdk import BaseOperator, Context

    from airflow_provider_kling.jobs.journal import Event


def record_store(context: Context, *, conn_id: str, fingerprint: str, is_first_look: bool) -> Store:
    """
    Return the store for the running task instance.

    :param context: The task's context.
    :param conn_id: The Airflow connection.
    :param fingerprint: The fingerprint of the request that is about to be submitted.
    :param is_first_look: Whether no earlier attempt, and no earlier part of this one, can have written a record.
        Only then is an empty store accepted without a proof that it works.
    """
    identity = Identity.of(context)
    prove = not is_first_look
    folder = _state_path()
    in_folder = FolderStore(folder, identity, prove=prove) if folder else None
    state = task_state_store(context)
    if state is not None:
        # Before 3.3, Airflow kept the record of an attempt in a Variable.
        before_upgrade = None if is_first_look or folder else VariableStore(identity)
        in_airflow = TaskStateStore(state, prove=prove, before_upgrade=before_upgrade)
        return BothStores(in_airflow, in_folder) if in_folder else in_airflow
    if in_folder:
        return in_folder
    if _is_turned_off():
        return NoStore(
            identity,
            conn_id=conn_id,
            fingerprint=fingerprint,
            try_number=context["ti"].try_number,
            read_variable=read_variable,
        )
    return VariableStore(identity)


def recorded_events(identity: Identity, task_state: Mapping[str, Any] | None) -> Sequence[Event] | None:
    """
    Return the record of a task instance that is not running, as far as this component of Airflow can read it.

    :param identity: The task instance.
    :param task_state: What its task state store holds; None if Airflow has none.
    :return: Its events; None if no record is kept.
    :raises KlingError: if the record is unreadable.
    :raises Exception: if a store cannot be read, as the store raises it.
    """
    stores: list[Store] = []
    folder = _state_path()
    # Without a record in it, no attempt may have run since the upgrade to 3.3.
    if task_state is not None and (folder or RECORD_KEY in task_state):
        stores.append(TaskStateStore(task_state, prove=False))
    if folder:
        stores.append(FolderStore(folder, identity, prove=False))
    if not stores:
        if task_state is None and _is_turned_off():
            return None
        stores.append(VariableStore(identity, prove=False))
    return BothStores(*stores).load()


def is_durable(context: Context) -> bool:
    """Return whether the next attempt can read what this one records."""
    return task_state_store(context) is not None or bool(_state_path()) or not _is_turned_off()


def token_seed(context: Context, *, fingerprint: str, is_new_after_clear: bool) -> str | None:
    """
    Return what the client tokens of a task instance are derived from, where no record keeps random ones.

    That needs the name of the deployment, since another one may have the same DAGs and the same account.

    :param context: The task's context.
    :param fingerprint: The fingerprint of the request, the number of its take included.
    :param is_new_after_clear: Whether a clear of the task buys another video.
    :return: The seed; None without ``[kling] deployment``.
    """
    if not (deployment := _deployment()):
        return None
    clears = context["ti"].max_tries if is_new_after_clear else ""
    return "\0".join(map(str, (deployment, *Identity.of(context), fingerprint, clears)))


def names_deployment() -> bool:
    """Return whether the configuration names the deployment, so that client tokens can be derived."""
    return bool(_deployment())


def forget_after_success(task: BaseOperator, context: Context) -> None:
    """
    Register the deletion of a record in a Variable for when Airflow has recorded the task's success.

    A record elsewhere stays; one in a Variable would remain in the list of Variables.

    :param task: The running operator, which is about to return.
    :param context: Its context.
    """
    if task_state_store(context) is None and not _state_path() and not _is_turned_off():
        after_success(task, context, VariableStore(Identity.of(context)).delete)


def read_variable(name: str) -> str | None:
    """Return the text of an Airflow Variable; None if there is none, or if it cannot be read."""
    try:
        value = Variable.get(name, None)
    except Exception:  # noqa: BLE001 -- a failed look-up is not a decision
        return None
    return None if value is None else str(value)


def _state_path() -> str:
    path: str = conf.get("kling", "state_path", fallback="")
    return path


def _deployment() -> str:
    deployment: str = conf.get("kling", "deployment", fallback="")
    return deployment.strip()


def _is_turned_off() -> bool:
    return bool(conf.get("kling", "state", fallback="auto").strip().lower() == "none")

# SPDX-License-Identifier: Apache-2.0
"""Where the record of a task's submits lives: Airflow's task state store, or object storage, or nowhere."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import Variable, conf

from airflow_provider_kling.version_compat import NEVER_EXPIRE, task_state_store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow.providers.common.compat.sdk import Context, ObjectStoragePath

    from airflow_provider_kling.submission import RecordStore

RECORD_KEY = "kling_submissions"


def identity_of(context: Context) -> str:
    """
    Return the name of a task instance that is the same for every attempt at it.

    The parts are joined by a character that none of them can hold, so that no two instances share a name.
    """
    ti = context["ti"]
    return "\0".join((ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index)))


def adoption_variable(context: Context, fingerprint: str) -> str:
    """Return the name of the Airflow Variable by which a user hands over the id of a job found at the vendor."""
    purchase = f"{identity_of(context)}\0{fingerprint}"
    return f"kling_adopt_{hashlib.sha256(purchase.encode()).hexdigest()[:12]}"


def adopted_id(context: Context, fingerprint: str) -> str | None:
    """
    Return the id that a user handed over for a purchase, if one did.

    Asked for twice: Airflow answers "there is none" to a look-up that failed, too.
    """
    name = adoption_variable(context, fingerprint)
    found = Variable.get(name, None) or Variable.get(name, None)
    return str(found).strip() or None if found is not None else None


def record_store(context: Context) -> RecordStore | None:
    """
    Return where the record of this task instance lives, or None where this Airflow offers no place.

    That is the task state store (Airflow 3.3 and later), or else a folder of an object storage that the
    configuration names as ``[kling] state_path``. Where both are, an older Airflow may have left a record in the
    folder.
    """
    folder = conf.get("kling", "state_path", fallback="")
    in_folder = ObjectStorageRecord(folder, context) if folder else None
    store = task_state_store(context)
    if store is None:
        return in_folder
    return StateStoreRecord(store, is_first_attempt=context["ti"].try_number <= 1, before=in_folder)


class StateStoreRecord:
    """
    A record in Airflow's task state store, which is scoped to dag, run, task and map index.

    :param store: The store.
    :param is_first_attempt: Whether there can hardly be a record yet.
    :param before: Where the record may lie from before there was a store.
    """

    lasts = True

    def __init__(
        self, store: Any, *, is_first_attempt: bool = False, before: ObjectStorageRecord | None = None
    ) -> None:
        self.store = store
        self.is_first_attempt = is_first_attempt
        self.before = before

    def load(self) -> Mapping[str, Any] | None:
        found: Mapping[str, Any] | None = self.store.get(RECORD_KEY)
        if found is None and not self.is_first_attempt:
            # Airflow takes every 404 on the way for "no such key", a proxy's too; with money at stake, ask again.
            found = self.store.get(RECORD_KEY)
        return self.before.load() if found is None and self.before else found

    def save(self, record: dict[str, Any]) -> None:
        self.store.set(RECORD_KEY, record, retention=NEVER_EXPIRE)


class ObjectStorageRecord:
    """A record as one small JSON file in object storage."""

    lasts = True

    def __init__(self, folder: str, context: Context) -> None:
        self.folder = folder
        self.identity = identity_of(context)

    @property
    def path(self) -> ObjectStoragePath:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        dag_id = re.sub(r"[^\w.-]", "_", self.identity.partition("\0")[0])
        name = hashlib.sha256(self.identity.encode()).hexdigest()
        return ObjectStoragePath(f"{self.folder.rstrip('/')}/{dag_id}/{name}.json")

    def load(self) -> Mapping[str, Any] | None:
        # Opened, not looked for: fsspec's exists() answers False to any trouble, and trouble is not absence.
        path = self.path
        try:
            with path.open("rb") as file:
                found: Mapping[str, Any] = json.loads(file.read())
        except FileNotFoundError:
            if path.protocol in ("file", "") and not path.parent.parent.is_dir():
                # A share that is not mounted has no records either.
                raise NotADirectoryError(f"[kling] state_path {self.folder} does not exist") from None
            return None
        return found

    def save(self, record: dict[str, Any]) -> None:
        path = self.path
        content = json.dumps(record).encode()
        if path.protocol not in ("file", ""):
            # Object stores replace an object as a whole.
            with path.open("wb") as file:
                file.write(content)
            return
        path.parent.mkdir(exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        with part.open("wb") as file:
            file.write(content)
        path.fs.mv(part.path, path.path)


class NoRecord:
    """No record at all, where there is no place for one: an attempt knows nothing of those before it."""

    lasts = False

    def load(self) -> None:
        return None

    def save(self, record: dict[str, Any]) -> None:
        """Forget it."""

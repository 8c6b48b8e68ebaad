# SPDX-License-Identifier: Apache-2.0
"""The record in a folder of an object storage. Each event is an object of its own and is never overwritten."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.jobs.journal import Event, unreadable
from airflow_provider_kling.records.stores import Identity, Store
from airflow_provider_kling.utils.file_names import safe_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow.providers.common.compat.sdk import ObjectStoragePath


#: Attempts to list and read a record. Objects disappear in between if another attempt drops a submit.
LISTINGS = 5
_ENDING = ".json"


class RecordFiles:
    """
    The objects of one record: ``<folder>/<dag>/<run>/<task>/<map index>/<intent>.<kind>.<id>.json``.

    No fsspec call is used that interprets names as patterns or reads from a cache of listings: objects that
    another process has just written must be visible.

    :param root: The folder of all records, as ``ObjectStoragePath`` takes it.
    :param folders: The names of the folders below it.
    """

    def __init__(self, root: str, folders: Sequence[str]) -> None:
        self.root = root
        self.folders = tuple(folders)

    def events(self) -> list[Event]:
        """
        Return all events.

        :raises KlingError: if an object is not an event.
        """
        for _ in range(LISTINGS):
            with suppress(FileNotFoundError):
                return [self._event(name) for name in self.names() if name.endswith(_ENDING)]
        raise OSError("the record changes faster than it can be read")

    def names(self) -> list[str]:
        """Return the names of all objects, without a cache."""
        folder = self._at("").rstrip("/")
        self._files.invalidate_cache(folder)
        try:
            paths = self._files.ls(folder, detail=False)
        except FileNotFoundError:
            self._check_root()
            return []
        return [str(path).rstrip("/").rpartition("/")[2] for path in paths]

    def read(self, name: str) -> bytes:
        """Return the content of an object."""
        content: bytes = self._files.cat_file(self._at(name))
        return content

    def write(self, name: str, content: bytes) -> None:
        """Write an object atomically: readers see all of it or nothing."""
        path = self._at(name)
        if not self._is_local:
            self._files.pipe_file(path, content)
            return
        self._check_root()
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        part = Path(f"{path}.part")
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)

    def remove(self, name: str) -> None:
        """Remove an object, if it exists."""
        with suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    def delete(self, names: Sequence[str]) -> None:
        """Remove these objects; on a local disk, also the folders that are empty after that."""
        for name in sorted(names, key=_intents_first):
            self.remove(name)
        if self._is_local:
            folder = Path(self._at("").rstrip("/"))
            with suppress(OSError):  # the folder has another record
                for _ in self.folders:
                    folder.rmdir()
                    folder = folder.parent

    def _event(self, name: str) -> Event:
        content = self.read(name)
        try:
            event: Event = json.loads(content)
        except ValueError:
            raise unreadable(f"{self._at(name)} holds {content[:80]!r}") from None
        return event

    def _at(self, name: str) -> str:
        return "/".join((self._root.path.rstrip("/"), *self.folders, name))

    def _check_root(self) -> None:
        """Raise if a local folder is missing: an unmounted share must not look like an empty record."""
        if self._is_local and not Path(self._root.path).is_dir():
            raise NotADirectoryError(f"[kling] state_path {self.root} does not exist")

    @cached_property
    def _root(self) -> ObjectStoragePath:
        return _storage_path(self.root)

    @cached_property
    def _files(self) -> Any:
        return self._root.fs

    @property
    def _is_local(self) -> bool:
        return self._root.protocol in ("file", "local", "")


class FolderStore(Store):
    """
    A record in a folder of an object storage.

    :param root: The folder of all records. A local folder has to exist.
    :param identity: The task instance.
    :param prove: See :class:`Store`.
    """

    def __init__(self, root: str, identity: Identity, *, prove: bool) -> None:
        super().__init__(prove=prove)
        self._identity = identity
        self.files = RecordFiles(root, (*map(safe_name, identity[:3]), str(identity.map_index)))

    def append(self, event: Event) -> None:
        if event["event"] == "intent":
            event = {**event, "task": self._identity._asdict()}
        name = f"{event['intent']}.{event['event']}.{event['id']}{_ENDING}"
        self.files.write(name, json.dumps(event).encode())

    def forget(self, intent: str) -> None:
        for name in sorted(self.files.names(), key=_intents_first):
            if name.startswith(f"{intent}."):
                self.files.remove(name)

    def _read(self) -> Sequence[Event]:
        return self.files.events()

    def _echo(self, nonce: str) -> Any:
        name = f"{nonce}.probe"
        self.files.write(name, nonce.encode())
        echoed = self.files.read(name).decode() if name in self.files.names() else None
        self.files.remove(name)
        return echoed


def records_in(root: str) -> Iterator[RecordFiles]:
    """Yield every record below a folder."""
    path = _storage_path(root)
    path.fs.invalidate_cache()
    top = path.path.rstrip("/")
    names = [name[len(top) :].strip("/").split("/") for name in sorted(path.fs.find(top))]
    for folders, _ in groupby(parts[:-1] for parts in names if len(parts) == 5 and parts[-1].endswith(_ENDING)):
        yield RecordFiles(root, folders)


def _storage_path(folder: str) -> ObjectStoragePath:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    return ObjectStoragePath(folder.rstrip("/"))


def _intents_first(name: str) -> bool:
    # Deleted first: an intent without its outcome would stop the next attempt.
    return ".intent." not in name

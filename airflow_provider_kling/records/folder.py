# SPDX-License-Identifier: Apache-2.0
"""The record in a folder of an object storage: each event an object of its own, never overwritten."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.file_names import safe_name
from airflow_provider_kling.journal import Event, new_id, unreadable
from airflow_provider_kling.records.stores import Store

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    from airflow_provider_kling.records import Identity

#: How often a listing is repeated whose objects disappear while they are read: another attempt forgets a submit.
LISTINGS = 5


class FolderStore(Store):
    """
    A record as objects ``<folder>/<dag>/<run>/<task>/<map index>/<intent>.<kind>.<id>.json``.

    Calls of fsspec that read names as patterns, or that answer from a cache of listings, are avoided: what another
    process wrote a moment ago must be seen.

    :param folder: Where all records lie, as ``ObjectStoragePath`` takes it. A local one has to exist: a share that
        is not mounted has no records either.
    :param identity: The task instance.
    :param prove: See :class:`Store`.
    """

    def __init__(self, folder: str, identity: Identity, *, prove: bool) -> None:
        super().__init__(prove=prove)
        self._folder = folder
        self._identity = identity
        self._names = (*map(safe_name, identity[:3]), str(identity.map_index))

    def append(self, event: Event) -> None:
        if event["event"] == "intent":
            event = {**event, "task": self._identity._asdict()}
        self._put(f"{event['intent']}.{event['event']}.{event['id']}.json", json.dumps(event).encode())

    def forget(self, intent: str) -> None:
        names = [name for name in self._list() if name.startswith(f"{intent}.")]
        # The intent first: without its outcome it would stop the next attempt.
        for name in sorted(names, key=lambda name: ".intent." not in name):
            self._remove(name)

    def _read(self) -> Sequence[Event]:
        for _ in range(LISTINGS):
            with suppress(FileNotFoundError):
                return [self._event(name) for name in self._list() if name.endswith(".json")]
        raise OSError("the record changes faster than it can be read")

    def _event(self, name: str) -> Event:
        content = self._files.cat_file(self._at(name))
        try:
            event: Event = json.loads(content)
        except ValueError:
            raise unreadable(f"{self._at(name)} holds {content[:80]!r}") from None
        return event

    def _echo(self, nonce: str) -> Any:
        name = f"{new_id()}.probe"
        self._put(name, nonce.encode())
        found = self._files.cat_file(self._at(name)).decode() if name in self._list() else None
        self._remove(name)
        return found

    def _list(self) -> list[str]:
        files, folder = self._files, self._at("").rstrip("/")
        files.invalidate_cache(folder)
        try:
            found = files.ls(folder, detail=False, refresh=True)
        except FileNotFoundError:
            if self._is_local and not Path(self._root.path).is_dir():
                raise NotADirectoryError(f"[kling] state_path {self._folder} does not exist") from None
            return []
        return [str(path).rstrip("/").rpartition("/")[2] for path in found]

    def _put(self, name: str, content: bytes) -> None:
        path = self._at(name)
        if not self._is_local:
            # Object stores show an object whole or not at all.
            self._files.pipe_file(path, content)
            return
        if not Path(self._root.path).is_dir():
            raise NotADirectoryError(f"[kling] state_path {self._folder} does not exist")
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        part = Path(f"{path}.part")
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.rename(path)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            self._files.rm_file(self._at(name))

    def _at(self, name: str) -> str:
        return "/".join((self._root.path.rstrip("/"), *self._names, name))

    @cached_property
    def _root(self) -> ObjectStoragePath:
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        return ObjectStoragePath(self._folder.rstrip("/"))

    @cached_property
    def _files(self) -> Any:
        return self._root.fs

    @cached_property
    def _is_local(self) -> bool:
        return self._root.protocol in ("file", "local", "")

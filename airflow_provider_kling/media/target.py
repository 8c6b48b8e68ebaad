# SPDX-License-Identifier: Apache-2.0
"""
Write a file that appears under its own name only when it is complete.

``ObjectStoragePath`` and ``fsspec`` may interpret a name as a URL, a chain, a version or a pattern. A path that
the store would read as another one is rejected before anything is written. After that, no call is used that
expands patterns, as ``mv``, ``rm``, ``exists`` and ``unlink`` do.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import unicodedata
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast
from uuid import uuid4

from airflow_provider_kling.exceptions import KlingDownloadError, KlingError, KlingValidationError, short_repr
from airflow_provider_kling.media.mp4 import content_type_of
from airflow_provider_kling.utils.coerce import FOUND_NOTHING, is_nothing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsspec import AbstractFileSystem

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Maximum length of a key in bytes. A store reports a longer one only when the upload ends.
_LONGEST_KEY = {"s3": 1024, "s3a": 1024, "gs": 1024, "gcs": 1024}
#: Length of a part's name in characters.
_PART_LENGTH = 44
#: Errors of a file system that are caused by the name, so that every attempt would fail.
_WRONG_NAME = (errno.ENAMETOOLONG, errno.ENOTDIR, errno.EEXIST, errno.ELOOP, errno.EINVAL)
_NOTHING_DOWNLOADED = "Nothing was downloaded; nothing was changed."
_FOLDER = f"To store into a folder, end the path with a slash (/). {_NOTHING_DOWNLOADED}"


def target_of(path: str) -> Target:
    """
    Return the target of a path.

    :param path: A path for ``ObjectStoragePath``, with the name of the file at its end.
    :raises KlingValidationError: if it names no file, or a file that would get another name.
    :raises KlingDownloadError: if the store cannot be opened.
    """
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    if is_nothing(path) or not path.strip():
        raise _invalid_path(path, f"names no file; {FOUND_NOTHING}")
    if not path.rpartition("/")[2].strip():
        raise _invalid_path(path, "has an empty name", _FOLDER)
    if odd := next(filter(_is_odd, path), None):
        raise _invalid_path(path, f"has a character that not every store keeps ({odd!r})")
    _, has_scheme, rest = path.partition("://")
    if "::" in path or "://" in rest:
        raise _invalid_path(
            path, "has :: or :// in its name, which some versions of fsspec read as a chain or a URL"
        )
    try:
        parsed = ObjectStoragePath(path)
        protocol, understood, fs = parsed.protocol, parsed.path, parsed.fs
    except (ValueError, ImportError) as error:
        raise _invalid_path(path, f"is not a valid path ({error})") from error
    except Exception as error:
        # For example a connection that Airflow does not have, or a package that is not installed.
        raise KlingDownloadError(
            f"The store of {path} cannot be opened: {_described(error)}", advice=_NOTHING_DOWNLOADED
        ) from error
    if protocol in ("", "file", "local"):
        return _LocalTarget(path, rest if has_scheme else path, understood)
    return _StoreTarget(path, rest, understood, fs, protocol)


class Part:
    """
    The file while it is written.

    :param open_with: Opens it, given its first bytes.
    """

    def __init__(self, open_with: Callable[[bytes], BinaryIO]) -> None:
        self._open_with = open_with
        self._file: BinaryIO | None = None
        #: Bytes that were written.
        self.size_bytes = 0

    def write(self, data: bytes, /) -> int:
        """Write all of these bytes."""
        if self._file is None:
            self._file = self._open_with(data)
        self._file.write(data)
        self.size_bytes += len(data)
        return len(data)

    def close(self) -> None:
        """Complete the file."""
        file = self._file or self._open_with(b"")
        file.close()

    def abandon(self) -> None:
        """Close it, whatever that makes of it, so that it can be removed."""
        if self._file is not None:
            with suppress(Exception):
                self._file.close()


class Target(ABC):
    """
    The target of one file.

    :param path: The whole path, as the user wrote it.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    @abstractmethod
    def place(self) -> tuple[str, str]:
        """Where the file is: equal for two spellings of one path."""

    @abstractmethod
    def check(self, *, overwrite: bool) -> None:
        """
        Check the target before anything is downloaded.

        :param overwrite: Whether an existing file may be replaced.
        :raises KlingValidationError: if it is a folder, or an existing file that may not be replaced.
        :raises KlingDownloadError: if the store cannot be reached.
        """

    def store(self, fill: Callable[[Part], T], *, overwrite: bool, content_type: str | None = None) -> T:
        """
        Write the file.

        It is written in the same folder as ``.kling-<32 hexadecimal digits>.part``, and gets its name when it is
        complete.

        :param fill: Writes the content. If it raises, the part is removed.
        :param overwrite: Whether an existing file may be replaced.
        :param content_type: The media type, for a store that keeps one; None is that of the video.
        :return: What ``fill`` returns.
        :raises KlingValidationError: if a file that may not be replaced has appeared meanwhile.
        :raises KlingDownloadError: if the store fails. A complete part is kept, and the error has its path.
        """
        # Unique to this attempt, and without characters that are special for a store or in a pattern.
        part = self._beside(f".kling-{uuid4().hex}.part")
        result, size = self._filled(part, fill, content_type)
        try:
            self._commit(part, overwrite=overwrite)
            self._verify(size)
        except Exception as error:
            raise self._failure(part, error, overwrite=overwrite) from error
        self._discard(part)
        return result

    @abstractmethod
    def open(self, *, read_ahead: int | None = None) -> AbstractContextManager[BinaryIO]:
        """
        Open the file with the final name to read it.

        :param read_ahead: Bytes that a store reads ahead; None is its own default.
        """

    def size(self) -> int | None:
        """Return the size of the file with the final name; None if there is none, or it cannot be looked up."""
        try:
            return self._size()
        except Exception as error:  # noqa: BLE001 - whoever must know it calls check()
            log.debug("Not looked up whether %s exists (%s)", self.path, _described(error))
            return None

    def _filled(self, name: str, fill: Callable[[Part], T], content_type: str | None) -> tuple[T, int]:
        created = False
        try:
            with self._create(name, content_type) as part:
                created = True
                result = fill(part)
        except BaseException as error:
            if created:  # otherwise a file of this name belongs to another task
                self._discard(name)
            if isinstance(error, KlingError) or not isinstance(error, Exception):
                raise
            raise KlingDownloadError(f"Writing {self.path} failed: {_described(error)}", advice="") from error
        return result, part.size_bytes

    def _verify(self, size: int) -> None:
        stored = self._size()
        if stored != size:
            finding = "there is no such file" if stored is None else f"the file there has {stored} bytes"
            raise KlingDownloadError(
                f"{size} bytes were stored as {self.path}, but {finding}",
                advice="Check whether another task stores to the same path.",
            )

    def _failure(self, part: str, error: Exception, *, overwrite: bool) -> KlingError:
        try:
            is_there = self._has(part)
        except Exception:  # noqa: BLE001 - the first error is the one to report
            is_there = True
        kept = f"The whole video was kept as {self._shown(part)}." if is_there else ""
        if isinstance(error, FileExistsError) and not overwrite:
            message = f"{self.path} has appeared during the download, and overwrite=False"
            return KlingValidationError(message, advice=f"It was not replaced. {kept}".strip())
        if isinstance(error, KlingError):
            return error.replace(advice=f"{error.advice} {kept}".strip())
        return KlingDownloadError(f"The video did not get its name {self.path}: {_described(error)}", advice=kept)

    def _discard(self, part: str) -> None:
        try:
            self._remove(part)
        except FileNotFoundError:
            pass  # it has been renamed
        except Exception as error:  # noqa: BLE001
            # This error must neither hide the first one nor fail a task whose file is stored.
            log.warning("%s may be left behind, and can be deleted: %s", self._shown(part), _described(error))

    def _shown(self, part: str) -> str:
        """Return a part's path in the form of the user's path."""
        return f"{self.path.rpartition('/')[0]}/{part.rpartition('/')[2]}"

    @abstractmethod
    def _beside(self, name: str) -> str:
        """Return the path of another file in the same folder."""

    @abstractmethod
    def _create(self, part: str, content_type: str | None) -> AbstractContextManager[Part]: ...

    @abstractmethod
    def _commit(self, part: str, *, overwrite: bool) -> None:
        """
        Give a part the final name.

        :raises FileExistsError: if a file has that name and may not be replaced.
        """

    @abstractmethod
    def _size(self) -> int | None:
        """Return the size of the file with the final name, None if there is none."""

    @abstractmethod
    def _has(self, part: str) -> bool: ...

    @abstractmethod
    def _remove(self, part: str) -> None: ...


class _LocalTarget(Target):
    """A file in a file system of this machine."""

    def __init__(self, path: str, written: str, understood: str) -> None:
        super().__init__(path)
        if not written.startswith("/"):
            raise _invalid_path(path, "is not absolute, and the current folder of a worker is undefined")
        if written.startswith("//"):
            raise _invalid_path(
                path, "begins with two slashes, which systems and Python versions read differently"
            )
        if _segments(written) != _segments(understood):
            raise _invalid_path(path, f"would be read as {short_repr(understood)}")
        if written.endswith(("/", "/.", "/..")):
            raise _invalid_path(path, "is a folder", _FOLDER)
        self._file = Path(written)

    @property
    def place(self) -> tuple[str, str]:
        # A symbolic link of this name would be replaced, not followed.
        return "file", str(Path(os.path.realpath(self._file.parent)) / self._file.name)

    def check(self, *, overwrite: bool) -> None:
        try:
            # Create the folder first: lstat reports a too long name only in an existing folder.
            self._file.parent.mkdir(parents=True, exist_ok=True)
            mode = self._file.lstat().st_mode
            is_folder = self._file.is_dir()
        except FileNotFoundError:
            return
        except OSError as error:
            reason = f"cannot be stored ({_described(error)})"
            if error.errno in _WRONG_NAME:
                raise _invalid_path(self.path, reason) from error
            raise KlingDownloadError(f"{self.path} {reason}", advice=_NOTHING_DOWNLOADED) from error
        if is_folder:
            raise _invalid_path(self.path, "is a folder", _FOLDER)
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise _invalid_path(self.path, "is not a regular file")
        if not overwrite:
            raise _invalid_path(self.path, "exists, and overwrite=False")

    def open(self, *, read_ahead: int | None = None) -> AbstractContextManager[BinaryIO]:
        return self._file.open("rb")

    def _beside(self, name: str) -> str:
        return str(self._file.with_name(name))

    @contextmanager
    def _create(self, part: str, content_type: str | None) -> Iterator[Part]:
        self._file.parent.mkdir(parents=True, exist_ok=True)
        # Fails if the name exists, also as a symbolic link.
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "wb") as file:
            yield Part(lambda _: file)
            file.flush()
            os.fsync(descriptor)

    def _commit(self, part: str, *, overwrite: bool) -> None:
        if not overwrite:
            try:
                os.link(part, self._file)
            except FileExistsError:
                raise
            except OSError:
                # A file system without hard links cannot create a complete file exclusively.
                if os.path.lexists(self._file):
                    raise FileExistsError from None
            else:
                return
        Path(part).replace(self._file)

    def _size(self) -> int | None:
        try:
            status = self._file.lstat()
        except FileNotFoundError:
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def _has(self, part: str) -> bool:
        return os.path.lexists(part)

    def _remove(self, part: str) -> None:
        Path(part).unlink()


class _StoreTarget(Target):
    """An object in a store of ``fsspec``."""

    def __init__(self, path: str, written: str, understood: str, fs: AbstractFileSystem, protocol: str) -> None:
        super().__init__(path)
        self._fs = fs
        self._protocol = protocol
        self._typed: dict[str, Any] = {}
        self._key = understood
        self._bucket = ""
        place, _, key = written.partition("/")
        if not key.strip("/"):
            raise _invalid_path(path, "names no file in a bucket", _FOLDER)
        whole = f"{place.rpartition('@')[2]}/{key}"  # the part before an @ is the Airflow connection
        # A store whose host comes from the connection uses the path alone.
        if understood.lstrip("/") not in (whole.lstrip("/"), key.lstrip("/")):
            raise _invalid_path(path, f"would be read as {short_repr(understood)}")
        self._reject_another_reading()
        folders, _, self._name = key.rpartition("/")
        if {".", ".."} & {self._name, *folders.split("/")}:
            raise _invalid_path(path, "contains a folder . or .., which some stores resolve and some do not")
        length = len(key.encode()) + max(_PART_LENGTH - len(self._name.encode()), 0)
        longest = _LONGEST_KEY.get(protocol)
        if longest and length > longest:
            raise _invalid_path(path, f"is too long: the store allows names of {longest} bytes, folders included")
        if not _can_copy(fs):
            raise _invalid_path(path, "cannot be stored atomically: this kind of store cannot copy files")

    @property
    def place(self) -> tuple[str, str]:
        return type(self._fs).__name__, self._key.lstrip("/")

    def _reject_another_reading(self) -> None:
        understood = self._fs._strip_protocol(self._key)  # as every call of fsspec does with a path
        split = getattr(self._fs, "split_path", None)
        if split and understood == self._key:
            # A store with buckets. Some of them parse the end of a name as a version.
            self._bucket, key, *_ = split(self._key)
            if not key:
                raise _invalid_path(self.path, "names no file in a bucket", _FOLDER)
            understood = f"{self._bucket}/{key}"
        if understood.lstrip("/") != self._key.lstrip("/"):
            raise _invalid_path(self.path, f"would be read as {short_repr(understood)}")

    def check(self, *, overwrite: bool) -> None:
        try:
            info = self._info(self._key)
        except FileNotFoundError:
            self._check_bucket()
        except ValueError as error:
            raise _invalid_path(self.path, f"cannot be stored ({error})") from error
        except Exception as error:
            if not _is_forbidden(error):
                raise KlingDownloadError(
                    f"The store cannot look up {self.path}: {_described(error)}", advice=_NOTHING_DOWNLOADED
                ) from error
            if not overwrite:
                raise KlingDownloadError(
                    f"overwrite=False, and it is unknown whether {self.path} exists: {_described(error)}",
                    advice=f"Allow the connection to list the folder and to read from it. {_NOTHING_DOWNLOADED}",
                ) from error
            log.warning(
                "Not checked whether %s is a folder: listing is forbidden (%s)", self.path, _described(error)
            )
        else:
            if info["type"] == "directory":
                raise _invalid_path(self.path, "is a folder", _FOLDER)
            if not overwrite:
                raise _invalid_path(self.path, "exists, and overwrite=False")

    def _check_bucket(self) -> None:
        """Raise if the bucket is missing; for a file in it the store reports only that the file is missing."""
        if not self._bucket:
            return
        try:
            self._fs.info(self._bucket)
        except FileNotFoundError as error:
            raise _invalid_path(self.path, f"cannot be stored: there is no bucket {self._bucket}") from error
        except Exception as error:  # noqa: BLE001 - not every connection has the permission
            log.debug("Not checked whether the bucket %s exists (%s)", self._bucket, _described(error))

    def _info(self, key: str) -> dict[str, Any]:
        # A cached listing does not show what other processes have written.
        self._fs.invalidate_cache(key)
        self._fs.invalidate_cache(self._key.rpartition("/")[0])
        return cast("dict[str, Any]", self._fs.info(key))

    def open(self, *, read_ahead: int | None = None) -> AbstractContextManager[BinaryIO]:
        self._fs.invalidate_cache(self._key)
        return cast("AbstractContextManager[BinaryIO]", self._fs.open(self._key, "rb", block_size=read_ahead))

    def _beside(self, name: str) -> str:
        return f"{self._key.rpartition('/')[0]}/{name}"

    @contextmanager
    def _create(self, part: str, content_type: str | None) -> Iterator[Part]:
        def open_with(head: bytes) -> BinaryIO:
            self._typed = _content_type_arguments(self._protocol, content_type or content_type_of(head))
            return cast("BinaryIO", self._fs.open(part, "wb", **self._typed))

        file = Part(open_with)
        try:
            yield file
        except BaseException:
            # Some stores commit an incomplete part on any close, even in the destructor. Close it now, so that it
            # can be removed.
            file.abandon()
            raise
        file.close()

    def _commit(self, part: str, *, overwrite: bool) -> None:
        if not overwrite and self._has(self._key):
            raise FileExistsError
        # A copy keeps the media type, but that of S3 in several parts (above 5 GB) does not.
        self._fs.cp_file(part, self._key, **(self._typed if "ContentType" in self._typed else {}))

    def _size(self) -> int | None:
        try:
            info = self._info(self._key)
        except FileNotFoundError:
            return None
        is_this = info["type"] == "file" and str(info["name"]).rpartition("/")[2] == self._name
        return cast("int", info["size"]) if is_this else None

    def _has(self, part: str) -> bool:
        try:
            self._info(part)
        except FileNotFoundError:
            return False
        return True

    def _remove(self, part: str) -> None:
        self._fs.rm_file(part)


def _content_type_arguments(protocol: str, content_type: str) -> dict[str, Any]:
    """Return how a store is told the media type of a new object; nothing for a store that keeps none."""
    if protocol in ("s3", "s3a"):
        return {"ContentType": content_type}
    if protocol in ("gs", "gcs"):
        return {"content_type": content_type}
    if protocol in ("abfs", "abfss", "az", "adl", "wasb"):
        return {"content_settings": {"content_type": content_type}}
    return {}


def _invalid_path(path: object, reason: str, advice: str = _NOTHING_DOWNLOADED) -> KlingValidationError:
    return KlingValidationError(f"path={short_repr(path)} {reason}", advice=advice)


def _is_odd(character: str) -> bool:
    """Return whether URLs, XML or file systems drop it: a control character, lone surrogate, U+FFFE or U+FFFF."""
    return unicodedata.category(character) in ("Cc", "Cs") or character in "\ufffe\uffff"


def _can_copy(fs: AbstractFileSystem) -> bool:
    """Return whether a store implements a copy; that of the base class only raises, after the download."""
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    of_base = (AbstractFileSystem.cp_file, AsyncFileSystem._cp_file)
    copy = fs._cp_file if isinstance(fs, AsyncFileSystem) else fs.cp_file
    return getattr(copy, "__func__", None) not in of_base


def _segments(path: str) -> list[str]:
    return [segment for segment in path.split("/") if segment not in ("", ".")]


def _is_forbidden(error: Exception) -> bool:
    return isinstance(error, PermissionError) or "Forbidden" in str(error)


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

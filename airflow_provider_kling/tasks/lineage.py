# SPDX-License-Identifier: Apache-2.0
"""
Which frames a video was made from, and where it was stored, for OpenLineage and for Airflow's lineage collector.

Names follow the conventions of OpenLineage. A URL is reported without its query, which may hold a signature.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from airflow_provider_kling.utils.store_uris import without_connection

if TYPE_CHECKING:
    from collections.abc import Iterable

log = logging.getLogger(__name__)

#: Other names of a scheme.
_SCHEMES = {"s3a": "s3", "gcs": "gs", "abfs": "abfss", "adl": "abfss", "az": "abfss", "local": "file"}


class DatasetName(NamedTuple):
    """A dataset as OpenLineage names it: ``s3://bucket`` and ``clips/a.mp4``."""

    namespace: str
    name: str


class LineageTask:
    """
    A mixin for an operator that reads frames or stores a video.

    OpenLineage calls ``get_openlineage_facets_on_start`` and ``get_openlineage_facets_on_complete`` where its
    provider is installed; nothing else does.
    """

    #: Paths of the files that this task has stored.
    _stored_paths: tuple[str, ...] = ()

    def _lineage_inputs(self) -> list[str]:
        """Return URIs and URLs of what the video is made from, as the user wrote them."""
        raise NotImplementedError

    def get_openlineage_facets_on_start(self) -> Any:
        """Return what the task reads as an ``OperatorLineage``; None without the provider of OpenLineage."""
        return _operator_lineage(self._lineage_inputs(), ())

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """Return what the task has read and stored as an ``OperatorLineage``; None without that provider."""
        return _operator_lineage(self._lineage_inputs(), self._stored_paths)

    def _collect_lineage(self, hook: Any, paths: tuple[str, ...]) -> None:
        """Report a stored video to Airflow's collector of hook-level lineage. A failure is logged."""
        self._stored_paths = paths
        try:
            from airflow.providers.common.compat.lineage.hook import get_hook_lineage_collector

            collector = get_hook_lineage_collector()
            for uri in map(_public_uri, self._lineage_inputs()):
                if uri:
                    collector.add_input_asset(context=hook, uri=uri)
            for path in paths:
                collector.add_output_asset(context=hook, uri=_public_uri(path))
        except Exception as error:  # noqa: BLE001 - whatever it is, the video is paid for and stored
            log.warning("The lineage of %s cannot be reported: %s", ", ".join(paths), error)


def dataset_name(uri: str) -> DatasetName | None:
    """
    Return how OpenLineage names a file or an object; None for what is no address of one.

    :param uri: A path for ``ObjectStoragePath``, or a URL.
    """
    public = _public_uri(uri)
    if public is None:
        return None
    scheme, _, rest = public.partition("://")
    authority, _, key = rest.partition("/")
    scheme = _SCHEMES.get(scheme, scheme)
    if scheme == "file":
        return DatasetName("file", f"/{key}")
    if scheme == "abfss" and (account := _azure_account(uri)):
        authority = f"{authority}@{account}.dfs.core.windows.net"
    return DatasetName(f"{scheme}://{authority}", key or "/")


def _public_uri(uri: str) -> str | None:
    """Return a URI without a connection, a login and, for a URL, the query; None for base64 and the like."""
    if not uri.startswith("/") and "://" not in uri:
        return None
    public = without_connection(uri)
    if public.startswith(("http://", "https://")):
        parts = urlsplit(public)
        return parts._replace(query="", fragment="").geturl()
    return public


def _azure_account(path: str) -> str | None:
    """Return the storage account of a path, which its connection names."""
    with suppress(Exception):
        from airflow.providers.common.compat.sdk import ObjectStoragePath

        account: str | None = ObjectStoragePath(path).fs.account_name
        return account
    return None


def _operator_lineage(inputs: Iterable[str], outputs: Iterable[str]) -> Any:
    try:
        from airflow.providers.common.compat.openlineage.facet import Dataset
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None

    def datasets(uris: Iterable[str]) -> list[Any]:
        names = dict.fromkeys(name for uri in uris if (name := dataset_name(uri)))
        return [Dataset(namespace=name.namespace, name=name.name) for name in names]

    return OperatorLineage(inputs=datasets(inputs), outputs=datasets(outputs))

# SPDX-License-Identifier: Apache-2.0
from airflow_provider_kling.api.job import VideoJob as VideoJob
from airflow_provider_kling.api.request import VideoRequest as VideoRequest
from airflow_provider_kling.exceptions import KlingError as KlingError
from airflow_provider_kling.exceptions import KlingPermanentError as KlingPermanentError
from airflow_provider_kling.hooks.kling import KlingHook as KlingHook
from airflow_provider_kling.jobs.result import KlingVideo as KlingVideo
from airflow_provider_kling.links.kling import KlingVendorLink as KlingVendorLink
from airflow_provider_kling.links.kling import KlingVideoLink as KlingVideoLink
from airflow_provider_kling.operators.kling import KlingGenerateOperator as KlingGenerateOperator
from airflow_provider_kling.retry_policy import kling_retry_policy as kling_retry_policy
from airflow_provider_kling.sensors.kling import KlingTaskSensor as KlingTaskSensor
from airflow_provider_kling.transfers.kling_to_object_storage import (
    KlingToObjectStorageOperator as KlingToObjectStorageOperator,
)
from airflow_provider_kling.triggers.kling import KlingTaskTrigger as KlingTaskTrigger

__version__: str

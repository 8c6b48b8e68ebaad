# SPDX-License-Identifier: Apache-2.0
"""Apache Airflow provider for Kling: from a prompt to a video file."""

from __future__ import annotations

__version__ = "0.1.0"

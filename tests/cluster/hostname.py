# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket

from tests.system.airflow_cluster import COMPONENT


def of_this_component() -> str:
    """Return what Airflow takes for the host's name."""
    return os.environ.get(COMPONENT) or socket.gethostname()

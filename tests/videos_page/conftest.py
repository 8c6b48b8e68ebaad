# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.fixtures.api_server import ApiServer


@pytest.fixture(scope="session")
def api_server() -> ApiServer:
    from tests.fixtures.api_server import start_api_server

    return start_api_server()


@pytest.fixture(autouse=True)
def _variables() -> None:
    """Keep records in Variables in the database, which the API server reads."""

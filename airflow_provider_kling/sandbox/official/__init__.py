# SPDX-License-Identifier: Apache-2.0
"""Kling's own platform: the legacy standard, the new standard, and the account behind both."""

from __future__ import annotations

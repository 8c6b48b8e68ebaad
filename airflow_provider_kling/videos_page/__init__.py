# SPDX-License-Identifier: Apache-2.0
"""The Videos page in Airflow's UI."""

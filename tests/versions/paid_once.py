# SPDX-License-Identifier: Apache-2.0
"""Kills and clears around the submit, with the record in each place that a version has for it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import requests

from airflow_provider_kling.sandbox import Sandbox
from tests.fixtures.platform import API_KEY, PAIR
from tests.system import lost_submits, scenarios
from tests.system.airflow_api import AirflowApi, wait_for
from tests.system.airflow_cluster import AirflowCluster, free_port
from tests.system.scene import Scene, connect
from tests.versions.processes import Processes

BUCKET = "kling-records"
CONNECTION = "AIRFLOW_CONN_KLING_BUCKET"
PATIENCE = 60.0


@contextmanager
def places(folder: Path, records: Collection[str]) -> Iterator[dict[str, str]]:
    """Make the folder and, if asked for, a real S3 server with a bucket; yield environment variables for both."""
    folder.mkdir()
    environment = {"PAID_ONCE_FOLDER": f"file://{folder}"}
    if "bucket" not in records:
        yield environment
        return
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with Processes() as processes:
        server = [Path(sys.executable).with_name("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        processes.start(server, os.environ, folder.parent / "s3-server.log")
        wait_for(lambda: makes_bucket(url), "the S3 server to make a bucket", timeout=PATIENCE)
        connection = {
            "conn_type": "aws",
            "login": "nobody",
            "password": "nothing",
            "extra": {"endpoint_url": url, "region_name": "us-east-1"},
        }
        yield {
            **environment,
            "PAID_ONCE_BUCKET": f"s3://kling_bucket@{BUCKET}/kling",
            CONNECTION: json.dumps(connection),
        }


def makes_bucket(url: str) -> bool:
    try:
        return requests.put(f"{url}/{BUCKET}", timeout=10).ok
    except requests.ConnectionError:
        return False


def play_paid_once(cluster: AirflowCluster, records: Collection[str]) -> None:
    """
    Play every scenario with every record, all at once.

    :raises AssertionError: naming all that went wrong.
    """
    # Records are read here as well, with the connection that the tasks have.
    if CONNECTION in cluster.environment:
        os.environ[CONNECTION] = cluster.environment[CONNECTION]
    plays = {
        f"{name}, {record}": partial(play, record=record) for record in records for name, play in SCENARIOS.items()
    }
    kills = [lost_submits.Kill(moment, record, keys) for record in records for moment, keys in KILLS.items()]
    on_platform = {f"platform: killed {', '.join(kill)}": kill for kill in kills}
    plays |= {name: partial(lost_submits.killed, kill=kill) for name, kill in on_platform.items()}
    cluster.api.wait_for_dags({"paid_once"})
    with (
        Sandbox(run_seconds=3600) as sandbox,
        Sandbox(api="official", run_seconds=3600) as platform,
        ThreadPoolExecutor(len(plays)) as pool,
    ):
        connect(cluster.api, "kling_paid_once", sandbox)
        lost_submits.connect_to_platform(cluster.api, platform)

        def start(name: str, play: Callable[[Scene], None]) -> str:
            to_scene = partial(Scene, cluster, prompt=f"<{name}>")
            if kill := on_platform.get(name):
                scene = to_scene(platform, conn_id=lost_submits.CONNECTIONS[kill.keys])
            else:
                scene = to_scene(sandbox)
            try:
                play(scene)
            except Exception as error:  # noqa: BLE001
                return f"{name}: {type(error).__name__}: {error}"
            print(f"paid once: {name}: bought {scene.bought()}", flush=True)
            return ""

        wrong = list(filter(None, pool.map(start, plays.keys(), plays.values())))
        jobs = len(sandbox.ledger()) + len(platform.ledger())
        print(f"paid once: {len(plays)} scenes, {jobs} jobs bought", flush=True)
    assert not wrong, "\n".join(wrong)
    left = records_left(cluster.api)
    assert not left, f"after success there are still {left}"


def records_left(airflow: AirflowApi) -> set[str]:
    """Return the Variables with records that are still there some time after the last task has succeeded."""
    with suppress(TimeoutError):
        wait_for(lambda: not airflow.variables("kling_record_"), "all records to be deleted", timeout=30, pause=1)
    return airflow.variables("kling_record_")


SCENARIOS: dict[str, Callable[..., None]] = {
    "killed between POST and answer": scenarios.killed_before_the_answer,
    "killed after the record": scenarios.killed_after_the_record,
    **{
        f"cleared during the POST, {case}": partial(scenarios.cleared_during_the_post, case=case)
        for case in scenarios.CLEARS[::2]
    },
}
KILLS = {"before the POST": PAIR, lost_submits.AFTER_ACCEPTANCE: API_KEY}
"""Moments of a kill on Kling's own platform, with the kind of key."""

# SPDX-License-Identifier: Apache-2.0
"""What a person sees of a failed task: short ERROR lines, XCom ``kling_error``, and a short traceback."""

from __future__ import annotations

import json
import re
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowSkipException, AirflowTaskTimeout

import airflow_provider_kling
from airflow_provider_kling import exceptions
from airflow_provider_kling.decorators.kling import kling_task
from airflow_provider_kling.exceptions import KlingAuthenticationError, KlingBalanceError, KlingError, error_name
from airflow_provider_kling.jobs.limits import STILL_RUNNING
from airflow_provider_kling.operators.kling import KlingGenerateOperator
from airflow_provider_kling.sandbox import Fault, Sandbox
from airflow_provider_kling.sensors.kling import KlingTaskSensor
from airflow_provider_kling.tasks.failures import LINE, error_lines
from airflow_provider_kling.transfers.kling_to_object_storage import KlingToObjectStorageOperator
from tests.conftest import TaskLog
from tests.fixtures.requests import submit
from tests.fixtures.secrets_masker import nothing_masked
from tests.task_context import TaskInstance, run

WAYS: dict[str, dict[str, Any]] = {"deferred": {}, "blocking": {"deferrable": False}}
every_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
PACKAGE = str(Path(airflow_provider_kling.__file__).parent)
SECRET_URL = "http://127.0.0.1:9/clip.mp4?X-Amz-Signature=0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _nothing_masked_yet() -> Iterator[None]:
    with nothing_masked():
        yield


def generate(**arguments: Any) -> KlingGenerateOperator:
    given: dict[str, Any] = {"prompt": "Waves", "duration": 3, "poll_interval": 0.1, "timeout": 3} | arguments
    return KlingGenerateOperator(
        task_id="video", model="kling-v3-std-silent", **{"wait_for_completion": True} | given
    )


def raised_by(task: Any, ti: TaskInstance) -> KlingError:
    with pytest.raises(KlingError) as caught:
        run(task, ti)
    return caught.value


def assert_reported(error: KlingError, ti: TaskInstance, log: TaskLog) -> None:
    """The error is in the log and in XCom, each once, and leaves without frames that help nobody."""
    assert log.errors == error_lines(error)
    assert ti.pushed["kling_error"] == {
        "kind": error.kind,
        "happened": error.message,
        "server_says": error.server_message,
        "advice": error.advice,
        "kling_task_id": error.kling_task_id,
        "at": pytest.approx(time.time(), abs=60),
    }
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(PACKAGE)]
    assert len(frames) == 1
    assert error.__cause__ is None
    assert error.__suppress_context__


class TestAFailedTask:
    @every_way
    @pytest.mark.parametrize(
        "case",
        [
            (Fault("submit", "refuse_content"), "The submit was refused", "HTTP 400, code "),
            (Fault("submit", "error", status=401, times=None), "The submit was refused", "HTTP 401"),
            (
                Fault("submit", "proxy_error", times=None),
                "A submit may have been accepted and billed: ",
                "HTTP 502",
            ),
            (Fault("submit", "job_fails", message="out of memory"), "The job ended as failed.", "Kling task "),
            (
                Fault("status", "error", status=403, times=None),
                "The status request for Kling task ",
                "Kling task ",
            ),
            (Fault("submit", "stuck"), "The job was still ", "Kling task "),
        ],
    )
    def test_an_operator_says_what_happened_first_and_the_ids_last(
        self,
        sandbox: Sandbox,
        connected: str,
        task_log: TaskLog,
        way: dict[str, Any],
        case: tuple[Fault, str, str],
    ) -> None:
        fault, first, last = case
        sandbox.add_fault(fault)
        ti = TaskInstance()
        error = raised_by(generate(**way), ti)
        assert_reported(error, ti, task_log)
        lines = task_log.errors
        assert lines[0].startswith(first)
        assert lines[-1].startswith(last)
        assert max(map(len, lines)) <= LINE
        if error.server_message:
            assert f"The server reported: “{error.server_message}”." in " ".join(map(str.strip, lines))

    @pytest.mark.parametrize("mode", [{}, {"deferrable": False}])
    def test_a_sensor(self, sandbox: Sandbox, connected: str, task_log: TaskLog, mode: dict[str, Any]) -> None:
        job = submit(sandbox, Fault("submit", "job_fails", message="out of memory"))
        ti = TaskInstance()
        error = raised_by(KlingTaskSensor(task_id="wait", kling_task_id=job, poke_interval=0.1, **mode), ti)
        assert_reported(error, ti, task_log)
        assert task_log.errors == [
            "The job ended as failed.",
            "The server reported: “out of memory”.",
            "The vendor decides whether it is billed.",
            f"Kling task {job}.",
        ]

    def test_a_sensor_that_skips_fails_nothing(self, sandbox: Sandbox, connected: str, task_log: TaskLog) -> None:
        job = submit(sandbox, Fault("submit", "job_fails"))
        ti = TaskInstance()
        with pytest.raises(AirflowSkipException):
            run(KlingTaskSensor(task_id="wait", kling_task_id=job, soft_fail=True), ti)
        assert task_log.errors == []
        assert "kling_error" not in ti.pushed

    def test_a_transfer_and_the_signature_of_its_link(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog, tmp_path: Path
    ) -> None:
        video = {"kling_task_id": "task_1", "video_url": SECRET_URL}
        ti = TaskInstance()
        error = raised_by(
            KlingToObjectStorageOperator(task_id="store", video=video, path=f"file://{tmp_path}/"), ti
        )
        assert_reported(error, ti, task_log)
        assert "The video is finished and paid for." in task_log.errors
        assert "0123456789abcdef" not in json.dumps(ti.pushed) + task_log.text

    def test_a_decorated_function(self, sandbox: Sandbox, connected: str, task_log: TaskLog) -> None:
        @kling_task(model="kling-v3-std-silent")
        def idea() -> dict[str, Any]:
            return {"prompt": "Waves", "duration": 99}

        ti = TaskInstance()
        assert_reported(raised_by(idea().operator, ti), ti, task_log)
        assert task_log.errors[0] == "duration=99: must be a whole number of seconds from 3 to 15."

    def test_a_key_that_the_server_repeats_is_in_neither(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog
    ) -> None:
        message = f"No such key: {sandbox.api_key}"
        sandbox.add_fault(Fault("submit", "error", status=401, message=message, times=None))
        ti = TaskInstance()
        error = raised_by(generate(), ti)
        assert isinstance(error, KlingAuthenticationError)
        assert "No such key" in ti.pushed["kling_error"]["server_says"]
        assert sandbox.api_key not in json.dumps(ti.pushed) + "\n".join(task_log.errors)

    @every_way
    def test_a_prompt_that_is_hidden_is_in_neither(
        self,
        sandbox: Sandbox,
        connected: str,
        task_log: TaskLog,
        monkeypatch: pytest.MonkeyPatch,
        way: dict[str, Any],
    ) -> None:
        monkeypatch.setenv("AIRFLOW__KLING__SHOW_PROMPTS", "False")
        message = "Not allowed: Mary Smith in Waves"
        sandbox.add_fault(Fault("submit", "job_fails", message=message))
        ti = TaskInstance()
        raised_by(generate(prompt="Mary Smith in Waves", **way), ti)
        assert "Not allowed" in ti.pushed["kling_error"]["server_says"]
        assert "Mary" not in json.dumps(ti.pushed) + "\n".join(task_log.errors)

    @pytest.mark.parametrize("length", [0, 75, 80, 90, 200])
    def test_what_airflow_masks_in_the_log_is_masked_in_xcom(
        self, sandbox: Sandbox, connected: str, length: int
    ) -> None:
        """A long path is shortened, maybe in the middle of a secret."""
        from airflow.providers.common.compat.sdk import mask_secret

        mask_secret("hunter2-of-another-system")
        path = f"nowhere://videos/{'x' * length}/hunter2-of-another-system/"
        ti = TaskInstance()
        error = raised_by(generate(save_to=path), ti)
        assert "nowhere" in error.message
        assert "hunter2" not in json.dumps(ti.pushed["kling_error"])


class TestAnXComThatCannotBeWritten:
    @pytest.mark.parametrize("trouble", [RuntimeError("no database"), AirflowTaskTimeout("too long")])
    def test_the_error_is_the_one_that_is_raised(
        self, sandbox: Sandbox, connected: str, task_log: TaskLog, trouble: BaseException
    ) -> None:
        class Broken(TaskInstance):
            def xcom_push(self, key: str, value: Any) -> None:
                if key == "kling_error":
                    raise trouble
                super().xcom_push(key, value)

        sandbox.add_fault(Fault("submit", "refuse_content"))
        error = raised_by(generate(), Broken())
        assert error.kind == "content_refused"
        assert task_log.errors == error_lines(error)
        assert "no database" not in "".join(traceback.format_exception(error))


class TestLines:
    def test_the_order(self) -> None:
        error = KlingBalanceError(
            "The submit was refused",
            kling_task_id="task_1",
            http_status=402,
            code="1102",
            request_id="req-1",
            server_message="no money. Pay",
        )
        assert error_lines(error) == [
            "The submit was refused.",
            "The server reported: “no money. Pay”.",
            "Top up the account at the vendor.",
            "Waiting does not help.",
            "Kling task task_1, HTTP 402, code 1102, request req-1.",
        ]

    def test_of_a_list_of_problems(self) -> None:
        error = KlingError("It has 2 problems:\n  - a=1: must be 2\n  - b=3: must be 4", advice="")
        assert error_lines(error) == ["It has 2 problems:", "- a=1: must be 2", "- b=3: must be 4."]

    def test_a_long_sentence_goes_on_below_and_a_long_word_stays_whole(self) -> None:
        url = "https://example.com/" + "x" * 200
        words = "word " * 40
        lines = error_lines(KlingError(f"{words}{url}"))
        assert " ".join(map(str.strip, lines)) == f"{words}{url}."
        assert [len(line) > LINE for line in lines] == [False, False, False, True]
        assert all(line.startswith("  ") for line in lines[1:])

    @pytest.mark.parametrize(
        "advice",
        [
            STILL_RUNNING,
            *(
                kind.default_advice
                for kind in vars(exceptions).values()
                if isinstance(kind, type) and issubclass(kind, KlingError)
            ),
        ],
    )
    def test_each_sentence_of_an_advice_fits_into_a_line(self, advice: str) -> None:
        lines = error_lines(KlingError("x", advice=advice))[1:]
        assert all(re.match(r"[A-Z].*\.$", line) for line in lines), lines

    def test_the_text_of_an_error_says_all_of_it_too(self) -> None:
        """A callback, a mail and a plain script have no lines."""
        error = KlingBalanceError("No money", http_status=402, server_message="pay")
        text = str(error)
        assert all(part in text for part in ("No money", "HTTP 402", "pay", "Top up the account"))
        assert error_name(error) == "KlingBalanceError"

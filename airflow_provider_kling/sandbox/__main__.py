# SPDX-License-Identifier: Apache-2.0
"""``python -m airflow_provider_kling.sandbox``: start the server and print how to connect to it."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from importlib.util import find_spec
from threading import Event
from typing import TYPE_CHECKING, Any

from airflow_provider_kling.sandbox.dialects import DIALECTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_kling.sandbox.server import Sandbox

#: For each API, where and how a first video is ordered.
FIRST_VIDEO = {
    "gateway": (
        "/v1/video/generations",
        '{"model": "kling-v3-std-silent", "prompt": "A traveler in desert ruins"}',
    ),
    "official": (
        "/v1/videos/text2video",
        '{"model_name": "kling-v3", "prompt": "A traveler in desert ruins"}',
    ),
}
NEEDED = {"av": "av (PyAV)", "PIL": "pillow"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM; return the exit status: 0, or 1 when the server could not start."""
    options = parse(arguments)
    missing = [name for module, name in NEEDED.items() if find_spec(module) is None]
    if missing:
        print(
            f"The Kling sandbox needs {' and '.join(missing)}: pip install 'airflow-provider-kling[sandbox]'",
            file=sys.stderr,
        )
        return 1
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        sandbox = new_sandbox(options)
    except OSError as error:
        print(f"Cannot use {options.state_dir} as --state-dir: {error.strerror or error}", file=sys.stderr)
        return 1
    try:
        sandbox.start()
    except OSError as error:
        print(f"Cannot listen on {options.host}:{options.port}: {error.strerror or error}", file=sys.stderr)
        return 1
    stop = Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    connection = connection_json(sandbox, options)
    print(_greeting(sandbox.base_url, sandbox.api_key, connection, sandbox.api), flush=True)
    stop.wait()
    sandbox.stop()
    return 0


def parse(arguments: Sequence[str] | None = None, **defaults: Any) -> argparse.Namespace:
    """
    Return the options of the command line; end the process with status 2 if they are wrong.

    :param arguments: The words; None for those of this process.
    :param defaults: Other defaults, by the names of the options.
    """
    parser = _parser()
    parser.set_defaults(**defaults)
    options = parser.parse_args(arguments)
    if options.api != "official" and _official(options):
        parser.error("--access-key and --units need --api official")
    return options


def new_sandbox(options: argparse.Namespace) -> Sandbox:
    """
    Return the sandbox of these options, which is not started yet.

    :raises OSError: if the folder for its state cannot be used.
    """
    from airflow_provider_kling.sandbox.server import Sandbox

    return Sandbox(
        host=options.host,
        port=options.port,
        api=options.api,
        api_keys=options.api_key,
        queue_seconds=options.queue_seconds,
        run_seconds=options.run_seconds,
        max_concurrent=options.max_concurrent,
        media_dir=options.media_dir,
        cache_dir=options.cache_dir,
        state_dir=options.state_dir,
        prompt_words=options.prompt_words,
        dialect=options.dialect,
        prefix=options.prefix,
        one_video=options.one_video,
        **_official(options),
    )


def connection_json(sandbox: Sandbox, options: argparse.Namespace) -> str:
    """Return the connection: with the access key if only that was given, otherwise with the API key."""
    with_access_key = options.access_key and not options.api_key
    return sandbox.access_key_connection_json if with_access_key else sandbox.connection_json


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_kling.sandbox",
        description="A local Kling server: checks, queues and runs jobs, and serves real MP4 files, at no cost.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument(
        "--port", type=int, default=8765, help="port to listen on (%(default)s); 0 takes a free one"
    )
    parser.add_argument(
        "--api", default="gateway", choices=FIRST_VIDEO, help="API to serve (%(default)s); official is Kling's own"
    )
    parser.add_argument(
        "--api-key",
        action="append",
        help="a valid key (sk-sandbox, or api-key-kling-sandbox); may be given several times",
    )
    parser.add_argument(
        "--access-key",
        action="append",
        type=_key_pair,
        metavar="AK:SK",
        help="keys for JWTs with --api official (ak-sandbox:sk-secret-sandbox-of-32-characters); may be given "
        "several times",
    )
    parser.add_argument("--units", type=float, help="units in the resource pack of --api official (no limit)")
    parser.add_argument("--queue-seconds", type=float, default=2.0, help="seconds a job is queued (%(default)s)")
    parser.add_argument("--run-seconds", type=float, default=8.0, help="seconds a job then runs (%(default)s)")
    parser.add_argument("--max-concurrent", type=int, help="unfinished jobs allowed per account (no limit)")
    parser.add_argument("--media-dir", help="folder with the images for URLs of example.com, by file name")
    parser.add_argument("--cache-dir", help="folder that keeps rendered videos for the next start")
    parser.add_argument("--state-dir", help="folder that keeps jobs, ledger and videos for the next start")
    parser.add_argument(
        "--prompt-words",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let words in a prompt make trouble: [refuse], [fail], [slow], [lost answer] (yes)",
    )
    parser.add_argument(
        "--dialect", default="documented", choices=DIALECTS, help="format of responses (%(default)s)"
    )
    parser.add_argument("--one-video", action="store_true", help="serve the first video for every job")
    parser.add_argument("--prefix", default="", help="path in front of all routes (none)")
    return parser


def _key_pair(given: str) -> tuple[str, str]:
    access_key, colon, secret_key = given.partition(":")
    if not (access_key and colon and secret_key):
        raise argparse.ArgumentTypeError("must be an access key, a colon and a secret key")
    return access_key, secret_key


def _official(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options of Kling's own platform that were given."""
    given = {"access_keys": dict(options.access_key or ()), "units": options.units}
    return {name: value for name, value in given.items() if value not in ({}, None)}


def _greeting(base_url: str, api_key: str, connection: str, api: str = "gateway") -> str:
    path, body = FIRST_VIDEO[api]
    return f"""Kling sandbox at {base_url}, until Ctrl-C
Open this address in a browser to see its jobs, and how to make trouble.

The connection for Airflow:
  export AIRFLOW_CONN_KLING_DEFAULT='{connection}'

A first video:
  curl -s {base_url}{path} \\
    -H 'Authorization: Bearer {api_key}' -H 'Content-Type: application/json' \\
    -d '{body}'

What was accepted so far:
  curl -s {base_url}/_sandbox/ledger
"""


if __name__ == "__main__":
    sys.exit(main())

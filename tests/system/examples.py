# SPDX-License-Identifier: Apache-2.0
"""What each example DAG is to make."""

from __future__ import annotations

from dataclasses import dataclass

from tests.system.video import VideoFacts


@dataclass(frozen=True)
class Example:
    """What an example DAG is to make, and the task that waits for it."""

    waiting_task: str
    video: VideoFacts
    count: int = 1


EXAMPLES = {
    "example_kling_text_to_video": Example("generate", VideoFacts("h264", 1280, 720, 5, None)),
    "example_kling_image_to_video": Example("wait", VideoFacts("h264", 1920, 1080, 6, "aac")),
    "example_kling_first_last_frame": Example("generate", VideoFacts("h264", 1920, 1080, 8, None)),
    "example_kling_multi_shot": Example("generate", VideoFacts("h264", 1280, 720, 7, "aac")),
    "example_kling_batch": Example("generate", VideoFacts("h264", 720, 1280, 3, None), count=3),
    "example_kling_decorator": Example("generate", VideoFacts("h264", 1280, 720, 4, None)),
}
#: Those that run in several steps; each has a test of its own.
STAGED = frozenset({"example_kling_reel", "example_kling_review", "example_kling_daily", "example_kling_chain"})
VIDEOS = sum(example.count for example in EXAMPLES.values())

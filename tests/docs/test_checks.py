# SPDX-License-Identifier: Apache-2.0
"""Each check of the pages fails on the fault that it is there for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.docs import checks
from tests.docs.pages import Page, read_page

if TYPE_CHECKING:
    from airflow_provider_kling.sandbox import Sandbox

MakePage = Callable[[str], Page]


@pytest.fixture
def page(tmp_path: Path) -> MakePage:
    """A function that makes a page ``page.md`` of a text."""

    def make(text: str) -> Page:
        path = tmp_path / "page.md"
        path.write_text(text)
        return read_page(path, "page.md")

    return make


def fenced(language: str, code: str, comments: str = "") -> str:
    return f"Some words.\n\n{comments}```{language}\n{code}\n```\n"


@pytest.mark.parametrize(
    ("language", "right", "wrong"),
    [
        ("python", "x = 1", "x = = 1"),
        ("json", '{"a": [1]}', '{"a": [1],}'),
        ("toml", 'a = "b"', "a = b"),
        ("yaml", "a: [1, 2]", "a: [1, 2"),
        ("ini", "[kling]\nstate = none", "state = none"),
        ("bash", "if true; then make demo; fi", "if true; then make demo"),
        ("bash", "echo 'a'", "echo 'a"),
        ("mermaid", 'flowchart TD\na["A"]\nb[("B")]\na -->|"goes"| b', 'flowchart TD\na["A"]\na --> b'),
        ("mermaid", 'flowchart LR\nsubgraph s["S"]\na["A"]\nend', 'flowchart LR\nsubgraph s["S"]\na["A"]'),
        ("mermaid", None, 'a["A"]'),
        ("mermaid", None, 'flowchart TD\na["A'),
        ("text", "anything", None),
        ("cobol", None, "STOP RUN."),
        ("", None, "x = 1"),
    ],
)
def test_a_block_that_is_not_what_it_says(
    page: MakePage, language: str, right: str | None, wrong: str | None
) -> None:
    if right is not None:
        [block] = page(fenced(language, right)).blocks
        assert checks.parse_problems(block) == []
    if wrong is not None:
        [block] = page(fenced(language, wrong)).blocks
        [problem] = checks.parse_problems(block)
        assert problem.startswith("page.md:4: ")


def test_a_block_in_a_list_is_found(page: MakePage) -> None:
    [block] = page("- an item:\n\n  ```json\n  {\n  ```\n").blocks
    assert len(checks.parse_problems(block)) == 1


@pytest.fixture(scope="module")
def type_problems(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What mypy says of all planted programs: each start of it takes seconds."""
    folder = tmp_path_factory.mktemp("programs")
    path = folder / "page.md"
    path.write_text(
        fenced("python", "from airflow_provider_kling.hooks.kling import KlingHook\nhook = KlingHook('a')")
        + fenced("python", "hook.get_video('1')", "<!-- continues -->\n")  # right
        + fenced("python", "hook.get_video(1)", "<!-- continues -->\n")  # an argument of the wrong type
        + fenced("python", "hook.get_video('2')")  # a name that only another block has
        + fenced("python", "x: int = given", "<!-- before:\ngiven = 1\n-->\n")  # right
        + fenced("python", "y: str = given", "<!-- before: given = 1 -->\n")  # no str
        + fenced("python", "from airflow_provider_kling.operators.kling import KlingSubmitOperator")  # gone
        + fenced("python", "import airflow_provider_kling.gone")  # gone as well
        + fenced(
            "python",
            "from airflow_provider_kling.operators.kling import KlingGenerateOperator\n"
            "def f():\n    KlingGenerateOperator(task_id='a', model='b', duration='c')",
        )  # in a function without types
        + fenced(
            "python", "z: int = given", "<!-- before: given = '' -->\n\nMore words.\n\n"
        )  # said of another place
    )
    return checks.type_problems(read_page(path, "page.md").blocks, folder)


@pytest.mark.parametrize(
    "expected",
    [
        'page.md:17: Argument 1 to "get_video" of "KlingHook" has incompatible type "int"; expected "str"',
        'page.md:22: Name "hook" is not defined',
        'page.md:36: Incompatible types in assignment (expression has type "int", variable has type "str")',
        'page.md:41: Module "airflow_provider_kling.operators.kling" has no attribute "KlingSubmitOperator"',
        'page.md:46: Cannot find implementation or library stub for module named "airflow_provider_kling.gone"',
        'page.md:53: Argument "duration" to "KlingGenerateOperator" has incompatible type "str"',
        'page.md:62: Name "given" is not defined',
    ],
)
def test_a_program_that_does_not_type_check(type_problems: list[str], expected: str) -> None:
    assert [problem for problem in type_problems if problem.startswith(expected)] != [], type_problems


def test_nothing_else_is_said_of_the_programs(type_problems: list[str]) -> None:
    assert len(type_problems) == 7, type_problems


DAG = """
from airflow.sdk import dag
from airflow_provider_kling.operators.kling import KlingGenerateOperator

@dag(schedule=None)
def clip():
    KlingGenerateOperator(task_id="generate", model={model!r}, prompt="A paper boat")
"""


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("print('fine')", ""),
        ("import sys\nsys.exit(3)", "it ends with 3"),
        (
            "from airflow_provider_kling.hooks.kling import KlingHook\nKlingHook().get_video('none')",
            "KlingNotFoundError",
        ),
        (DAG.format(model="kling-v3-std-silent") + "clip()", ""),
        (DAG.format(model="kling-v3-std-silent"), "it makes no DAG"),
        (DAG.format(model="kling-v9") + "clip()", "KlingValidationError"),
    ],
)
def test_a_program_that_does_not_run(
    page: MakePage, tmp_path: Path, sandbox: Sandbox, code: str, problem: str
) -> None:
    [block] = page(fenced("python", code)).blocks
    found = checks.run_problems(block, tmp_path, {"AIRFLOW_CONN_KLING_DEFAULT": sandbox.connection_json})
    assert problem in "".join(found) if problem else found == []
    assert bool(found) == bool(problem)


def test_a_block_that_is_not_run_says_why(page: MakePage) -> None:
    [block] = page(fenced("python", "x = 1", "<!-- not run: it takes an hour -->\n")).blocks
    assert block.not_run == "it takes an hour"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        (fenced("bash", "make demo   # and make coffee\nmake test"), []),
        (fenced("bash", "cd x && make PYTHON=python3.12 -j2 demo"), []),
        (fenced("bash", "make \\\n  deploy"), ["page.md:4: make has no target deploy"]),
        (fenced("bash", "# first\nA=b make demo deploy"), ["page.md:4: make has no target deploy"]),
        ("Run `make check`, then `make deploy`.", ["page.md:1: make has no target deploy"]),
        (
            "`make up its mind` says nobody",
            [f"page.md:1: make has no target {word}" for word in ("up", "its", "mind")],
        ),
        (fenced("bash", "python -m airflow_provider_kling.sandbox --port 1"), []),
        (
            fenced("bash", "x; .venv/bin/python -m airflow_provider_kling.sandbx"),
            ["page.md:4: Python has no module airflow_provider_kling.sandbx to run"],
        ),
        (
            "`python -m airflow_provider_kling.gone.part list`",
            ["page.md:1: Python has no module airflow_provider_kling.gone.part to run"],
        ),
        (
            "`python3 -m airflow_provider_kling.hooks`",
            ["page.md:1: Python has no module airflow_provider_kling.hooks to run"],
        ),
        (
            fenced("bash", "pip install '.[sandbox]' && pip install 'airflow-provider-kling[sandbox,s3]'"),
            ["page.md:4: the package has no extra s3"],
        ),
        (fenced("bash", 'curl -H "Authorization: Bearer $TOKEN" \\\n  "$AIRFLOW/api?a=b&c=d#make"'), []),
    ],
)
def test_a_command_that_does_not_exist(page: MakePage, text: str, problems: list[str]) -> None:
    assert checks.command_problems(page(text)) == problems


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("kling://:sk-...@api.example.com/prefix?api=official", ""),
        ('{"conn_type": "kling", "login": "ak...", "password": "sk...", "extra": {"api": "official"}}', ""),
        ("kling://:sk-...@api.example.com?api=oficial", "(extra.api)='oficial': it must be one of"),
        ("kling://:sk-...@api.example.com?timeout=3", "the extra timeout is not read"),
        ('{"conn_type": "kling", "password": "sk-..."}', "host"),
    ],
)
def test_a_connection_that_is_not_accepted(page: MakePage, value: str, problem: str) -> None:
    found = checks.connection_problems(page(fenced("bash", f"export AIRFLOW_CONN_KLING_DEFAULT='{value}'")))
    assert problem in "".join(found) if problem else found == []
    assert bool(found) == bool(problem)


HEADINGS = """# A `KlingHook` of one's own: what, and why?

## Same
## Same
### 3. a_b  c – d

<a id="by-hand"></a>

```bash
# No heading
```
"""


@pytest.mark.parametrize(
    "anchor",
    ["a-klinghook-of-ones-own-what-and-why", "same", "same-1", "3-a_b--c--d", "by-hand"],
)
def test_headings_have_the_anchors_of_github(page: MakePage, tmp_path: Path, anchor: str) -> None:
    assert checks.link_problems(page(f"{HEADINGS}\n[x](#{anchor})"), tmp_path) == []


@pytest.mark.parametrize(
    ("link", "problem"),
    [
        ("[x](https://example.com/gone)", ""),
        ("[x](mailto:a@example.com)", ""),
        ("[x](other.md)", ""),
        ("[x](other.md#there)", ""),
        ("[x](/other.md)", ""),
        ("[x](code.py#L3)", ""),
        ("[x][ref]\n\n[ref]: other.md", ""),
        ("![x](other.md)", ""),
        ("[x](gone.md)", "the link gone.md leads to no file"),
        ("[x](other.md#gone)", "the link other.md#gone leads to no heading"),
        ("[x](#gone)", "the link #gone leads to no heading"),
        ("[x](#no-heading)", "the link #no-heading leads to no heading"),
        ("[x](#same-2)", "the link #same-2 leads to no heading"),
        ("[x](/gone.md)", "the link /gone.md leads to no file"),
        ("[x](../secret.md)", "the link ../secret.md leads to no file"),
        ("![x](gone.png)", "the link gone.png leads to no file"),
        ("[x][gone]", "[x][gone] is defined nowhere"),
        ("[x][ref]\n\n[ref]: gone.md", "the link gone.md leads to no file"),
        ('<img src="gone.png">', "the link gone.png leads to no file"),
        ('Words <a href="#gone">x</a>', "the link #gone leads to no heading"),
        ("| a |\n|---|\n| [x](gone.md) |", "the link gone.md leads to no file"),
        ("[x](code.py#gone)", "the link code.py#gone leads to no heading"),
    ],
)
def test_a_link_that_leads_nowhere(page: MakePage, tmp_path: Path, link: str, problem: str) -> None:
    (tmp_path / "other.md").write_text("# There")
    (tmp_path / "code.py").touch()
    (tmp_path.parent / "secret.md").touch()
    found = checks.link_problems(page(f"{HEADINGS}\n{link}\n"), tmp_path)
    assert [text.partition(": ")[2] for text in found] == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("span", "exists"),
    [
        ("airflow_provider_kling/hooks/kling.py", True),
        ("hooks/kling.py", True),
        ("tests/system/", True),
        ("example_dags/example_kling_batch.py", True),
        (".ci/run", True),
        ("CHANGELOG.md", True),
        ("mp4.py", True),
        ("airflow_provider_kling.sandbox.KINDS", True),
        ("airflow_provider_kling.hooks.kling.KlingHook.get_video", True),
        ("hooks/klinger.py", False),
        ("hooks/klinger", False),
        ("tests/nothing/", False),
        ("nothing/", False),
        ("docs.md", False),
        ("nothing.py", False),
        ("airflow_provider_kling.gone", False),
        ("airflow_provider_kling.hooks.kling.KlingHook.gone", False),
    ],
)
def test_a_name_of_nothing(page: MakePage, span: str, exists: bool) -> None:
    assert checks.name_problems(page(f"See `{span}`.")) == ([] if exists else [f"page.md:1: there is no {span}"])


@pytest.mark.parametrize(
    "span",
    [
        "GET /v1/videos/{id}",
        "s3://conn@bucket/a.mp4",
        "16:9",
        "video/mp4",
        "HttpOperator",
        ".venv/bin/pytest",
        "take=2",
        "kling_adopt",
        "~/x.py",
        "v1/chat",
    ],
)
def test_what_is_no_path_is_let_be(page: MakePage, span: str) -> None:
    assert checks.name_problems(page(f"See `{span}`.")) == []


def test_a_path_in_a_drawing_that_does_not_exist(page: MakePage) -> None:
    drawing = 'flowchart TD\na["polls<br/>jobs/polling.py, jobs/gone.py"]'
    assert checks.name_problems(page(fenced("mermaid", drawing))) == ["page.md:4: there is no jobs/gone.py"]


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ("One job is paid for once. And `more` follows.\n\nOne job is paid\nfor **once**!", True),
        ("- One job is paid for `once`.\n\n| a |\n|---|\n| one job is paid for once |", True),
        ("Another: one job is paid for once.\n\nOne job is paid for twice.", False),
        ("The Airflow connection.\n\nThe Airflow connection.", False),
        ("```text\none job is paid for once\n```\n\nOne job is paid for once.", False),
    ],
)
def test_a_sentence_that_stands_twice(page: MakePage, text: str, repeated: bool) -> None:
    assert bool(checks.repeated_sentences([page(text)])) is repeated

# SPDX-License-Identifier: Apache-2.0
"""The words of servers for a route, or for a task, that they do not have."""

from __future__ import annotations

import re

_PLACE = (
    r"(?:route|endpoint|path|resource path|(?:request(?:ed)? )?(?:url|uri)|api (?:route|endpoint|path|method))"
)
_ABSENT = (
    r"(?:(?:was|is|does|could|can|has|has been) ?)?(?:not|n't) (?:be )?"
    r"(?:found|exist|registered|defined|supported|recogni[sz]ed|implemented|matched)"
)

#: The words of servers that have no such route, so that the API is unavailable: one-api and its forks
#: (RelayNotFound), Go's net/http, gin and Traefik, NestJS, Fastify, Spring, Laravel, Kong, APISIX, Railway,
#: OpenAI and Groq (unknown_url), Flask and Apache, and words that many others use.
#: Not here: words that may also mean an unknown *task*, such as FastAPI's {"detail": "Not Found"}.
NO_ROUTE = re.compile(
    r"Invalid URL \([A-Z]+ /|^[ \t]*404 page not found|Cannot (?:GET|POST) /"
    r"|Route (?:GET|POST):/\S{0,400} not found"
    r"|No static resource|No handler found for|The route \S{1,400} could not be found"
    r"|no Route matched with those values"
    r"|404 Route Not Found|^[ \t]*Application not found[ \t]*$"
    r"|\b(?:invalid|unknown|unrecogni[sz]ed|unsupported|undefined|no such|no matching|no)[ _-]"
    r"(?:api[ _-]|request[ _-])?(?:route|endpoint|path|url|uri)\b"
    rf"|\b{_PLACE}\b(?:\W{{1,3}}(?:GET|POST)\b)?(?:\W{{0,3}}/\S{{0,400}})?['\"`”)]{{0,2}} {_ABSENT}"
    r"|\b(?:route|endpoint|path|url)[ _-]not[ _-]found\b|^[ \t]*page not found"
    r"|\bpage (?:was |is )?not found[ \t]*$"
    r"|the requested URL was not found on th"
    r"|\bmethod[ _]not[ _]allowed\b"
    r"|(?:接口|路由|路径|请求地址|请求路径|地址|页面|API)\s?(?:不存在|未找到|未定义|未注册|找不到)"
    r"|(?:无效|未知|不存在|不支持)的?\s?(?:URL|URI|接口|路由|路径|请求地址|请求路径|端点)",
    re.IGNORECASE | re.MULTILINE,
)

#: The words of servers for a job.
_JOB = r"(?:task|job|video|generation|prediction|operation|record)"
#: The words of servers for an unknown *task*, which only the API itself can report.
NO_TASK = re.compile(
    rf"\btask[ _]not[ _](?:exist|found)|\b{_JOB}(?: with)?(?: the)?(?: id)?\b(?!s?/)"
    r"(?:\W{1,3}(?!model|channel|provider|user|group|url|file|route|endpoint|page|api|path)[\w-]{1,80}['\"`”)\]]{0,2})?"
    r"\W{1,3}(?:was |is |does |could |can |has )?(?:not|n't|cannot) ?(?:be )?(?:found|exist)"
    r"|\b(?:no such|unknown|invalid|unable to find|(?:not|n't|cannot) find(?: \w+)?)[ _](?:the )?"
    rf"{_JOB}(?:[ _]id)?\b(?![ _](?:model|url|file))"
    rf"|\bno {_JOB}s? (?:was |were )?found\b|\brecordInfo is null"
    r"|任[务務]\s?(?:记录|記錄)?\s?(?:id|编号)?\s?(?:不存在|未找到|找不到|无效)"
    r"|(?:找不到|未找到|不存在|无效|未查询到|查询不到)的?(?:该|此|該)?(?:任[务務]|作业)",
    re.IGNORECASE,
)

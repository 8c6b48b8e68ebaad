# SPDX-License-Identifier: Apache-2.0
"""
The codes and words that show whether a gateway had forwarded the request to the platform behind it.

Each accepted submit is billed, and gateways of this kind try one channel after another. So a code proves a
refusal only if the gateway raises it *before its first attempt*. A code that also ends a later attempt may be the
response to a request that an earlier attempt has sent. The tables are from the gateways' sources.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

#: Codes and types that a gateway raises before it forwards anything, each with its place in the sources.
#:
#: Not here, despite their names, since an earlier attempt may have been sent: ``get_channel_failed``
#: and ``service_unavailable`` (no channel left for a *further* attempt), ``build_request_failed``,
#: ``convert_request_failed``, ``model_price_error``, ``get_user_quota_failed`` and ``channel:*`` (each attempt),
#: ``provider_not_found`` (one-hub: each attempt), ``invalid_request`` (with a 5xx it also comes from reading the
#: upstream's response), ``query_data_error`` and ``update_data_error`` (any database error).
BEFORE_SENDING: dict[str, str] = {
    # No channel of the group serves the model: the distributor in front of the relay, 503.
    "model_not_found": "QuantumNous/new-api middleware/distributor.go",
    # The gateway itself is short of a resource: a middleware in front of the relay, 503.
    "system_cpu_overloaded": "QuantumNous/new-api middleware/performance.go",
    "system_memory_overloaded": "QuantumNous/new-api middleware/performance.go",
    "system_disk_overloaded": "QuantumNous/new-api middleware/performance.go",
    # The counter of the key's requests cannot be read: a middleware between distributor and relay, 503.
    "token_concurrency_unavailable": "forks of QuantumNous/new-api: router/video-router.go, types/error.go",
    # The relay could not parse the request: before its loop over channels, 500.
    "gen_relay_info_failed": "QuantumNous/new-api controller/relay.go (RelayTask)",
    # The gateway's own word filter: before the loop over channels, 500 where no status is given.
    "sensitive_words_detected": "QuantumNous/new-api controller/relay.go (Relay)",
    # The account's money is reserved before the first attempt only; 403, and 402 in one-hub.
    "insufficient_user_quota": "QuantumNous/new-api service/billing_session.go, MartialBE/one-hub quota.go",
    # The key may not be used from this address: the check of the key, before everything else.
    "access_denied": "QuantumNous/new-api middleware/auth.go",
    # A route with no other response; 501.
    "api_not_implemented": "songquanpeng/one-api controller/relay.go (RelayNotImplemented), and its forks",
}

#: Codes and types of a gateway that forwarded the request and lost the response, or could not store it.
#: From relay/relay_task.go, relay/channel/task/*/adaptor.go and types/error.go of new-api, controller/relay.go
#: of its forks, and common/requester of one-hub. ``fail_to_fetch_task`` and ``bad_response_status_code`` are not
#: here: the upstream has responded, and the HTTP status is its own.
LOST_UPSTREAM = frozenset(
    {
        "do_request_failed",
        "http_request_failed",
        "read_response_body_failed",
        "close_response_body_failed",
        "copy_response_body_failed",
        "write_response_body_failed",
        "unmarshal_response_failed",
        "unmarshal_response_body_failed",
        "decode_response_failed",
        "bad_response",
        "bad_response_body",
        "invalid_response",
        "empty_response",
        "task_id_is_empty",
        "insert_task_failed",
        "task_insert_failed",
        "task_submit_failed",
        "task_billing_settlement_failed",
        "request_cancelled",
        "request_canceled",
        "channel:response_time_exceeded",
        # The official platform's own errors: a task may exist.
        "5000",
        "5001",
        "5002",
    }
)

#: Words with the same meaning, with any code, in the terms of Go, Node, Python, nginx and databases.
LOST_WORDS = re.compile(
    r"\btim(?:e|ed|ing)[\s_-]?out|deadline[\s_]exceeded|awaiting headers|\bEOF\b|unexpected end|premature"
    # A connection that ended.
    r"|connection (?:\w+ ){0,3}(?:reset|closed|aborted|lost|refused|broken|terminated|interrupted|dropped|error)"
    r"|(?:reset|closed|aborted|dropped|terminated) by (?:the )?(?:remote|peer|host|server|upstream)"
    r"|closed connection"
    r"|closed (?:network )?connection|connect(?:ion)? (?:error|failed|failure)|broken pipe|socket hang"
    r"|socket (?:was )?closed"
    r"|\bE(?:CONN\w+|PIPE|TIMEDOUT|SOCKETTIMEDOUT|HOSTUNREACH|NETUNREACH|NETDOWN|NETRESET|AI_AGAIN|NOTFOUND)\b"
    r"|UND_ERR|ERR_(?:NETWORK|HTTP2|STREAM|SOCKET|CONNECTION|EMPTY_RESPONSE)|\bGOAWAY\b|\bhttp2:|RST_STREAM"
    r"|\bstream (?:error|reset|closed|terminated|was reset|ID \d)|REFUSED_STREAM"
    r"|server (?:\w+ ){0,2}(?:disconnected|hung up|closed)|server misbehaving|peer closed|Server ?Disconnected"
    r"|Remote ?(?:Protocol|Disconnected|end closed)|(?:Read|Write|Connect|ClientOS|ClientPayload|Protocol)Error"
    r"|unexpected token ['\"]?<|Expecting value: line 1 column 1\b|JSON ?Decode ?Error"
    r"|incomplete ?read|incomplete chunked|chunked encoding|transport (?:connection|closed|is closing|error)"
    # A cancelled request.
    r"|(?:context|request|operation|stream|call) (?:was |has been )?(?:cancell?ed|aborted)|\bAbortError\b"
    r"|client (?:disconnected|closed)"
    # A network in between.
    r"|i/o time|no such host|name resolution|getaddrinfo|dns (?:error|lookup)|no route to host"
    r"|network (?:is )?(?:unreachable|error|failure|changed)|fetch failed|\b(?:dial|read|write) tcp"
    r"|proxyconnect|proxy error"
    r"|TLS handshake|SSL_|\btls: |x509:"
    # A server behind the gateway.
    r"|bad gateway|gateway error|service (?:temporarily |is )?unavailable|internal (?:server )?error"
    r"|upstream (?:connect|request (?:failed|error)|prematurely|timed|closed|reset|disconnect|unavailable"
    r"|unreachable|lost|connection|did not|didn't|gave no|sent no|no response"
    r"|returned (?:an? )?(?:empty|no|nothing|invalid)"
    r"|server error|service (?:error|unavailable|timed|did)|failure|respond(?:s|ed|ing) slowly)"
    r"|upstream\b[^\n\d]{0,12}"
    r"\b(?:returned|responded|answered|replied|error|status|code|http)\b[^\n\d]{0,16}5\d\d\b"
    r"|status code:? ?(?:408|499|5\d\d)\b|\bHTTP(?:/[\d.]{1,3})?:? ?5\d\d\b|\breturned (?:status )?5\d\d\b"
    r"|\b(?:complet|finish|respond|answer|repl)\w{0,4} (?:in|within|on) (?:the (?:\w+ )?)?time\b|took too long"
    r"|(?:did not|didn't|never) (?:answer|respond|reply)"
    # A response that came and was not understood, or could not be kept.
    r"|task[\s_]?id (?:is |was )?(?:empty|missing|null|blank|not found)"
    r"|(?:empty|missing|without|no) (?:a )?task[\s_]?id"
    r"|(?:empty|invalid|malformed|no|unreadable|truncated) (?:upstream )?(?:response|reply|answer)\b"
    r"|(?:response|reply) (?:body )?(?:is |was )?(?:empty|truncated)"
    r"|(?:returned|received|got|with) (?:an )?empty body"
    r"|(?:unmarshal|decode|parse|read|copy)\w{0,12} (?:\w+ ){0,3}response|invalid character '<'"
    r"|database (?:is |was )?(?:locked|busy|error|unavailable)|SQLITE_|deadlock|lock wait|UNIQUE constraint"
    r"|Duplicate entry"
    r"|too many (?:database )?connections|server has gone away"
    r"|(?:insert|save|persist|store|record)\w{0,6} (?:the )?task"
    r"|\b(?:sav(?:e|ing)|insert(?:ing)?|persist(?:ing)?|stor(?:e|ing)) (?:(?:the|your|this) )?"
    r"(?:job|order|record)\b"
    r"|\bnot (?:be |been )?(?:saved|persisted|stored|recorded)\b"
    r"|panic detected|nil pointer|runtime error|insert_task_failed|do[_ ]request[_ ]failed|response_body_failed"
    r"|超时|逾时|逾時|无法连接|连接(?:\w{0,6})(?:重置|关闭|断开|中断|拒绝|失败|丢失|异常|超时)"
    r"|(?:重置|断开|关闭|中断)了?\w{0,8}连接"
    r"|連接|連線|网络(?:\w{0,4})(?:错误|异常|中断|波动|不可达|断开|失败|抖动)|网关(?:错误|异常)"
    r"|上游[^\n\d]{0,12}5\d\d(?!\d)"
    r"|上游\w{0,8}(?:断开|中断|无响应|未响应|没有响应|无返回|未返回|返回空|返回为空|不可用|丢失|连接|请求失败|失联)"
    r"|请求上游"
    r"|响应\w{0,3}(?:为空|解析失败|读取失败|异常|丢失)|(?:读取|解析|获取)\w{0,4}响应\w{0,2}失败|空响应"
    r"|返回(?:内容|数据|结果)?为空"
    r"|任务\s?(?:id|编号)?\s?(?:为空|缺失)|未(?:返回|获取到)任务|(?:写入|插入|保存)任务\w{0,4}(?:失败|出错)"
    r"|入库失败|数据库\w{0,3}(?:错误|锁|繁忙|异常|失败)|请求(?:已?被|已)(?:取消|中断|中止)|上下文\w{0,2}取消"
    r"|管道(?:破裂|断开|已断)|远程主机"
    r"|服务器?\w{0,3}(?:断开|无响应|未响应|关闭了|内部错误)|意外(?:结束|断开|关闭|中断)",
    re.IGNORECASE,
)

#: Not another job than this one, whose end a wait outlasts.
_THIS = (
    r"(?<!\bno )(?<!\bno new )(?<!\bno video )(?<!\bany )(?<!\bone )(?<!\bother )(?<!\banother )(?<!\d )"
    r"\b(?:task|job|request|order|submission|generation)\b"
)
#: Words that say that the job is there already, or that the same request came before: a proxy may have sent it
#: twice. Jobs that fill the account's slots are named in the plural, or as another one.
MADE_WORDS = re.compile(
    r"\bduplicated?[ _-](?:api[ _-])?(?:request|submission|submit|task|job|order|call|transaction|generation)"
    rf"|{_THIS} (?:(?:is|was|has been|id) ){{0,2}}(?:a )?duplicated?\b"
    rf"|{_THIS} (?:(?:is|was|has|have|with|the|this|id|same|prompt|been) ){{0,5}}already"
    r" (?:been )?(?:being )?(?:submitted|created|accepted|processed|processing|exists?"
    r"|queued|received|sent|started"
    r"|paid|charged|billed|saved)\b(?! too\b)"
    r"|\b(?:this|same|identical) (?:task|job|request|order|prompt|input|video) (?:is |was )?already\b"
    r"|\balready (?:submitted|created|accepted|received|processed|processing)"
    r" (?:this|the same|your|an identical)\b"
    rf"|{_THIS} (?:(?:is|was|has been) )?(?:successfully )?(?:created|submitted|accepted|saved|queued|enqueued)\b"
    r"(?! (?:too|with(?:out)?|by|per)\b)"
    rf"|{_THIS} is being processed"
    r"|(?:do not|don't|please avoid|never)"
    r" (?:re-?(?:submit|send|try)|(?:submit|send)(?:ting)? (?:it |this )?(?:again|twice))"
    r"|\bqueued (?:behind|successfully|at position)"
    r"|(?:请勿|請勿|不要|避免|勿)(?:再次)?(?:重复|重複)"
    r"|(?:重复|重複)(?:的)?(?:提交|请求|請求|创建|創建|下单|下單|任务|任務|订单|訂單)"
    r"|(?:请求|請求|任务|任務|订单|訂單)(?:已)?(?:重复|重複)"
    r"|(?<![有个個])(?<!其他)(?:任务|任務|订单|訂單)(?:已经|已經|已|正在)(?:成功)?"
    r"(?:提交|创建|創建|生成|存在|受理|接收|处理|處理|排队|排隊|入队)(?!的?(?:数|數|太|过|過))"
    r"|(?<![未没不])(?<!没有)(?<!未能)(?<!没能)(?:创建|創建|提交|下单|下單)(?:任务|任務|订单|訂單)?成功"
    r"|二重(?:送信|リクエスト)|(?:既に|すでに)(?:送信|受付|処理)|중복 ?(?:요청|제출)|이미 (?:제출|처리)",
    re.IGNORECASE,
)

#: Words of a refusal before sending, for responses without a code: no channel (songquanpeng/one-api
#: middleware/distributor.go, relay/common.go of one-hub, English in resellers' issue threads), maintenance
#: (middleware/maintenance.go of new-api's forks), the counter of requests (middleware/model-rate-limit.go).
#:
#: Not here: “上游负载已饱和”. Gateways replace the message of the *last* attempt with it, and it was seen with the
#: code ``do_response_failed``.
_REFUSAL_WORDS = re.compile(
    r"无可用(?:的)?渠道|没有可用(?:的)?渠道|no available channels? for"
    r"|维护(?:中|模式|期间)|(?:系统|服务|停机|正在|例行)维护|under maintenance|maintenance mode"
    r"|scheduled maintenance"
    r"|^\s*rate_limit_check_failed\b",
    re.IGNORECASE,
)
#: How new-api marks a refusal after an earlier attempt.
_LATER_ATTEMPT = re.compile(r"retry\s?[)）]", re.IGNORECASE)

#: Codes and types that some gateway puts into every error, or that repeat an HTTP status: they count as none.
_GENERIC = re.compile(
    r"\d{1,3}|(?:[a-z0-9-]+_)*api_error|one_hub_error|veloera_error|(?:internal_)?server_error|error|none|null",
    re.IGNORECASE,
)
#: Codes and types that are not generic, but too unspecific for a list of refusals.
_UNSPECIFIC = frozenset(
    {"upstream_error", "system_error", "unknown_error", "internal_error", "unknown", "fail", "failed"}
)


#: Maximum characters of an error that are searched for its meaning: the important part comes first.
MAX_WORDS = 2048


@dataclass(frozen=True, kw_only=True, slots=True)
class ErrorNames:
    """
    The code, the type and the words of an error, which decide whether it is a refusal.

    :param code: The ``code`` of the error object; empty where there is none.
    :param type: Its ``type``; likewise.
    :param nested: Codes of the JSON objects inside its message: gateways put the upstream's raw body there.
    :param text: Its words.
    :param deeper: All other words of the response, at any depth.
    :param is_cut: Whether the response has more words than that: it is too long to be read completely.
    """

    code: str = ""
    type: str = ""
    nested: tuple[str, ...] = ()
    text: str = ""
    deeper: str = ""
    is_cut: bool = False

    @property
    def words(self) -> str:
        """The first words, which state what the error is about."""
        return f"{self.text}\n{self.deeper}"[:MAX_WORDS]

    def among(self, codes: Collection[str]) -> bool:
        """Return whether the code or the type is one of these, whatever the letter case."""
        names = {code.strip().lower() for code in codes}
        return self.code.lower() in names or (_is_specific(self.type) and self.type.lower() in names)

    def lost_upstream(self) -> bool:
        """Return whether a code means that the request was forwarded and its response lost."""
        return any(name.lower() in LOST_UPSTREAM for name in (self.code, self.type, *self.nested))

    def mentions_lost_upstream(self) -> bool:
        """Return whether the words, or those of the code, say that the request was sent on, or the job made."""
        # What was not read may say so.
        return self.is_cut or bool(LOST_WORDS.search(self._words())) or self.mentions_existing_job()

    def mentions_existing_job(self) -> bool:
        """Return whether the words, or those of the code, say that the job is there, or was asked for before."""
        return bool(MADE_WORDS.search(self._words()))

    def _words(self) -> str:
        text = f"{self.text}\n{self.deeper}"
        if self.code.lower() == "fail_to_fetch_task":
            # The upstream has responded: new-api replaces each message that contains an address with these words.
            text = text.replace("请求上游地址失败", "")
        names = f"{self.code} {self.type}"
        return f"{text} {names} {re.sub('[_-]', ' ', names)}"

    def mentions_refusal(self) -> bool:
        """Return whether the words of an error without a code mean that nothing was forwarded."""
        if any(name and not _GENERIC.fullmatch(name) for name in (self.code, self.type)) or self.nested:
            return False
        return bool(
            _REFUSAL_WORDS.search(self.text)
            and not _LATER_ATTEMPT.search(self.text)
            and not self.mentions_lost_upstream()
        )

    def entry(self) -> str | None:
        """Return the name with which a vendor's own refusal could be listed in ``refusal_codes``, if any."""
        if any(name in ("5000", "5001", "5002") for name in (self.code, *self.nested)):
            # For these the official platform itself states that a task may exist.
            return None
        return next((name for name in (self.code, self.type) if _is_specific(name)), None)


def _is_specific(name: str) -> bool:
    return bool(name) and not _GENERIC.fullmatch(name) and name.lower() not in _UNSPECIFIC

# SPDX-License-Identifier: Apache-2.0
"""
Recognise an empty account by the words of an error.

Waiting does not cure an empty account, but it cures a rate limit, and servers send both under the same status, the
same type and often the same word: *quota*. So this is a rule rather than a list. A word for money beside a word
for its lack is an empty account. *Quota* beside a word for its lack is one too, unless the error also speaks of
requests, of jobs at once, or of a span of time that a wait outlasts: then it is a rate limit. So are credits that
are used up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from airflow_provider_kling.exceptions import KlingBalanceError, KlingRateLimitError

if TYPE_CHECKING:
    from airflow_provider_kling.exceptions import KlingError

#: The balance of an account, not that of an image or of a load balancer.
_MONEY = (
    r"(?:(?<!white )(?<!color )(?<!colour )(?<!load )balance|credits?|funds|money|wallet|points|coins"
    r"|resource pack(?:age)?s?)"
)
#: A few characters of the same sentence; the decimal point of an amount ($0.10) does not end one.
_NEAR = r"(?:(?!\. |\bbut\b|\bwhile\b|\bslot|\bconcurren|\bparallel)[^\n;!?。；！？]){0,24}?"
_NEAR_HAN = "(?:(?!充足|足够|足夠|并发|並發|併發|但)[^。；\n]){0,10}"
_LACKING = (
    r"(?:insufficient|inadequate|not (?:be )?(?:enough|sufficient)|n't (?:enough|sufficient)"
    r"|too low|below|less than|exhausted|depleted|used up|empty|negative|overdrawn|overdue"
    r"|(?:has |have )?r[ua]n out)\b"
)

#: Money is lacking, whatever else the error mentions.
_NO_MONEY = re.compile(
    r"(?:\b(?:insufficient|inadequate|lack(?:s|ing)?(?: of)?|too few|not)|n't)(?: have)?(?: enough| sufficient)?"
    rf"(?<!not)(?<!n't)(?<!have)(?: (?!permission|right|privilege|scope)[\w$]+){{0,2}} {_MONEY}\b"
    rf"|\b{_MONEY}\b{_NEAR}\b{_LACKING}"
    rf"|\bout of (?:\w+ )?{_MONEY}\b"
    # "No credits were charged" means something else.
    rf"|\bno (?:\w+ ){{0,2}}{_MONEY}(?: (?:left|remaining|available|in)\b|\W*$|[.!])"
    # A balance of 0.00.
    r"|\b(?:balance|credits?|funds)\b\W{0,3}(?:(?:is|of|left|remaining)\W{1,3}){0,2}"
    r"\$?(?:-[\d.]+|0(?:\.0+)?)(?![\d.]*\d)"
    r"|(?:\bcredits? required\b|\brequired credits?\b)[^\n]{0,30}\bavailable\b"
    r"|\brequires (?:\w+ ){0,2}more credits|\bcredit limit (?:\w+ ){0,2}(?:reached|exceeded)"
    r"|\b(?:spend|spending|billing|budget)(?: \w+)? (?:limit|cap)\b|\bbilling not active"
    r"|\bin arrears\b|\barrearage\b|\baccount (?:is )?overdue|\boverdue (?:payment|balance|bill|invoice|account)"
    r"|\b(?:unpaid|outstanding) (?:bill|invoice|balance)|\bpayment (?:is )?required"
    # 剩余额度 (the quota left) is not 余额 (the balance).
    rf"|(?:余额(?!度)|餘額(?!度)){_NEAR_HAN}(?:不足|不够|不夠|为零|为0|耗尽|耗盡|用完|用尽|用盡|过低|過低|低于|小于|为负)"
    r"|(?:没有|无|無)(?:可用)?(?:余额(?!度)|餘額(?!度))|欠费|欠費|欠款|透支"
    r"|(?:积分|積分|点数|點數|金币|资金|資金|资源包|資源包|套餐|算力点|算力值)"
    rf"{_NEAR_HAN}(?:不足|不够|不夠|耗尽|耗盡|用完|用尽|用盡)"
    r"|(?:残高|クレジット|ポイント).{0,6}(?:不足|足り)|(?:잔액|크레딧|포인트).{0,6}(?:부족|없)"
    r"|недостаточно (?:\w+ )?(?:средств|баланс|кредит)|(?:средств|баланс\w*|кредитов) (?:\w+ )?недостаточ"
    r"|(?:saldo|fondos|fundos|cr[eé]ditos?|credito) (?:\w+ )?insuf+icien\w+"
    r"|insuf+icien\w+ (?:saldo|fondos|cr[eé]ditos?)|(?:solde|cr[eé]dits?|fonds) (?:\w+ )?insuffisant"
    r"|guthaben .{0,20}(?:nicht aus|unzureichend|aufgebraucht|erschöpft)"
    r"|nicht genügend guthaben|unzureichendes guthaben|số dư không đủ|yetersiz bakiye",
    re.IGNORECASE | re.MULTILINE,
)

#: Credits that are used up may be those of a window of time, or of the jobs at once.
_USED_UP = re.compile(
    rf"\b(?:credits?|points)\b{_NEAR}\b(?:exhausted|depleted|used up|(?:has |have )?r[ua]n out)\b", re.IGNORECASE
)

#: A quota is used up: of money, or of requests.
_NO_QUOTA = re.compile(
    r"\b(?:insufficient|not enough|n't enough|no|exceed(?:s|ed|ing)?|over|out of|exhausted|used up|reached)"
    r"(?: [\w']+){0,4}? quotas?\b"
    rf"|\bquotas?\b{_NEAR}\b(?:exceed\w*|reached|over|{_LACKING})"
    rf"|\bexceed(?:s|ed)? (?:(?:your|the|account|available|remaining|current) ){{1,4}}{_MONEY}\b"
    r"|\bplease (?:top[ -]?up|recharge|add (?:funds|credits|money))\b"
    r"|(?:额度|額度|配额|配額|限额)[^。；\n]{0,10}(?:不足|不够|不夠|用尽|用盡|用完|耗尽|耗盡|超出|超限|已超|失败)"
    r"|(?:超出|超过|超過|无可用|没有可用)[^。；\n]{0,8}(?:额度|額度|配额|配額|限额)|请(?:先|及时|尽快)?充值",
    re.IGNORECASE | re.MULTILINE,
)

#: Words of limits that pass by waiting: on requests, on concurrent jobs, or on a daily quota.
_RATE = re.compile(
    r"\bper[ -](?:second|sec|minute|min|hour|day)\b|/ ?(?:s|sec|second|min|minute|h|hour|day)\b|\b[rtq]p[smhd]\b"
    r"|\brequests\b|\brequest (?:quota|limit|rate|count|frequency)|\bconcurren|\bparallel"
    r"|\bsimultaneous|\bat once\b|\bdaily\b|\bhourly\b|\btoday|\brate\b|\brunning\b|\bqueued?\b|\bburst\b"
    r"|\bwindow\b|\bretry later\b|\bplease wait\b"
    r"|\b(?:task|job|slot)s? limit"
    r"|\btoo (?:many|fast|frequent)|\b(?:try|retry)(?: again)? (?:in|after) \d|\bresets? (?:in|at|after)\b"
    r"|频率|頻率|频繁|頻繁|并发|並發|併發|每(?:分|秒|小时|小時|天|日)|今[日天]|当[日天]|请求(?:数|次数|配额|过于|过快|太)"
    r"|調用次數|调用次数|速率|限流|同时|同時",
    re.IGNORECASE,
)

#: A line that is a name (of a code or a type) and not a sentence.
_NAME = re.compile(r"[\w.:-]+")


def kind_of_words(text: str, *, has_retry_after: bool = False) -> type[KlingError] | None:
    """
    Return the error class for an empty account, or for a rate limit with similar words, or None for neither.

    :param text: The words of an error, its code and its type, each on its own line.
    :param has_retry_after: Whether the response has a Retry-After, which it would not have for an empty account.
    """
    names: list[str] = []
    sentences: list[str] = []
    for line in text.splitlines():
        (names if _NAME.fullmatch(line.strip()) and line.isascii() else sentences).append(line)
    # InsufficientBalance, insufficient_user_quota
    spelled = [re.sub(r"(?<=[a-z])(?=[A-Z])|[_.:-]", " ", name) for name in names]
    said = re.sub(r"[ \t]+", " ", "\n".join([*spelled, *(line.replace("_", " ") for line in sentences)]))
    # A type says little: "rate_limit_error" was seen beside "Insufficient credits".
    is_rate = has_retry_after or bool(_RATE.search("\n".join(sentences)))
    if _NO_MONEY.search(_USED_UP.sub(" ", said) if is_rate else said):
        return KlingBalanceError
    if not _NO_QUOTA.search(said) and not _USED_UP.search(said):
        return None
    if is_rate:
        return KlingRateLimitError
    return KlingBalanceError

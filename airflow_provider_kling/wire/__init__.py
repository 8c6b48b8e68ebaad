# SPDX-License-Identifier: Apache-2.0
"""
The wire contract: all that is known about this vendor's paths, fields and words.

A prompt enters as a ``VideoRequest`` (:mod:`~airflow_provider_kling.wire.request`), which is checked before a
cent is spent; an answer leaves as a ``VideoJob`` or as a named error (:mod:`~airflow_provider_kling.wire.answer`).
Pure functions over plain values: no Airflow, no I/O. Servers of this kind differ from their documentation and
from each other; whatever spelling they use ends here.
"""

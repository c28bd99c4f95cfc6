# SPDX-License-Identifier: Apache-2.0
"""A context in an asyncio loop: no thread, one descriptor.

    ctx = kubeedge.Context()
    aio.attach(ctx)
    item = await kubeedge.Store(ctx, folder).get("bucket", "key")

`async with kubeedge.Context() as ctx:` does the same and closes it. A callback that raises goes to the loop's
exception handler.
"""
from __future__ import annotations

import asyncio
from typing import Optional

from . import _const as c
from .context import Context
from .errors import StateError


def attach(context: Context, loop: Optional[asyncio.AbstractEventLoop] = None) -> None:
    """Lets the loop, by default the running one, drive the context. Call it on the loop's thread."""
    if context.threaded:
        raise StateError(c.KE_ESTATE, "the context has a thread of its own, which drives it")
    if context._asyncio is not None:
        raise StateError(c.KE_ESTATE, "the context is attached to a loop already")
    context._attach(loop if loop is not None else asyncio.get_running_loop())


def detach(context: Context) -> None:
    """The loop drives it no more. close() does this too."""
    context._detach()

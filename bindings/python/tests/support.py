# SPDX-License-Identifier: Apache-2.0
"""Waiting, for tests. A deadline here is a net for hangs, not a bound that a test relies on."""
import gc
import threading
import time

PATIENCE = 60.0


class Collector(list):
    """A list that callbacks append to and tests wait on. It collects garbage at every call, so that what only C
    still refers to is gone before it is used again."""

    def __init__(self):
        super().__init__()
        self.changed = threading.Condition()

    def __call__(self, *args):
        gc.collect()
        with self.changed:
            self.append(args[0] if len(args) == 1 else args)
            self.changed.notify_all()

    def until(self, ctx, condition):
        """Until condition(self): drives ctx, or waits beside its thread."""
        if ctx is None or ctx.threaded:
            with self.changed:
                assert self.changed.wait_for(lambda: condition(self), PATIENCE), f"only got {list(self)}"
            return
        end = time.monotonic() + PATIENCE
        while not condition(self):
            assert time.monotonic() < end, f"only got {list(self)}"
            ctx.wait(1000)
            ctx.dispatch()


def has(n):
    return lambda collected: len(collected) >= n

"""Writers, collections, stalls, kills, lost responses, retries and readers in any order: what was published last, and
what must be kept, is readable."""

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.stores.writers import FAULTS, Bench

INTERLEAVINGS = int(os.environ.get("DARTS_INTERLEAVINGS", "100"))


class Writers(RuleBasedStateMachine):
    """Up to four writers at a time, on a path or in an object store."""

    on_path: ClassVar[bool]
    has_grace: ClassVar[bool]

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp()) if self.on_path else None
        self.patch = pytest.MonkeyPatch()
        self.bench = Bench(self.folder, self.patch, self.has_grace)

    @precondition(lambda self: len(self.bench.active()) < 4)
    @rule(keeps=st.booleans())
    def begin(self, keeps: bool) -> None:
        self.bench.begin(keeps)

    @precondition(lambda self: len(self.bench.active()) < 4)
    @rule()
    def collect(self) -> None:
        self.bench.collect()

    @precondition(lambda self: self.bench.active())
    @rule(number=st.integers(0, 3), accesses=st.integers(1, 12), fault=st.sampled_from(FAULTS))
    def go_on(self, number: int, accesses: int, fault: str) -> None:
        active = self.bench.active()
        writer = active[number % len(active)]
        for n in range(accesses):
            if not writer.over:
                writer.go_on(fault if n == accesses - 1 else "none")
                self.bench.check()

    @precondition(lambda self: self.bench.late)
    @rule()
    def arrive(self) -> None:
        put = self.bench.late.pop(0)
        with suppress(Exception):  # the server may refuse it
            put()

    @invariant()
    def the_last_success_is_readable(self) -> None:
        if hasattr(self, "bench"):
            self.bench.check()

    def teardown(self) -> None:
        if hasattr(self, "bench"):
            try:
                self.bench.end()
            finally:
                self.patch.undo()
                if self.folder:
                    shutil.rmtree(self.folder)


@pytest.mark.parametrize("has_grace", [True, False], ids=["grace", "due at once"])
@pytest.mark.parametrize("on_path", [True, False], ids=["path", "object store"])
def test_any_interleaving(on_path: bool, has_grace: bool) -> None:
    machine = type("Writers", (Writers,), {"on_path": on_path, "has_grace": has_grace})
    limits = settings(
        max_examples=INTERLEAVINGS // 2, stateful_step_count=40, deadline=None, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=limits)

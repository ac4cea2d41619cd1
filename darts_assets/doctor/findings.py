"""Findings of checks, and the report of all findings."""

import json
from dataclasses import asdict, dataclass
from typing import Literal

from darts_assets.redaction import shown

Status = Literal["ok", "warn", "fail", "skipped"]

_MARKS: dict[Status, tuple[str, str]] = {
    "ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red"), "skipped": ("-", "dim"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Result of a check.

    Attributes:
        name: subject of the check.
        status: `fail` if the setup cannot work, `warn` if it may not.
        message: state or problem, without secrets.
        advice: how to solve the problem.
    """

    name: str
    status: Status
    message: str
    advice: str = ""

    def __post_init__(self) -> None:
        for name in ("message", "advice"):
            object.__setattr__(self, name, shown(getattr(self, name)))


@dataclass(frozen=True)
class Report:
    """All findings, without secrets."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether any check failed."""
        return any(finding.status == "fail" for finding in self.findings)

    def as_json(self) -> str:
        """JSON document with `ok` and `findings`."""
        document = {"ok": not self.failed, "findings": [asdict(finding) for finding in self.findings]}
        return json.dumps(document, indent=1)

    def show(self) -> None:
        """Print the findings as a table, and the number of failures and warnings."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(show_lines=False, box=None, pad_edge=False)
        for column in ("", "check", "result"):
            table.add_column(column, overflow="fold")
        for finding in self.findings:
            mark, style = _MARKS[finding.status]
            message = Text(finding.message)
            if finding.advice:
                message.append(f"\n{finding.advice}", style="italic")
            table.add_row(Text(mark, style=style), Text(finding.name), message)
        failing = sum(finding.status == "fail" for finding in self.findings)
        warnings = sum(finding.status == "warn" for finding in self.findings)
        console = Console(highlight=False)
        console.print(table)
        console.print(f"{failing} failed, {warnings} warnings, {len(self.findings)} checks")

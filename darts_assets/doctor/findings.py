"""What a check has found, and the report of all of them."""

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

Status = Literal["ok", "warn", "fail", "skipped"]

_SECRETS = (
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "DARTS_NOTIFY_WEBHOOK", "PGPASSWORD",
    "DAGSTER_PG_PASSWORD",
)  # fmt: skip
_USER_OF_URL = re.compile(r"(?<=://)[^/@\s]+@")
_MARKS: dict[Status, tuple[str, str]] = {
    "ok": ("ok", "green"), "warn": ("warn", "yellow"), "fail": ("FAIL", "bold red"), "skipped": ("-", "dim"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """What a check has found.

    Attributes:
        name: what was looked at.
        status: `fail` where something that the settings ask for cannot work, `warn` where it may not.
        said: what there is, or what is wrong.
        advice: what to do about it.
    """

    name: str
    status: Status
    said: str
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """All findings, with nothing secret in them."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether something cannot work."""
        return any(finding.status == "fail" for finding in self.findings)

    def as_json(self) -> str:
        """A document with `ok` and `findings`."""
        document = {"ok": not self.failed, "findings": [asdict(finding) for finding in self.findings]}
        return json.dumps(document, indent=1)

    def show(self) -> None:
        """Print a table, and in how many cases there is something to do."""
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(show_lines=False, box=None, pad_edge=False)
        for column in ("", "what", "found"):
            table.add_column(column, overflow="fold")
        for finding in self.findings:
            mark, style = _MARKS[finding.status]
            said = Text(finding.said)
            if finding.advice:
                said.append(f"\n{finding.advice}", style="italic")
            table.add_row(Text(mark, style=style), Text(finding.name), said)
        failing = sum(finding.status == "fail" for finding in self.findings)
        warnings = sum(finding.status == "warn" for finding in self.findings)
        console = Console(highlight=False)
        console.print(table)
        console.print(f"{failing} failing, {warnings} to look at, of {len(self.findings)}")


def without_secrets(findings: Sequence[Finding]) -> Iterator[Finding]:
    """The same findings; keys, and users in URLs, that some message has repeated are struck out."""
    secrets = [value for name in _SECRETS if len(value := os.environ.get(name, "")) > 3]

    def clean(text: str) -> str:
        for secret in secrets:
            text = text.replace(secret, "***")
        return _USER_OF_URL.sub("***@", text)

    for finding in findings:
        yield replace(finding, said=clean(finding.said), advice=clean(finding.advice))

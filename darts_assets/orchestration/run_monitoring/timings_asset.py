"""`runs/timings`: what the steps of runs have cost, as a table, a summary and a chart."""

import datetime as dt
import hashlib
import io
from typing import TYPE_CHECKING, Any

import dagster as dg
import obstore
from pydantic import Field

from darts_assets.errors import SettingsError
from darts_assets.orchestration.core.error_handling import domain_call
from darts_assets.orchestration.core.metadata import as_metadata, image_link, provenance
from darts_assets.orchestration.core.partitions import OWNER
from darts_assets.orchestration.core.resources import Store
from darts_assets.orchestration.core.step_metrics import measured
from darts_assets.orchestration.run_monitoring.event_log import RunChoice, finished_runs, step_rows

if TYPE_CHECKING:
    import pandas as pd
    from PIL.Image import Image

CODE_VERSION = "1"

TIMINGS = dg.AssetKey(["runs", "timings"])
_SHOWN = 50  # failures in the event log; the table in the store has all
_COLORS = 128  # of the chart in the event log


class TimingsConfig(dg.Config):
    """Which runs, of those that have ended, and which of their assets."""

    runs: list[str] = Field(default=[], description="Ids of runs.")
    backfill: str = Field(default="", description="Id of the backfill that has asked for them.")
    since: str = Field(default="", description="When they were created, such as 2026-07-01 or 2026-07-01T12:00 (UTC).")
    until: str = Field(default="", description="The same; a day counts to its end.")
    days: float = Field(default=7.0, description="Where nothing of the above is given: those of so many days.")
    assets: list[str] = Field(default=[], description="Only these: sentinel2/segmentation, or sentinel2 for all of it.")
    max_runs: int = Field(default=1000, ge=1, description="The newest of them, at most; the rest is left out.")

    def choice(self) -> RunChoice:
        """Which runs.

        Raises:
            SettingsError: if a time is none.
        """
        since, until = _time("since", self.since), _time("until", self.until)
        if until and len(self.until) <= len("2026-07-01"):
            until += dt.timedelta(days=1)
        if not (self.runs or self.backfill or since or until):
            since = dt.datetime.now(dt.UTC) - dt.timedelta(days=self.days)
        return RunChoice(tuple(self.runs), self.backfill or None, since, until)

    def wants(self, asset: str) -> bool:
        """Whether an asset, by its key, is wanted."""
        wanted = (name.strip("/") for name in self.assets)
        return not self.assets or any(asset == name or asset.startswith(f"{name}/") for name in wanted)


@dg.asset(
    key=TIMINGS,
    group_name=TIMINGS.path[0],
    owners=[OWNER],
    kinds={"parquet"},
    code_version=CODE_VERSION,
    description="Seconds, memory and bytes of each step of each scene, results and errors, over a choice of runs.",
)
@measured
def run_timings(context: dg.AssetExecutionContext, config: TimingsConfig, store: Store) -> dg.MaterializeResult[None]:
    """Read the event log, write the table, show its summary."""
    with domain_call(context.log):
        from darts_assets.timings import as_markdown, chart, steps_table, summary

        runs = list(finished_runs(context.instance, config.choice(), config.max_runs + 1))
        if len(runs) > config.max_runs:
            context.log.warning(f"there are more than {config.max_runs} runs (max_runs); the older ones are left out")
            runs.pop()
        own = TIMINGS.to_user_string()
        steps = steps_table(
            row
            for run in runs
            for row in step_rows(context.instance, run)
            if row["asset"] != own and config.wants(row["asset"])
        )
        drawn, summed = chart(steps), summary(steps)
        folder = _publish(store, steps, drawn)
    counts = {name: int((steps["result"] == name).sum()) for name in ("ok", "failed", "skipped")}
    context.log.info(f"{len(runs)} runs, {len(steps)} steps: {counts}")
    digest = hashlib.sha256(" ".join(sorted(run.run_id for run in runs)).encode()).hexdigest()[:16]
    facts = provenance(CODE_VERSION, config.model_dump(), runs=digest)
    said: dict[str, Any] = {
        "path": dg.MetadataValue.path(folder),
        "runs": len(runs),
        "steps": len(steps),
        **counts,
        "summary": dg.MetadataValue.md(as_markdown(summed) if len(summed) else "no step of these runs has ended"),
        **({"chart": dg.MetadataValue.md(_small(drawn))} if drawn else {}),
        **({"failures": _failures(steps)} if counts["failed"] else {}),
        "provenance": facts,
    }
    return dg.MaterializeResult(metadata=as_metadata(said), data_version=dg.DataVersion(facts["data_version"]))


def _time(name: str, value: str) -> dt.datetime | None:
    try:
        time = dt.datetime.fromisoformat(value) if value else None
    except ValueError:
        raise SettingsError(f"{name} is {value!r}; a day or a time such as 2026-07-01T12:00 was expected") from None
    return time.replace(tzinfo=dt.UTC) if time and time.tzinfo is None else time


def _publish(store: Store, steps: "pd.DataFrame", drawn: "Image | None") -> str:
    """Write table and chart into a new version of `runs/timings`; returns its folder."""
    place = store.place(*TIMINGS.path)
    files = {"timings.parquet": io.BytesIO()}
    steps.to_parquet(files["timings.parquet"], index=False)
    if drawn:
        files["timings.png"] = io.BytesIO()
        drawn.save(files["timings.png"], "png", optimize=True)
    with place.new_version() as version:
        for name, content in files.items():
            obstore.put(version.location.objects(), name, content.getvalue())
        place.publish(version, dict.fromkeys(files, version.id), {})
    return version.location.url


def _small(drawn: "Image") -> str:
    """The chart in few colours: it is kept in the event log."""
    return image_link(drawn.quantize(_COLORS), optimize=True)


def _failures(steps: "pd.DataFrame") -> dg.MetadataValue[Any]:
    failed = steps[steps["result"] == "failed"].tail(_SHOWN).iloc[::-1]
    columns = ["asset", "scene", "error", "run_id"]
    return dg.MetadataValue.table(
        [
            dg.TableRecord({str(name): str(value) for name, value in row.items()})
            for row in failed[columns].fillna("").to_dict("records")
        ]
    )

"""Commands for people who look at results: `map-server` and `review`."""

from pathlib import Path

import click

from darts_assets.errors import DartsError

_HOST = click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
_PORT = click.option("--port", default=8642, show_default=True, type=click.IntRange(0, 65535), help="0: a free port.")


@click.command("map-server")
@_HOST
@_PORT
def map_server(host: str, port: int) -> None:
    """Serve the map of the store of DARTS_STORE, read-only, until Ctrl-C.

    Any web server that serves the folders catalog, inventory, products and scenes of the store does the same.
    """
    _serve(host, port, token=None)


@click.command()
@_HOST
@_PORT
@click.option(
    "--import", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Append the verdicts of a file that the page has exported, or of a filled in to_review.gpkg, and end. "
    "Repeatable.",
)  # fmt: skip
@click.option("--report", is_flag=True, help="Print the precision of the inventory from the verdicts, and end.")
@click.option(
    "--precision", default=0.9, show_default=True, type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="Precision for which the report searches the threshold.",
)  # fmt: skip
def review(host: str, port: int, files: tuple[Path, ...], report: bool, precision: float) -> None:
    """Serve the map of the store of DARTS_STORE with its review, until Ctrl-C.

    Opens for reviewers with the printed URL, which contains a token: keep it secret. Verdicts are stored in the folder
    review/verdicts of the store. The connection is not encrypted: beyond this computer, use a proxy with HTTPS.
    """
    if files:
        _import(files)
    if report:
        _report(precision)
    if files or report:
        return
    from darts_assets.review.map_server import checked_token, new_token
    from darts_assets.review.verdict_store import AllVerdicts
    from darts_assets.settings import settings

    try:
        current = settings()
        token = checked_token(current.review_token.get_secret_value()) if current.review_token else new_token()
        AllVerdicts(current.root).compact()
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    _serve(host, port, token)


def _import(files: tuple[Path, ...]) -> None:
    from darts_assets.review.point_forms import is_form, read_form
    from darts_assets.review.verdict_record import parsed_export
    from darts_assets.review.verdict_store import AllVerdicts
    from darts_assets.settings import settings

    try:
        store = AllVerdicts(settings().root)
        every = {
            path: read_form(path, store.verdicts()) if is_form(path) else parsed_export(path.read_bytes(), str(path))
            for path in files
        }
        for path, verdicts in every.items():
            stored = store.append(verdicts)
            click.echo(f"{path}: {len(verdicts)} verdicts, {stored} of them new")
        store.compact()
    except (DartsError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _report(wanted: float) -> None:
    from darts_assets.inventory.site_parameters import FollowParameters
    from darts_assets.review.judgement import judge, verdict_table
    from darts_assets.review.precision import as_text, precision_report
    from darts_assets.review.precision_parameters import PrecisionParameters
    from darts_assets.review.verdict_store import read_verdicts
    from darts_assets.settings import settings
    from darts_assets.stores.store_layout import slumps_place
    from darts_assets.stores.vectors import read_table

    try:
        root = settings().root
        place = slumps_place(root)
        manifest = place.manifest()
        if manifest is None:
            raise click.ClickException(f"{root} has no slumps: materialize the group inventory first")
        least = manifest.metadata["provenance"]["parameters"]["min_overlap"]
        verdicts = verdict_table(read_verdicts(root))
        judged = judge(read_table(place, manifest, "rts_sites"), verdicts, FollowParameters(**{"min_overlap": least}))
        parameters = PrecisionParameters(wanted_precision=wanted)
        click.echo(as_text(precision_report(judged, parameters), wanted))
    except DartsError as error:
        raise click.ClickException(str(error)) from error


def _serve(host: str, port: int, token: str | None) -> None:
    from darts_assets.review.map_server import PAGE, has_page, is_loopback, listening, map_application, serve, url_of
    from darts_assets.settings import settings

    try:
        root = settings().root
        application = map_application(root, token=token, loopback=is_loopback(host))
        if not has_page(root):
            click.echo(f"{root} has no map yet: materialize the asset catalog/map", err=True)
        bound = listening(host, port)
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    with bound:
        click.echo(f"{url_of(bound)}{PAGE}{f'?review#token={token}' if token else ''}")
        serve(application, bound)

"""Commands for the published catalog: `stac-ndjson`."""

from pathlib import Path

import click

from darts_assets.errors import DartsError


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--url", help="URL of the folders of the store. Default: DARTS_FILES_URL, or the store's own path or URL."
)
def stac_ndjson(folder: Path, url: str | None) -> None:
    """Write the STAC catalog to FOLDER for a STAC API: collections.ndjson and items.ndjson, with absolute hrefs.

    `pypgstac load` reads both files.
    """
    from darts_assets.catalog.stac_ndjson import write_ndjson
    from darts_assets.settings import settings

    current = settings()
    own = str(current.root.path) if current.root.is_local else current.root.url
    try:
        counts = write_ndjson(current.root, folder, url or current.files_url or own)
    except DartsError as error:
        raise click.ClickException(str(error)) from error
    for name, count in counts.items():
        click.echo(f"{name}: {count} items")

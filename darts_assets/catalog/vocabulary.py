"""What all documents of the STAC tree share: versions, extensions, links, names for contents."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import pystac

STAC_VERSION = "1.1.0"
_SCHEMAS = "https://stac-extensions.github.io/{}/schema.json"
PROJECTION = _SCHEMAS.format("projection/v2.0.0")
RASTER = _SCHEMAS.format("raster/v2.0.0")
TABLE = _SCHEMAS.format("table/v1.2.0")
PROCESSING = _SCHEMAS.format("processing/v1.2.0")
MLM = _SCHEMAS.format("mlm/v1.4.0")

PARQUET = "application/vnd.apache.parquet"
GEOPACKAGE = "application/geopackage+sqlite3"


def link(rel: str, href: str, media: str = pystac.MediaType.JSON, **more: Any) -> dict[str, Any]:
    """A STAC link."""
    return {"rel": rel, "href": href, "type": str(media), **more}


def digest(document: Mapping[str, Any]) -> str:
    """What names a version of a document: the same content, the same name."""
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]

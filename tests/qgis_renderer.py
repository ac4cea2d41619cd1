"""Renders files by QGIS as it shows them after a double click; run by the interpreter that has `qgis.core`.

`python3 qgis_renderer.py FOLDER EXTENT SIDE BACKGROUND FILE...` writes `FOLDER/NAME.png` of the extent
(XMIN,YMIN,XMAX,YMAX) for each file, and the types of the renderers as JSON to stdout.
"""

import json
import sys
from pathlib import Path

from qgis.core import (  # type: ignore[import-not-found]
    QgsApplication,
    QgsMapRendererParallelJob,
    QgsMapSettings,
    QgsRasterLayer,
    QgsRectangle,
    QgsVectorLayer,
)
from qgis.PyQt.QtCore import QSize  # type: ignore[import-not-found]
from qgis.PyQt.QtGui import QColor  # type: ignore[import-not-found]


def render(file: Path, extent: QgsRectangle, side: int, background: str, picture: Path) -> str:
    """Write a picture of a layer with its default style; returns the type of its renderer."""
    layer = QgsRasterLayer(str(file)) if file.suffix == ".tif" else QgsVectorLayer(str(file), file.stem, "ogr")
    assert layer.isValid(), file
    settings = QgsMapSettings()
    settings.setLayers([layer])
    settings.setDestinationCrs(layer.crs())
    settings.setBackgroundColor(QColor(background))
    settings.setOutputSize(QSize(side, side))
    settings.setExtent(extent)
    job = QgsMapRendererParallelJob(settings)
    job.start()
    job.waitForFinished()
    job.renderedImage().save(str(picture))
    return str(layer.renderer().type())


if __name__ == "__main__":
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    folder, extent = Path(sys.argv[1]), QgsRectangle(*map(float, sys.argv[2].split(",")))
    side, background = int(sys.argv[3]), sys.argv[4]
    kinds = {}
    for file in map(Path, sys.argv[5:]):
        kinds[file.name] = render(file, extent, side, background, folder / f"{file.name}.png")
    print(json.dumps(kinds))
    application.exitQgis()

"""Opens a project by QGIS; run by the interpreter that has `qgis.core`.

`python3 qgis_project_reader.py PROJECT` prints as JSON, for each layer: its group, name, whether it is valid, number
of features (or bands), type of the renderer, CRS and whether it is shown.
"""

import json
import sys

from qgis.core import QgsApplication, QgsProject, QgsVectorLayer  # type: ignore[import-not-found]

if __name__ == "__main__":
    QgsApplication.setPrefixPath("/usr", True)
    application = QgsApplication([], False)
    application.initQgis()
    project = QgsProject.instance()
    assert project.read(sys.argv[1]), project.error()
    layers = []
    for node in project.layerTreeRoot().findLayers():
        layer = node.layer()
        is_vector = isinstance(layer, QgsVectorLayer)
        layers.append(
            {
                "group": node.parent().name(),
                "name": layer.name(),
                "valid": layer.isValid(),
                "size": layer.featureCount() if is_vector else layer.bandCount(),
                "renderer": layer.renderer().type(),
                "crs": layer.crs().authid(),
                "shown": node.isVisible(),
            }
        )
    print(json.dumps({"crs": project.crs().authid(), "layers": layers}))
    project.clear()
    application.exitQgis()

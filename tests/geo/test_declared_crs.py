import pytest
from pyproj import CRS

from darts_assets.geo.declared_crs import declared_crs

WITHOUT_ID = {key: value for key, value in CRS("EPSG:32608").to_json_dict().items() if key != "id"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("proj:code", "EPSG:32608"),
        ("proj:code", "epsg:32608"),
        ("proj:code", "urn:ogc:def:crs:EPSG::32608"),
        ("proj:code", "urn:ogc:def:crs:EPSG:9.8.6:32608"),
        ("proj:code", "http://www.opengis.net/def/crs/EPSG/0/32608"),
        ("proj:epsg", 32608),
        ("proj:epsg", 32608.0),
        ("proj:epsg", "32608"),
        ("proj:projjson", CRS("EPSG:32608").to_json_dict()),
        ("proj:projjson", WITHOUT_ID),
        ("proj:wkt2", CRS("EPSG:32608").to_wkt()),
    ],
)
def test_codes(field, value):
    assert declared_crs({field: value}) == "EPSG:32608"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"proj:code": None, "proj:epsg": None}, None),
        ({"proj:code": None, "proj:epsg": 32608.0}, "EPSG:32608"),
        ({"proj:code": "EPSG:32607", "proj:epsg": 32608}, "EPSG:32607"),
        ({"proj:code": "IAU_2015:30100"}, "IAU_2015:30100"),
        ({"proj:epsg": float("nan")}, "nan"),
        ({"proj:epsg": 32608.5}, "32608.5"),
        ({"proj:projjson": {"type": "nonsense"}}, "{'type': 'nonsense'}"),
        ({"proj:wkt2": "nonsense"}, "nonsense"),
    ],
)
def test_order_and_other_values(fields, expected):
    assert declared_crs(fields) == expected

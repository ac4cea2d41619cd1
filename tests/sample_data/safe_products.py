"""Sentinel-2 L2A products in the SAFE format, small, with known pixels: folders, zip archives, and their files."""

import hashlib
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rasterio

from tests.servers.s3.eodata import EPSG, LEFT, TOP, raster

PRODUCT = "S2A_MSIL2A_20230615T210021_N0509_R100_T08WNB_20230616T001122"
GRANULE = "L2A_T08WNB_A041700_20230615T210021"
STEM = "T08WNB_20230615T210021"
SIDE = 240
"""Rows and columns of the bands with 10 m."""

RESOLUTIONS = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B05": 20, "SCL": 20, "B09": 60}
NAMES = {
    "blue": "B02", "green": "B03", "red": "B04", "nir": "B08", "rededge071": "B05", "s2_scl": "SCL", "nir09": "B09",
}  # fmt: skip

_NAMESPACE = "https://psd-14.sentinel2.eo.esa.int/PSD"


def band_path(band: str) -> str:
    """Path of a band's file in the product."""
    resolution = RESOLUTIONS[band]
    return f"GRANULE/{GRANULE}/IMG_DATA/R{resolution}m/{STEM}_{band}_{resolution}m.jp2"


def pixels(seed: int = 7) -> dict[str, np.ndarray]:
    """Digital numbers of each band, by its name in files."""
    random = np.random.default_rng(seed)
    values = {}
    for band, resolution in RESOLUTIONS.items():
        shape = (SIDE * 10 // resolution,) * 2
        high, dtype = (12, np.uint8) if band == "SCL" else (12000, np.uint16)
        values[band] = random.integers(1, high, shape).astype(dtype)
    return values


def product_xml(product: str = PRODUCT, *, offsets: Mapping[int, int] | None = None, level: str = "Level-2A") -> str:
    """`MTD_MSIL2A.xml` with what real ones have; `offsets`: id of the band -> BOA_ADD_OFFSET."""
    offsets = dict.fromkeys(range(13), -1000) if offsets is None else offsets
    listed = "".join(f'<BOA_ADD_OFFSET band_id="{band}">{value}</BOA_ADD_OFFSET>' for band, value in offsets.items())
    files = "".join(f"<IMAGE_FILE>{band_path(band).removesuffix('.jp2')}</IMAGE_FILE>" for band in RESOLUTIONS)
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_User_Product xmlns:n1="{_NAMESPACE}/User_Product_Level-2A.xsd"><n1:General_Info><Product_Info>
<PRODUCT_START_TIME>2023-06-15T21:00:21.024Z</PRODUCT_START_TIME>
<PRODUCT_URI>{product}.SAFE</PRODUCT_URI><PROCESSING_LEVEL>{level}</PROCESSING_LEVEL>
<PRODUCT_TYPE>S2MSI2A</PRODUCT_TYPE><PROCESSING_BASELINE>05.09</PROCESSING_BASELINE>
<GENERATION_TIME>2023-06-16T00:11:22.000000Z</GENERATION_TIME>
<Datatake datatakeIdentifier="GS2A_20230615T210021_041700_N05.09"><SPACECRAFT_NAME>Sentinel-2A</SPACECRAFT_NAME>
<SENSING_ORBIT_NUMBER>100</SENSING_ORBIT_NUMBER></Datatake>
<Product_Organisation><Granule_List><Granule imageFormat="JPEG2000">{files}</Granule></Granule_List>
</Product_Organisation></Product_Info><Product_Image_Characteristics><QUANTIFICATION_VALUES_LIST>
<BOA_QUANTIFICATION_VALUE unit="none">10000</BOA_QUANTIFICATION_VALUE></QUANTIFICATION_VALUES_LIST>
<BOA_ADD_OFFSET_VALUES_LIST>{listed}</BOA_ADD_OFFSET_VALUES_LIST>
</Product_Image_Characteristics></n1:General_Info>
<n1:Geometric_Info><Product_Footprint><Product_Footprint><Global_Footprint>
<EXT_POS_LIST>67.6 -135 67.6 -134.94 67.58 -134.94 67.58 -135 67.6 -135 </EXT_POS_LIST>
</Global_Footprint></Product_Footprint></Product_Footprint></n1:Geometric_Info>
<n1:Quality_Indicators_Info><Cloud_Coverage_Assessment>3.5</Cloud_Coverage_Assessment>
<Image_Content_QI><SNOW_ICE_PERCENTAGE>1.25</SNOW_ICE_PERCENTAGE></Image_Content_QI></n1:Quality_Indicators_Info>
</n1:Level-2A_User_Product>"""


def tile_xml(
    epsg: int = EPSG, left: float = LEFT, top: float = TOP, side: int = SIDE, sun: tuple[float, float] = (170.5, 44.25)
) -> str:
    """`MTD_TL.xml` with what real ones have; `sun`: azimuth and elevation, degrees."""
    sizes = "".join(
        f'<Size resolution="{res}"><NROWS>{side * 10 // res}</NROWS><NCOLS>{side * 10 // res}</NCOLS></Size>'
        f'<Geoposition resolution="{res}"><ULX>{left}</ULX><ULY>{top}</ULY><XDIM>{res}</XDIM><YDIM>-{res}</YDIM>'
        "</Geoposition>"
        for res in (10, 20, 60)
    )
    return f"""<?xml version="1.0" encoding="UTF-8" standalone="no"?>
<n1:Level-2A_Tile_ID xmlns:n1="{_NAMESPACE}/S2_PDI_Level-2A_Tile_Metadata.xsd"><n1:General_Info>
<TILE_ID metadataLevel="Brief">S2A_OPER_MSI_L2A_TL_2APS_20230616T001122_A041700_T08WNB_N05.09</TILE_ID>
<DATASTRIP_ID metadataLevel="Standard">S2A_OPER_MSI_L2A_DS_2APS_20230616T001122_S20230615T210024_N05.09</DATASTRIP_ID>
</n1:General_Info><n1:Geometric_Info><Tile_Geocoding metadataLevel="Brief">
<HORIZONTAL_CS_CODE>EPSG:{epsg}</HORIZONTAL_CS_CODE>{sizes}</Tile_Geocoding>
<Tile_Angles><Mean_Sun_Angle><ZENITH_ANGLE unit="deg">{90 - sun[1]}</ZENITH_ANGLE>
<AZIMUTH_ANGLE unit="deg">{sun[0]}</AZIMUTH_ANGLE></Mean_Sun_Angle></Tile_Angles></n1:Geometric_Info>
</n1:Level-2A_Tile_ID>"""


def converted(item: Mapping[str, Any]) -> dict[str, bytes]:
    """The files of a product with the pixels of an item in CDSE's layout, whose files are on a disk."""
    files, sun = {}, (item["properties"]["view:sun_azimuth"], item["properties"]["view:sun_elevation"])
    for key, asset in item["assets"].items():
        band, _, resolution = key.partition("_")
        if (band, resolution) not in {(name, f"{res}m") for name, res in RESOLUTIONS.items()}:
            continue
        with rasterio.open(asset["href"]) as file:
            files[band_path(band)] = raster(
                file.read(1), file.res[0], "JP2OpenJPEG", crs=file.crs, transform=file.transform
            )
            if band == "B02":
                tile = tile_xml(file.crs.to_epsg(), file.transform.c, file.transform.f, file.width, sun)
    files["MTD_MSIL2A.xml"] = product_xml(item["id"]).encode()
    files[f"GRANULE/{GRANULE}/MTD_TL.xml"] = tile.encode()
    return files


def manifest(files: Mapping[str, bytes]) -> str:
    """`manifest.safe` with the checksums of files."""
    streams = "".join(
        f'<byteStream size="{len(content)}"><fileLocation href="./{path}" locatorType="URL"/>'
        f'<checksum checksumName="SHA3-256">{hashlib.sha3_256(content).hexdigest().upper()}</checksum></byteStream>'
        for path, content in files.items()
    )
    return f'<xfdu:XFDU xmlns:xfdu="urn:ccsds:schema:xfdu:1">{streams}</xfdu:XFDU>'


def product_files(
    values: Mapping[str, np.ndarray], *, product: str = PRODUCT, with_manifest: bool = True, **xml: object
) -> dict[str, bytes]:
    """Path in the product -> content, of all files."""
    bands = {band_path(band): raster(numbers, RESOLUTIONS[band], "JP2OpenJPEG") for band, numbers in values.items()}
    metadata = {
        "MTD_MSIL2A.xml": product_xml(product, **xml).encode(),  # type: ignore[arg-type]
        f"GRANULE/{GRANULE}/MTD_TL.xml": tile_xml().encode(),
        "INSPIRE.xml": b"<nothing/>",
    }
    files = bands | metadata
    return files | ({"manifest.safe": manifest(files).encode()} if with_manifest else {})


def write_folder(parent: Path, files: Mapping[str, bytes], product: str = PRODUCT) -> Path:
    """Write a product as a folder; returns it."""
    folder = parent / f"{product}.SAFE"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return folder


def write_zip(
    path: Path,
    files: Mapping[str, bytes],
    product: str = PRODUCT,
    *,
    compression: int = zipfile.ZIP_STORED,
    others: Iterable[tuple[str, bytes]] = (),
) -> Path:
    """Write a product as a zip archive, with other files beside it; returns the path."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(f"{product}.SAFE/{name}", content)
        for name, content in others:
            archive.writestr(name, content)
    return path

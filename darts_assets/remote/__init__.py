"""Everything that crosses a network: retries, HTTP and S3 byte readers, API and STAC clients, GDAL options."""

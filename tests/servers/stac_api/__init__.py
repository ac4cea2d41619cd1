"""A STAC API (stac-fastapi on PgSTAC), with synthetic catalogs."""

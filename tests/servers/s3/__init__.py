"""S3 servers, and scenes in the layout of CDSE's bucket."""

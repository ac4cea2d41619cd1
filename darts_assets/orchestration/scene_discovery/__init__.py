"""Jobs and sensors that find scenes and register them as partitions."""

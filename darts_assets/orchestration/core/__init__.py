"""What all slices of the asset graph share: partitions, resources, IO managers, executors, metadata."""

"""A Kubernetes API that runs pods as local processes."""

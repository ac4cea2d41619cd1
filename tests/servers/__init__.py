"""Local servers that stand for the services which the pipeline uses."""

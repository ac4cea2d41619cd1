"""`darts-assets metrics-server`: metrics for Prometheus."""

import os

import click


@click.command("metrics-server")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=9090, show_default=True, help="Port to listen on.")
def metrics_server(host: str, port: int) -> None:
    """Serve metrics of the Dagster instance in DAGSTER_HOME at /metrics: queue, runs, steps, GPU seconds, pools."""
    import dagster as dg

    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise click.ClickException("prometheus-client is missing: pip install 'darts_assets[cluster]'") from None
    from darts_assets.orchestration.run_monitoring.run_metrics import RunMetrics

    if not os.environ.get("DAGSTER_HOME"):
        raise click.ClickException("DAGSTER_HOME is not set: set it to the folder of the Dagster instance")
    with dg.DagsterInstance.get() as instance:
        registry = CollectorRegistry()
        registry.register(RunMetrics(instance))
        server, thread = start_http_server(port, host, registry)
        click.echo(f"metrics at http://{host}:{server.server_port}/metrics")
        thread.join()

import exporter  # noqa: F401 - first: it switches off the telemetry of what tests import

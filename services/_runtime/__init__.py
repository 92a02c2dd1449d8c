"""What every service stands on: bus, worker, journal, telemetry, settings, errors. One file a noun."""

"""The HTTP process beside the data process: metrics, health, status.  It renders; it counts nothing itself."""

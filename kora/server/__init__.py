"""asyncio: sockets, workers, and the feed to the sidecar.  The only floor that waits."""

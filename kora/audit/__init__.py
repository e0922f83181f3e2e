"""The audit log as both processes and the tools know it: what waits to be written, a record's line, and the files."""

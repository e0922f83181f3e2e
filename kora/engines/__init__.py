"""Storage engines: where data is kept that does not fit into memory.  None is loaded unless it is asked for."""

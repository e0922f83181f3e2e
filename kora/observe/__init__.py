"""What is counted, kept and merged.  Nothing here reads a clock: times come in as arguments."""

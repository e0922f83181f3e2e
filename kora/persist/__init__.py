"""What outlives the process: snapshot files, the journal, and how both are read again."""

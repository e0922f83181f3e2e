"""Values that Python lacks, and numbers as Redis reads and writes them."""

"""The engine over RocksDB: the store, what writes changes to it, and what a server does at its start and its end."""

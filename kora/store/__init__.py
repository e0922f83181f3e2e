"""Where keys live: slots, tables, keyspaces, and the shards that own ranges of slots."""

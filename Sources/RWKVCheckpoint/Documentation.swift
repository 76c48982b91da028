// This target has no code. Its catalogue documents the product RWKVCheckpoint, whose modules are imported one by one.

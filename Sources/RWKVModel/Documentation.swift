// This target has no code. Its catalogue documents the product RWKVModel, whose modules are imported one by one.

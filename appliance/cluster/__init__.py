"""Several nodes that share one key-value store: membership, refill, shared credentials."""

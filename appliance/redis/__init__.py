"""What the key-value store and the pubsub on Redis share."""

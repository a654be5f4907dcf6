"""A start after an end: snapshot, restore, rebuild of reducers, periodic upkeep."""

"""Start and end of the process: port, signals, workers. Needs no desktop."""

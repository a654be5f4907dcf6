"""What a class is doing: open or paused, messages, and which classes the roster has."""

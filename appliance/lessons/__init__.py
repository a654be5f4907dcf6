"""The state of classes: open or paused, messages to students, and the classes that the roster has."""

"""Classroom Observer: students' browsers stream events in, educators' dashboards show what changed."""

__version__ = "0.1.0"

"""Measurements: this server compared with a bare one, under the same load. ``make bench`` runs them."""

"""Measurements: this server beside a bare one, under one load generator. ``make bench`` runs them."""

"""This computer's addresses as they change, and its name in the local network."""

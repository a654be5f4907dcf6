"""This computer's addresses as they change, and its host name in the local network."""

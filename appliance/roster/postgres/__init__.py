"""The PostgreSQL roster: the tables of the roster on a server, which several nodes may share."""

from appliance.roster.postgres.store import PostgresStore

__all__ = ("PostgresStore",)

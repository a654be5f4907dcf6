"""The pubsub over a school's XMPP server (XEP-0060): a topic is a node that only the appliances' accounts may use.

`address.py` reads the URL and names nodes, `stanzas.py` writes and reads XML, `outbox.py` and `inbox.py` keep what
waits to be confirmed and tell what was missed: none of them does I/O. `connection.py` holds the one connection,
`reasons.py` says in a sentence why it fails, `backend.py` puts them together.
"""

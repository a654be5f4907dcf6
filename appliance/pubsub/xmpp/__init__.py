"""The pubsub over a school's XMPP server (XEP-0060): a topic is a node that only the appliances' accounts may use.

Without I/O: `url.py` parses the URL, `stanzas.py` writes and reads XML, `outbox.py` keeps what waits to be confirmed,
`inbox.py` finds what was missed, `reasons.py` has a sentence for each failure. `connection.py` holds the one
connection; on it `nodes.py` makes the nodes of topics, `subscriptions.py` keeps subscriptions and `sender.py`
publishes. `backend.py` puts them together.
"""

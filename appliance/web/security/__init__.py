"""Who may do what over HTTP: sessions, hosts, origins, limits on connections."""

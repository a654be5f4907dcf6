"""OneRoster 1.1 and 1.2 as CSV: the tables, a reader, a validator and a writer.

Nothing here knows the program's own roster, its web pages or its configuration: all is about files. The sources are
1EdTech's OneRoster CSV Tables 1.1.1 and OneRoster CSV Binding 1.2.1 (both of 22 August 2023).
"""

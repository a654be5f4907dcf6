"""Recovery: a start after an end.

==================  =========================================================================
module              job
==================  =========================================================================
``start``           fills the in-memory store from a snapshot and the archive; saves snapshots
``snapshot``        the files of a snapshot
``snapshot_writer`` writes them: all of the store, then what changed
``rebuild``         computes the states of single reducers again, beside live events
``upkeep``          what is done periodically while the appliance runs
``retention``       deletes old days of the archive
``stored_files``    backup, verify and erase of snapshots
==================  =========================================================================
"""

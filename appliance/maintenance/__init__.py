"""What IT staff run on a data folder or a store: check, verify, backup, restore, erase, migrate, upgrade."""

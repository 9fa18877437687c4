"""What the sweeps convert: one file for each collection, with a list `ENTRIES`."""

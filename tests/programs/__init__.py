"""Random programs of several sessions that write, run with the hook and without."""

"""Many builds on many kinds of machine: what is asked for, where it may run, what it says."""

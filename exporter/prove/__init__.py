"""Whether an engine is what it should be: its fusion receipt, its parity, its drift."""

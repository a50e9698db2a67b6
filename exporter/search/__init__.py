"""Mixed precision by measurement: which blocks of an INT8 engine stay in float to keep a budget."""

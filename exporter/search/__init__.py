"""Mixed precision by measurement: which blocks of an INT8 engine stay in FP32 to keep a budget."""

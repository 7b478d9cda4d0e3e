"""Uploaded files, and batches of requests that are answered from one file into another. No HTTP, no engine.

Rows are in SQLite, contents in plain files beside it (see ``storage``). A batch's answers are appended to the file
that will be its output (see ``journal``): after any end of the process what stands there is done, and the rest is
run again.
"""

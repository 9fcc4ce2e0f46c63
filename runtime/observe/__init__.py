"""Looking at a running server: metrics and logs.  Imported by the server; imports nothing of ours but types."""

"""Charts of the report: pure functions from tidy frames to Altair charts."""

"""Charts of fits, for pages and notebooks; the only part of the package that needs altair and polars."""

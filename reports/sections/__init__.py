"""Sections of the study page: pure functions from what a study holds to blocks of a page."""

"""Searchers: ask/tell proposals, and the guidance that zero-cost scores give them."""

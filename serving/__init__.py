"""Exports, checks and asks SavedModels. A leaf: it imports none of our other packages and runs without them."""
